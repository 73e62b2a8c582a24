//! The rules of the wire, each a test by name, with its source.
//!
//! A rule is a function over any [`Subject`](super::Subject). [`wire_rows`](crate::wire_rows)
//! names them all, so that no place that runs them can leave one out.

mod arp;
mod claims;
mod lease;
mod nd;
mod nd_invalid;
mod probe;
mod probe_lease;
mod records;
mod scene;
mod vlan;

pub use arp::*;
pub use claims::*;
pub use lease::*;
pub use nd::*;
pub use nd_invalid::*;
pub use probe::*;
pub use probe_lease::*;
pub use records::*;
pub use vlan::*;

/// Calls a macro with the names of all rules.
#[macro_export]
macro_rules! wire_rows {
    ($run:ident) => {
        $run! {
            other_protocols_pass,
            arp_request_is_answered_unicast,
            arp_reply_keeps_the_length_of_the_request,
            arp_request_to_our_mac_is_answered,
            arp_target_hardware_address_is_not_read,
            arp_probe_is_answered,
            arp_request_for_another_address_passes,
            arp_request_to_another_mac_passes,
            arp_request_from_a_group_passes,
            arp_reply_goes_to_the_ethernet_source,
            arp_of_another_format_passes,
            arp_of_another_operation_passes,
            truncated_arp_passes,
            arp_reply_passes,
            arp_announcement_of_an_owned_vip_is_a_claim,
            arp_request_from_an_owned_vip_is_a_claim,
            arp_reply_for_an_owned_vip_is_a_claim,
            arp_with_our_own_mac_is_no_claim,
            announcement_of_another_nodes_vip_passes,
            claim_is_reported_after_the_lease_has_lapsed,
            silence_comes_before_a_claim,
            na_for_an_owned_vip_is_a_claim,
            na_with_our_own_mac_is_no_claim,
            na_for_another_address_passes,
            ns_from_an_owned_vip_for_itself_is_a_claim,
            removed_vip_passes,
            ns_is_answered,
            ns_to_our_mac_is_answered,
            ns_without_an_option_is_answered,
            ns_for_duplicate_detection_is_answered_to_all_nodes,
            ns_for_duplicate_detection_with_a_nonce_is_answered,
            ns_with_options_in_any_order_is_answered,
            ns_with_a_trailer_is_answered_without_it,
            ns_in_a_frame_of_several_buffers_passes,
            ns_with_a_flow_label_is_answered,
            ns_for_another_address_passes,
            ns_to_another_mac_passes,
            ns_from_a_group_passes,
            ns_reply_goes_to_the_ethernet_source,
            nd_with_another_hop_limit_passes,
            nd_with_a_code_passes,
            nd_with_a_wrong_checksum_passes,
            short_nd_passes,
            nd_longer_than_its_frame_passes,
            nd_with_an_option_of_length_zero_passes,
            nd_with_an_option_past_its_end_passes,
            nd_with_a_link_layer_address_of_another_length_passes,
            nd_with_too_many_options_passes,
            nd_with_a_multicast_target_passes,
            ns_unspecified_with_a_source_option_passes,
            ns_unspecified_to_another_destination_passes,
            ns_from_a_multicast_address_passes,
            nd_of_another_version_passes,
            nd_behind_extension_headers_passes,
            one_tag_is_matched_and_kept,
            two_tags_are_matched_and_kept,
            priority_tag_is_no_vlan,
            vip_is_not_answered_in_another_vlan,
            other_stacks_of_tags_pass,
            vip_is_suppressed_by_vlan,
            tagged_ns_without_an_option_is_answered,
            request_for_another_nodes_vip_is_dropped,
            reply_for_another_nodes_vip_passes,
            request_is_dropped_when_the_lease_has_lapsed,
            request_is_answered_when_the_lease_is_renewed,
            everything_passes_once_the_program_is_inert,
            request_on_an_unknown_link_passes,
            vip_is_not_answered_on_another_port,
            bond_member_answers_with_the_bonds_mac,
            probe_is_answered,
            tagged_probe_is_answered_with_its_tags,
            probe_is_answered_with_any_udp_checksum,
            probe_is_answered_regardless_of_vips_and_lease,
            probe_reply_uses_the_key_of_the_request,
            probe_of_an_unknown_key_passes,
            probe_for_anybody_is_answered,
            probe_not_for_the_program_passes,
            probe_of_a_node_without_a_life_passes,
            probe_passes_where_no_port_is_set,
            other_datagrams_pass,
            probe_is_not_sampled,
            renewal_begins_and_extends_the_lease,
            lease_that_the_peers_let_lapse_is_never_extended,
            reported_lapse_is_final,
            request_renews_from_the_time_it_hands_back,
            node_that_is_alone_needs_no_renewal,
            company_ends_the_time_alone_until_the_first_renewal,
            life_alone_that_others_consider_over_is_over,
            renewal_of_another_life_does_nothing,
            requests_are_counted_by_vip,
            unwatched_requests_are_not_reported,
            watcher_sees_every_frame_handled,
            event_holds_the_beginning_of_a_long_frame,
        }
    };
}

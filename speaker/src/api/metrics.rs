//! The report as Prometheus metrics; those that MetalLB's users graph come first.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use speaker_core::{cluster::CandidateStanding, node::PlaceStatus};

use super::{Counts, Report, VipReport};
use crate::metrics::{Intake, flag, one};

/// The report, for scraping.
#[derive(Debug)]
pub(super) struct Collected(pub(super) Report);

/// A counter of a VIP on a link: name, help and value.
type PlaceCounter = (&'static str, &'static str, fn(&PlaceStatus, &Counts) -> u64);

/// MetalLB's counters, of the VIPs that this node answers for.
const METALLB: [PlaceCounter; 3] = [
    (
        "metallb_layer2_requests_received",
        "Requests for VIPs that this node answers for",
        |_, counts| counts.requests,
    ),
    (
        "metallb_layer2_responses_sent",
        "Requests that this node has answered",
        |_, counts| counts.answered,
    ),
    (
        "metallb_layer2_gratuitous_sent",
        "Gratuitous announcements of VIPs that this node answers for",
        |place, _| place.announced,
    ),
];

/// The counters of all VIPs.
const VIPS: [PlaceCounter; 6] = [
    ("speaker_requests", "Requests for VIPs", |_, counts| {
        counts.requests
    }),
    ("speaker_answers", "Requests answered", |_, counts| {
        counts.answered
    }),
    (
        "speaker_suppressed",
        "Requests dropped because another node owns the VIP",
        |_, counts| counts.suppressed,
    ),
    (
        "speaker_refused",
        "Requests dropped because the lease was not valid",
        |_, counts| counts.refused,
    ),
    (
        "speaker_announcements",
        "Gratuitous announcements sent",
        |place, _| place.announced,
    ),
    (
        "speaker_conflicts",
        "Claims of a VIP by hosts outside the cluster",
        |place, _| place.conflicts,
    ),
];

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_as_metallb(&mut encoder)?;
        self.encode_node(&mut encoder)?;
        self.encode_members(&mut encoder)?;
        self.encode_vips(&mut encoder)?;
        self.encode_links(&mut encoder)?;
        self.encode_reasons(&mut encoder)
    }
}

impl Collected {
    /// The metrics that MetalLB's users graph, under MetalLB's names.
    fn encode_as_metallb(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Self(report) = self;
        let node = report.node.as_deref().unwrap_or_default();
        let gauge = ConstGauge::new(0_i64).metric_type();

        let help = "Services that this node answers for";
        let mut family =
            encoder.encode_descriptor("metallb_speaker_announced", help, None, gauge)?;
        for (vip, ip) in answering(report) {
            for service in &vip.status.services {
                let labels = [
                    ("service", service.as_str()),
                    ("protocol", "layer2"),
                    ("node", node),
                    ("ip", ip.as_str()),
                ];
                ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
            }
        }

        for (name, help, count) in METALLB {
            // A counter's name would get a suffix that MetalLB's names do not have.
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
            for (vip, ip) in answering(report) {
                let sum: u64 = vip.places().map(|(place, c)| count(place, &c)).sum();
                let labels = [("ip", ip.as_str())];
                let sum = ConstGauge::new(i64::try_from(sum).unwrap_or(i64::MAX));
                sum.encode(family.encode_family(&labels)?)?;
            }
        }

        let intake = Intake {
            updates: report.updates,
            errors: report.update_errors,
            is_loaded: report.updates > 0,
            is_stale: !report.refused.is_empty(),
        };
        intake.encode(encoder)
    }

    fn encode_node(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Self(report) = self;
        let help = "Whether the kernel-held lease is valid";
        let valid = flag(report.lease.is_valid());
        one(encoder, "speaker_lease_valid", help, &valid)?;
        if let Some(probes) = &report.probes {
            let help = "Whether the kernel answers liveness probes, even without the agent";
            let in_kernel = flag(probes.interface.is_some());
            one(encoder, "speaker_probes_in_kernel", help, &in_kernel)?;
        }
        if let Some(api_server) = &report.api_server {
            let help = "Whether the API server answers; if not, the last known configuration \
                        stays in force";
            let answers = flag(api_server.away.is_none());
            one(encoder, "speaker_api_server_reachable", help, &answers)?;
        }
        let help = "Messages that could not be decrypted with this node's keys";
        let unreadable = ConstCounter::new(report.unreadable);
        one(encoder, "speaker_unreadable_messages", help, &unreadable)
    }

    fn encode_members(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut states: BTreeMap<CandidateStanding, i64> = BTreeMap::new();
        for member in &self.0.members {
            *states.entry(member.state).or_default() += 1;
        }
        let help = "Other nodes that this one knows, by state";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder.encode_descriptor("speaker_members", help, None, kind)?;
        for (state, count) in states {
            let labels = [("state", state.to_string())];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_vips(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, count) in VIPS {
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for vip in &self.0.vips {
                let Some(address) = vip.status.address else {
                    continue;
                };
                for (place, counts) in vip.places() {
                    let labels = [("ip", address.to_string()), ("link", place.link.clone())];
                    let count = ConstCounter::new(count(place, &counts));
                    count.encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }

    fn encode_links(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Whether the program runs on an interface, and in which mode";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder.encode_descriptor("speaker_attached", help, None, kind)?;
        for link in &self.0.links {
            let mode = link.attached.as_ref().map(|it| it.mode);
            let text = mode.map_or_else(|| "none".to_owned(), |mode| mode.to_string());
            let labels = [("link", link.name.clone()), ("mode", text)];
            let attached = flag(mode.is_some());
            attached.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_reasons(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Frames that were not answered, and other events, by reason";
        let mut family = encoder.encode_descriptor("speaker_frames", help, None, kind)?;
        for (reason, &count) in &self.0.reasons {
            let labels = [("reason", reason.clone())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// The VIPs that this node answers for, and their addresses as text.
fn answering(report: &Report) -> impl Iterator<Item = (&VipReport, String)> {
    let vips = report.vips.iter().filter(|vip| vip.is_answering());
    vips.filter_map(|vip| Some((vip, vip.status.address?.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{ApiServerReport, AwayReport, LeaseReport, LeaseState, MemberReport},
        metrics::{encode, testing::check_what_is_asked_for},
    };

    /// Of an agent in a cluster; the lab tests cover an agent with manifests.
    #[test]
    fn cluster_metrics_have_the_documented_names() {
        use CandidateStanding::{Down, Ready};
        let member = |state| MemberReport {
            name: "b".to_owned(),
            address: ([192, 0, 2, 2], 7946).into(),
            state,
            since_ms_ago: 0,
            heard_ms_ago: None,
            links: Vec::new(),
        };
        let away = AwayReport {
            for_ms: 1,
            why: "connection refused".to_owned(),
        };
        let text = encode(Collected(Report {
            node: Some("a".to_owned()),
            lease: LeaseReport {
                state: LeaseState::Unarmed,
                alone: false,
                agent_left_ms: Some(3_000),
                peers_left_ms: None,
            },
            vips: Vec::new(),
            links: Vec::new(),
            probes: None,
            reasons: BTreeMap::new(),
            refused: Vec::new(),
            updates: 0,
            update_errors: 0,
            api_server: Some(ApiServerReport { away: Some(away) }),
            draining: false,
            members: [Ready, Ready, Down].map(member).into(),
            unreadable: 7,
        }));
        for line in [
            "speaker_lease_valid 0",
            "speaker_api_server_reachable 0",
            r#"speaker_members{state="down"} 1"#,
            r#"speaker_members{state="ready"} 2"#,
            "speaker_unreadable_messages_total 7",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
        check_what_is_asked_for(&text, |name| {
            let of_controller = ["metallb_allocator_", "speaker_controller_"];
            !of_controller.iter().any(|prefix| name.starts_with(prefix))
        });
    }
}

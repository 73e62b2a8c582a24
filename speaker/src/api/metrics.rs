//! The report as Prometheus metrics. The names that MetalLB's users graph come first.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use speaker_core::{cluster::CandidateStanding, node::PlaceStatus};

use super::{Counts, Report, VipReport};
use crate::metrics::{Intake, flag, one};

/// The report, to be scraped.
#[derive(Debug)]
pub(super) struct Collected(pub(super) Report);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(report) = self;

        self.encode_as_metallb(&mut encoder)?;

        let help = "Whether the kernel-held lease is valid";
        let valid = flag(report.lease.is_valid());
        one(&mut encoder, "speaker_lease_valid", help, &valid)?;

        if let Some(probes) = &report.probes {
            let help = "Whether the kernel answers liveness probes, whatever the agent does";
            let in_kernel = flag(probes.interface.is_some());
            one(&mut encoder, "speaker_probes_in_kernel", help, &in_kernel)?;
        }

        if let Some(api_server) = &report.api_server {
            let help = "Whether the API server answers; what is known stays in force if not";
            let answers = flag(api_server.away.is_none());
            one(&mut encoder, "speaker_api_server_reachable", help, &answers)?;
        }

        let mut states: BTreeMap<CandidateStanding, i64> = BTreeMap::new();
        for member in &report.members {
            *states.entry(member.state).or_default() += 1;
        }
        let help = "Other nodes that this one knows, by how they stand";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder.encode_descriptor("speaker_members", help, None, kind)?;
        for (state, count) in states {
            let labels = [("state", state.to_string())];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }

        let unreadable = ConstCounter::new(report.unreadable);
        let help = "Messages that could not be decrypted with this node's keys";
        one(
            &mut encoder,
            "speaker_unreadable_messages",
            help,
            &unreadable,
        )?;

        type Count = (&'static str, &'static str, fn(&PlaceStatus, &Counts) -> u64);
        const COUNTS: [Count; 6] = [
            ("speaker_requests", "Requests for VIPs", |_, c| c.requests),
            ("speaker_answers", "Requests answered", |_, c| c.answered),
            (
                "speaker_suppressed",
                "Requests dropped because another node owns the VIP",
                |_, c| c.suppressed,
            ),
            (
                "speaker_refused",
                "Requests dropped because the lease had lapsed",
                |_, c| c.refused,
            ),
            (
                "speaker_announcements",
                "Gratuitous announcements sent",
                |p, _| p.announced,
            ),
            (
                "speaker_conflicts",
                "Claims of a VIP by a host that is none of the nodes",
                |p, _| p.conflicts,
            ),
        ];
        for (name, help, count) in COUNTS {
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for vip in &report.vips {
                let Some(address) = vip.status.address else {
                    continue;
                };
                for (place, counts) in vip.places() {
                    let labels = [("ip", address.to_string()), ("link", place.link.clone())];
                    ConstCounter::new(count(place, &counts))
                        .encode(family.encode_family(&labels)?)?;
                }
            }
        }

        let help = "Whether the program runs on an interface, and in which mode";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder.encode_descriptor("speaker_attached", help, None, kind)?;
        for link in &report.links {
            let mode = link.attached.as_ref().map(|it| it.mode);
            let labels = [
                ("link", link.name.clone()),
                (
                    "mode",
                    mode.map_or("none".to_owned(), |mode| mode.to_string()),
                ),
            ];
            let attached = flag(mode.is_some());
            attached.encode(family.encode_family(&labels)?)?;
        }

        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Frames not answered, and other things noticed, by reason";
        let mut family = encoder.encode_descriptor("speaker_frames", help, None, kind)?;
        for (reason, &count) in &report.reasons {
            let labels = [("reason", reason.clone())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collected {
    /// What MetalLB's users graph, by the names that they know.
    fn encode_as_metallb(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
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

        type Count = (&'static str, &'static str, fn(&PlaceStatus, &Counts) -> u64);
        const COUNTS: [Count; 3] = [
            (
                "metallb_layer2_requests_received",
                "Requests for VIPs that this node answers for",
                |_, c| c.requests,
            ),
            (
                "metallb_layer2_responses_sent",
                "Requests that this node has answered",
                |_, c| c.answered,
            ),
            (
                "metallb_layer2_gratuitous_sent",
                "Gratuitous announcements of VIPs that this node answers for",
                |p, _| p.announced,
            ),
        ];
        for (name, help, count) in COUNTS {
            // Counters, but a counter's name would get a suffix that MetalLB's do not have.
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
}

/// The VIPs that this node answers for, with their addresses as text.
fn answering(report: &Report) -> impl Iterator<Item = (&VipReport, String)> {
    let vips = report.vips.iter().filter(|vip| vip.is_answering());
    vips.filter_map(|vip| Some((vip, vip.status.address?.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{ApiServerReport, AwayReport, LeaseReport, LeaseState, MemberReport},
        metrics::encode,
    };

    /// Of an agent in a cluster; what an agent with manifests tells, the tests in the lab ask for.
    #[test]
    fn metrics_of_a_cluster_have_the_names_that_people_graph() {
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
    }
}

//! The report as Prometheus metrics. The names that MetalLB's users graph come first.

use std::collections::BTreeMap;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use speaker_core::node::PlaceStatus;

use super::{Counts, Report};

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug)]
struct Collected(Report);

/// The exposition text.
pub(super) fn encode(report: &Report) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collected(report.clone())));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("writing to a string cannot fail");
    text
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Self(report) = self;

        let held = ConstGauge::new(i64::from(report.lease.valid));
        let help = "Whether the kernel-held lease is valid";
        let metric =
            encoder.encode_descriptor("speaker_lease_valid", help, None, held.metric_type())?;
        held.encode(metric)?;

        let mut states: BTreeMap<&str, i64> = BTreeMap::new();
        for member in &report.members {
            *states.entry(&member.state).or_default() += 1;
        }
        let help = "Other nodes that this one knows, by how they stand";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder.encode_descriptor("speaker_members", help, None, kind)?;
        for (state, count) in states {
            let labels = [("state", state)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }

        let unreadable = ConstCounter::new(report.unreadable);
        let help = "Messages sealed with none of this node's keys";
        let name = "speaker_unreadable_messages";
        let metric = encoder.encode_descriptor(name, help, None, unreadable.metric_type())?;
        unreadable.encode(metric)?;

        type Count = (&'static str, &'static str, fn(&PlaceStatus, &Counts) -> u64);
        const COUNTS: [Count; 5] = [
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

//! Prometheus metrics: their exposition, and those that agents and controllers share.

use std::fmt;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A response with all metrics (OpenMetrics 1.0).
pub(crate) fn exposition(collector: impl Collector) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], encode(collector)).into_response()
}

/// The text of an exposition.
pub(crate) fn encode(collector: impl Collector) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("writing to a string cannot fail");
    text
}

/// A metric without labels.
pub(crate) fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// A gauge that is 1 or 0.
pub(crate) fn flag(holds: bool) -> ConstGauge<i64> {
    ConstGauge::new(i64::from(holds))
}

/// The state of the configuration, by the names that MetalLB's users graph.
pub(crate) struct Intake {
    /// Updates received.
    pub(crate) updates: u64,
    /// Updates that failed, wholly or in part.
    pub(crate) errors: u64,
    /// There is a configuration.
    pub(crate) is_loaded: bool,
    /// Part of the newest configuration is refused: its last valid version is in force.
    pub(crate) is_stale: bool,
}

impl Intake {
    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_counts(encoder)?;
        one(
            encoder,
            "metallb_k8s_client_config_loaded_bool",
            "Whether a configuration has been loaded",
            &flag(self.is_loaded),
        )?;
        one(
            encoder,
            "metallb_k8s_client_config_stale_bool",
            "Whether part of the newest configuration is refused, and its last valid version in force",
            &flag(self.is_stale),
        )
    }

    /// For a program without a configuration.
    pub(crate) fn encode_counts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        one(
            encoder,
            "metallb_k8s_client_updates",
            "Updates of the configuration",
            &ConstCounter::new(self.updates),
        )?;
        one(
            encoder,
            "metallb_k8s_client_update_errors",
            "Updates of the configuration that failed or were refused in part",
            &ConstCounter::new(self.errors),
        )
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::{collections::BTreeSet, fs, path::Path};

    /// Checks that a program exposes the metrics that alerts and dashboard query.
    #[track_caller]
    pub(crate) fn check_what_is_asked_for(exposition: &str, is_of_program: fn(&str) -> bool) {
        let exposed = exposed(exposition);
        for file in ["alerts.yaml", "alerts_test.yaml", "dashboard.json"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring");
            let text = fs::read_to_string(path.join(file)).unwrap();
            let asked: BTreeSet<_> = asked(&text).filter(|it| is_of_program(it)).collect();
            assert!(!asked.is_empty(), "{file}");
            for name in asked {
                assert!(
                    exposed.contains(name),
                    "{file}: {name} is not in {exposed:?}"
                );
            }
        }
    }

    /// The names of all metrics in an exposition, as Prometheus stores them.
    fn exposed(exposition: &str) -> BTreeSet<String> {
        let types = exposition
            .lines()
            .filter_map(|it| it.strip_prefix("# TYPE "));
        let names = types.map(|it| match it.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, _) => name.to_owned(),
        });
        names.collect()
    }

    /// The names of metrics in a text.
    fn asked(text: &str) -> impl Iterator<Item = &str> {
        let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
        words.filter(|it| it.starts_with("speaker_") || it.starts_with("metallb_"))
    }
}

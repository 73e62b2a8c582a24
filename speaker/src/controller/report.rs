//! The controller's probes and metrics over HTTP.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use axum::{Router, extract::State, response::Response, routing::get};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::gauge::ConstGauge,
};
use speaker_core::allocate::Usage;
use tokio::sync::mpsc;

use super::ControllerEvent;
use crate::{
    http::{self, Failure, ask},
    metrics::{Intake, exposition, flag, one},
};

/// What the controller is doing.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) is_leading: bool,
    /// It knows who leads.
    pub(super) is_in_touch: bool,
    /// The leader has read all objects.
    pub(super) is_loaded: bool,
    /// The newest version of some pool is not in force.
    pub(super) is_stale: bool,
    /// Changes of objects, and requests that failed.
    pub(super) updates: u64,
    pub(super) errors: u64,
    /// By the names of the pools.
    pub(super) pools: Vec<(String, Usage)>,
}

/// Whether the webhooks can be called, as their own task says; the error says why not.
#[derive(Clone, Debug)]
pub(super) struct Readiness(Arc<Mutex<Result<(), String>>>);

impl Readiness {
    pub(super) fn new(ready: Result<(), String>) -> Self {
        Self(Arc::new(Mutex::new(ready)))
    }

    pub(super) fn succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Ok(());
    }

    /// After the first success, the setup keeps working for a long time.
    pub(super) fn failed(&self, why: String) {
        if let Err(reason) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            *reason = why;
        }
    }

    fn get(&self) -> Result<(), String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[derive(Clone)]
struct Shared {
    to: mpsc::Sender<ControllerEvent>,
    webhooks: Readiness,
}

impl Shared {
    async fn report(&self) -> Result<Report, Failure> {
        ask(&self.to, ControllerEvent::Asked).await
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics`.
pub(super) async fn serve(
    address: SocketAddr,
    to: mpsc::Sender<ControllerEvent>,
    webhooks: Readiness,
) -> Result<()> {
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Shared { to, webhooks });
    http::serve(address, routes).await
}

/// Whether the controller's loop responds at all.
async fn healthz(State(shared): State<Shared>) -> Result<&'static str, Failure> {
    shared.report().await.map(|_| "ok\n")
}

/// Whether the API server can be reached, and the webhooks can be called.
async fn readyz(State(shared): State<Shared>) -> Result<&'static str, Failure> {
    if !shared.report().await?.is_in_touch {
        let text = "the Lease speaker-controller has not been read or written lately: see the log";
        return Err(Failure::NotReady(text.to_owned()));
    }
    shared.webhooks.get().map_err(Failure::NotReady)?;
    Ok("ok\n")
}

async fn metrics(State(shared): State<Shared>) -> Result<Response, Failure> {
    let report = shared.report().await?;
    Ok(exposition(Collected(report)))
}

#[derive(Debug)]
struct Collected(Report);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Self(report) = self;
        let intake = Intake {
            updates: report.updates,
            errors: report.errors,
            is_loaded: report.is_loaded,
            is_stale: report.is_stale,
        };
        // A standby controller has none: it would look as if loading had failed.
        match report.is_leading {
            true => intake.encode(&mut encoder)?,
            false => intake.encode_counts(&mut encoder)?,
        }
        let help = "Whether this controller is the leader, which assigns addresses";
        let leading = flag(report.is_leading);
        one(&mut encoder, "speaker_controller_leading", help, &leading)?;

        type Value = fn(&Usage) -> i64;
        const GAUGES: [(&str, &str, Value); 6] = [
            ("addresses_total", "Addresses", |it| {
                let v4 = it.assigned_v4.saturating_add(it.available_v4);
                let v6 = it.assigned_v6.saturating_add(it.available_v6);
                v4.saturating_add(v6)
            }),
            ("addresses_in_use_total", "Addresses in use", |it| {
                it.assigned_v4.saturating_add(it.assigned_v6)
            }),
            ("ipv4_addresses_total", "IPv4 addresses", |it| {
                it.assigned_v4.saturating_add(it.available_v4)
            }),
            (
                "ipv4_addresses_in_use_total",
                "IPv4 addresses in use",
                |it| it.assigned_v4,
            ),
            ("ipv6_addresses_total", "IPv6 addresses", |it| {
                it.assigned_v6.saturating_add(it.available_v6)
            }),
            (
                "ipv6_addresses_in_use_total",
                "IPv6 addresses in use",
                |it| it.assigned_v6,
            ),
        ];
        for (name, help, value) in GAUGES {
            let name = format!("metallb_allocator_{name}");
            let help = format!("{help}, by pool");
            let kind = ConstGauge::new(0_i64).metric_type();
            let mut family = encoder.encode_descriptor(&name, &help, None, kind)?;
            for (pool, usage) in &report.pools {
                let labels = [("pool", pool.as_str())];
                ConstGauge::new(value(usage)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{encode, testing::check_what_is_asked_for};

    #[test]
    fn metrics_have_the_documented_names() {
        let usage = Usage {
            assigned_v4: 2,
            assigned_v6: 1,
            available_v4: 8,
            available_v6: i64::MAX,
        };
        let text = encode(Collected(Report {
            is_leading: true,
            is_loaded: true,
            updates: 7,
            errors: 3,
            pools: vec![("lan".to_owned(), usage)],
            ..Report::default()
        }));
        for line in [
            "metallb_k8s_client_updates_total 7",
            "metallb_k8s_client_update_errors_total 3",
            "metallb_k8s_client_config_loaded_bool 1",
            "metallb_k8s_client_config_stale_bool 0",
            "speaker_controller_leading 1",
            r#"metallb_allocator_addresses_in_use_total{pool="lan"} 3"#,
            r#"metallb_allocator_addresses_total{pool="lan"} 9223372036854775807"#,
            r#"metallb_allocator_ipv4_addresses_in_use_total{pool="lan"} 2"#,
            r#"metallb_allocator_ipv4_addresses_total{pool="lan"} 10"#,
            r#"metallb_allocator_ipv6_addresses_in_use_total{pool="lan"} 1"#,
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
        check_what_is_asked_for(&text, |name| {
            let prefixes = ["metallb_allocator_", "speaker_controller_"];
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        });
    }

    #[test]
    fn the_reason_is_the_latest_one_until_the_first_success() {
        let readiness = Readiness::new(Err("not yet".to_owned()));
        readiness.failed("cannot patch".to_owned());
        assert_eq!(readiness.get(), Err("cannot patch".to_owned()));
        readiness.succeeded();
        readiness.failed("cannot read".to_owned());
        assert_eq!(readiness.get(), Ok(()));
    }

    #[test]
    fn only_the_leader_reports_the_configuration() {
        let tells = |is_leading| {
            let text = encode(Collected(Report {
                is_leading,
                ..Report::default()
            }));
            let of = |state| text.contains(&format!("metallb_k8s_client_config_{state}_bool 0\n"));
            assert!(text.contains("metallb_k8s_client_updates_total 0\n"));
            [of("loaded"), of("stale")]
        };
        assert_eq!(tells(true), [true, true], "and it has not read it yet");
        assert_eq!(tells(false), [false, false]);
    }
}

//! The validating webhooks, which refuse invalid objects when they are applied.
//!
//! Their certificates are created here, and shared by all controllers through a Secret. A
//! controller that finds none, or an old one, creates a new one; the API server's conditional
//! writes make sure that all end up with the same.

mod certificate;
mod review;
mod secret;
mod tls;

use std::{
    future::ready,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    http::{HeaderValue, header::CONNECTION},
    middleware::map_response,
    response::Response,
};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{net::TcpListener, time::sleep};

use self::{certificate::Bundle, secret::Store, tls::Certificates};
use super::{Webhooks, reason, report::Readiness};

/// The object that tells the API server to call the webhooks.
const CONFIGURATION: &str = "speaker-webhook-configuration";

/// How often the certificates are checked, and how soon again after a failure.
const LOOK: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(2);

/// How long a stopping server keeps answering with `Connection: close`. The API server keeps
/// connections open, and a request fails if its connection is closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// The served webhooks.
pub(super) struct Served {
    pub(super) readiness: Readiness,
    leaving: Arc<AtomicBool>,
}

impl Served {
    /// Makes clients reconnect elsewhere for their next request.
    pub(super) async fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        sleep(FAREWELL).await;
    }
}

/// Starts serving the webhooks and keeping their certificates.
pub(super) async fn start(client: Client, namespace: &str, webhooks: &Webhooks) -> Result<Served> {
    let bind = webhooks.bind;
    let listener = TcpListener::bind(bind).await;
    let listener = listener.with_context(|| format!("cannot listen on {bind} (--webhook-bind)"))?;
    let certificates = Arc::new(Certificates::default());
    let listener = tls::Listener::new(listener, &certificates)?;
    let leaving = Arc::new(AtomicBool::new(false));
    let is_leaving = Arc::clone(&leaving);
    let routes: Router = review::routes(client.clone(), namespace);
    let routes = routes.layer(map_response(move |mut response: Response| {
        if is_leaving.load(Ordering::Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        ready(response)
    }));
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let readiness = Readiness::new(Err("the webhooks have no certificate yet".to_owned()));
    let ready = readiness.clone();
    let host = format!("{}.{namespace}.svc", webhooks.service);
    let store = Store::new(client.clone(), namespace, host);
    tokio::spawn(async move {
        let mut missing = Missing::default();
        loop {
            match keep(&client, &store, &certificates).await {
                Ok(is_configured) => {
                    if missing.is_news(!is_configured) {
                        tracing::warn!(
                            "there is no ValidatingWebhookConfiguration {CONFIGURATION}: the API \
                             server does not call the webhooks"
                        );
                    }
                    ready.succeeded();
                    sleep(LOOK).await;
                }
                Err(error) => {
                    let why = format!("cannot keep the webhooks' certificates: {}", reason(&error));
                    tracing::warn!("{why}");
                    ready.failed(why);
                    sleep(RETRY).await;
                }
            }
        }
    });
    Ok(Served { readiness, leaving })
}

/// Whether the configuration was missing when last looked for.
#[derive(Debug, Default)]
struct Missing(bool);

impl Missing {
    /// Whether it is missing, and was not before.
    const fn is_news(&mut self, is_missing: bool) -> bool {
        let was_missing = mem::replace(&mut self.0, is_missing);
        is_missing && !was_missing
    }
}

/// Makes sure that the certificate is valid, and that the API server trusts it. False if it is not
/// configured to call the webhooks.
async fn keep(client: &Client, store: &Store, certificates: &Certificates) -> Result<bool> {
    let bundle = store.current().await?;
    certificates.replace(&bundle)?;
    trust(client, &bundle).await
}

async fn trust(client: &Client, bundle: &Bundle) -> Result<bool> {
    let configurations = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    let Some(configuration) = configurations.get_opt(CONFIGURATION).await? else {
        return Ok(false);
    };
    let webhooks = configuration.webhooks.unwrap_or_default();
    let authorities = bundle.authorities.as_bytes();
    let is_trusted =
        |it: Option<&k8s_openapi::ByteString>| it.is_some_and(|it| it.0 == authorities);
    if webhooks
        .iter()
        .all(|it| is_trusted(it.client_config.ca_bundle.as_ref()))
    {
        return Ok(true);
    }
    let ca_bundle = k8s_openapi::ByteString(authorities.to_vec());
    let trusting = webhooks
        .iter()
        .map(|it| json!({ "name": it.name, "clientConfig": { "caBundle": ca_bundle } }));
    let body = json!({
        "metadata": { "resourceVersion": configuration.metadata.resource_version },
        "webhooks": trusting.collect::<Vec<_>>(),
    });
    let patch = Patch::Strategic(body);
    configurations
        .patch(CONFIGURATION, &PatchParams::default(), &patch)
        .await
        .with_context(|| format!("cannot patch ValidatingWebhookConfiguration {CONFIGURATION}"))?;
    tracing::info!("the API server trusts the webhooks' certificate");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_configuration_is_reported_once_until_it_exists_again() {
        let mut missing = Missing::default();
        let told = [true, true, false, true, true].map(|it| missing.is_news(it));
        assert_eq!(told, [true, false, false, true, false]);
    }
}

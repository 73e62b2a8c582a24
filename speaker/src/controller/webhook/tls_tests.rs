use axum::serve::Listener as _;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::*;

const HOST: &str = "speaker-webhook.speaker-system.svc";

/// Whether the API server, which trusts these authorities, accepts the certificate for that host.
async fn is_trusted(address: SocketAddr, authorities: &str, host: &'static str) -> bool {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(host).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.is_ok()
}

#[tokio::test]
async fn the_certificate_is_trusted_only_for_the_service_and_by_its_authority() {
    let certificates = Arc::new(Certificates::default());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut listener = Listener::new(listener, &certificates).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            listener.accept().await;
        }
    });
    let now = Timestamp::now();
    let first = Bundle::new(HOST, now).unwrap();
    assert!(
        !is_trusted(address, &first.authorities, HOST).await,
        "there is none yet"
    );

    certificates.replace(&first).unwrap();
    assert!(is_trusted(address, &first.authorities, HOST).await);
    assert!(
        is_trusted(
            address,
            &first.authorities,
            "speaker-webhook.speaker-system"
        )
        .await
    );
    assert!(!is_trusted(address, &first.authorities, "other.speaker-system.svc").await);
    let stranger = Bundle::new(HOST, now).unwrap();
    assert!(!is_trusted(address, &stranger.authorities, HOST).await);

    // A new certificate from the same authority: clients that trusted the old one trust the new
    // one.
    let second = first
        .renewed("speaker-webhook.other.svc", now)
        .unwrap()
        .unwrap();
    certificates.replace(&second).unwrap();
    assert!(is_trusted(address, &first.authorities, "speaker-webhook.other.svc").await);

    // A new authority, which the API server already knows while the old certificate is still
    // served.
    let later = now + SignedDuration::from_hours(24 * 3_000);
    let third = first.renewed(HOST, later).unwrap().unwrap();
    certificates.replace(&first).unwrap();
    assert!(is_trusted(address, &third.authorities, HOST).await);
}

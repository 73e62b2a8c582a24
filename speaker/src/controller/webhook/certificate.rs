//! Creating certificates.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio_rustls::rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};

/// Validity of the authority and of its certificates.
const AUTHORITY_DAYS: i64 = 3_650;
const SERVING_DAYS: i64 = 365;

/// A webhook server's certificate and key, and the authority that issued it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bundle {
    /// The authorities to trust: the one in force, and the one before it. PEM.
    pub(super) authorities: String,
    /// The key of the authority in force. PEM.
    pub(super) authority_key: String,
    /// When the next authority is created: after two thirds of its validity.
    pub(super) authority_until: Timestamp,
    /// The certificate and its key. PEM.
    pub(super) certificate: String,
    pub(super) key: String,
    /// When the next certificate is created.
    pub(super) until: Timestamp,
    /// The name that the certificate is for.
    pub(super) host: String,
}

impl Bundle {
    /// A new authority and a certificate issued by it.
    pub(super) fn new(host: &str, now: Timestamp) -> Result<Self> {
        let key = KeyPair::generate()?;
        let authority = authority(now).self_signed(&key)?.pem();
        let (certificate, serving_key) = serving(host, &key, now)?;
        Ok(Self {
            authorities: authority,
            authority_key: key.serialize_pem(),
            authority_until: two_thirds(now, AUTHORITY_DAYS),
            certificate,
            key: serving_key,
            until: two_thirds(now, SERVING_DAYS),
            host: host.to_owned(),
        })
    }

    /// The next bundle; `None` while this one is valid for the host.
    ///
    /// Somebody may have edited the Secret, or its certificate may be from a clock that was ahead.
    /// If clients would not accept the bundle, it is replaced as a whole.
    pub(super) fn renewed(&self, host: &str, now: Timestamp) -> Result<Option<Self>> {
        match self.next(host, now) {
            Ok(next) if next.as_ref().unwrap_or(self).check(now).is_ok() => Ok(next),
            _ => Self::new(host, now).map(Some),
        }
    }

    /// The certificate and its key, to serve.
    pub(super) fn certified(&self) -> Result<CertifiedKey> {
        let certificates = certificates(&self.certificate);
        let certificates = certificates.context("the certificate of the webhooks is not PEM")?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .context("the key of the webhooks is not PEM")?;
        let provider = ring::default_provider();
        Ok(CertifiedKey::from_der(certificates, key, &provider)?)
    }

    /// Whether a client that trusts these authorities, and no others, accepts the certificate now.
    fn check(&self, now: Timestamp) -> Result<()> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.authorities)? {
            roots.add(authority)?;
        }
        let provider = Arc::new(ring::default_provider());
        let client =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        let host = ServerName::try_from(self.host.as_str())?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into()?));
        let served = self.certified()?.cert;
        let (certificate, issuers) = served.split_first().context("there is no certificate")?;
        client.verify_server_cert(certificate, issuers, &host, &[], now)?;
        Ok(())
    }

    fn next(&self, host: &str, now: Timestamp) -> Result<Option<Self>> {
        if now >= self.authority_until {
            let mut renewed = Self::new(host, now)?;
            // Other controllers use the old certificate a little longer.
            renewed.authorities += first_certificate(&self.authorities);
            return Ok(Some(renewed));
        }
        if now < self.until && self.host == host {
            return Ok(None);
        }
        let key = KeyPair::from_pem(&self.authority_key)?;
        let (certificate, key) = serving(host, &key, now)?;
        Ok(Some(Self {
            certificate,
            key,
            until: two_thirds(now, SERVING_DAYS),
            host: host.to_owned(),
            ..self.clone()
        }))
    }
}

/// The authority, to sign itself or as the issuer of certificates. An issuer is known by its name
/// and key alone, whatever its dates.
fn authority(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "speaker webhook authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, AUTHORITY_DAYS);
    params
}

fn serving(host: &str, authority_key: &KeyPair, now: Timestamp) -> Result<(String, String)> {
    let short = host.strip_suffix(".svc").unwrap_or(host);
    let names = [
        host.to_owned(),
        short.to_owned(),
        format!("{host}.cluster.local"),
    ];
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "speaker webhooks");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid(&mut params, now, SERVING_DAYS);
    let key = KeyPair::generate()?;
    let issuer = Issuer::new(authority(now), authority_key);
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// From yesterday, for clocks that are behind.
fn valid(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let date = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        let number = |it: i8| u8::try_from(it).expect("months and days are positive");
        date_time_ymd(date.year().into(), number(date.month()), number(date.day()))
    };
    params.not_before = date(now - SignedDuration::from_hours(24));
    params.not_after = date(now + SignedDuration::from_hours(24 * days));
}

fn two_thirds(now: Timestamp, days: i64) -> Timestamp {
    now + SignedDuration::from_hours(24 * days * 2 / 3)
}

/// The certificates in a PEM text.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    Ok(certificates.collect::<Result<_, _>>()?)
}

/// The first of several PEM certificates.
fn first_certificate(pem: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----";
    match pem.find(END) {
        Some(at) => &pem[..at + END.len()],
        None => pem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "speaker-webhook.speaker-system.svc";

    fn day(n: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * (20_000 + n))
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_validity() {
        let first = Bundle::new(HOST, day(0)).unwrap();
        assert_eq!(first.renewed(HOST, day(243)).unwrap(), None);
        let second = first.renewed(HOST, day(244)).unwrap().unwrap();
        assert_ne!(second.certificate, first.certificate);
        assert_eq!(second.authorities, first.authorities);
        assert_eq!(second.renewed(HOST, day(245)).unwrap(), None);
    }

    /// By a clock that was ahead: it would be refused until then.
    #[test]
    fn a_certificate_that_is_not_valid_yet_is_replaced() {
        let ahead = Bundle::new(HOST, day(400)).unwrap();
        let second = ahead.renewed(HOST, day(0)).unwrap().unwrap();
        assert_ne!(second.authorities, ahead.authorities);
        assert_eq!(second.renewed(HOST, day(0)).unwrap(), None);
        let slightly = Bundle::new(HOST, day(1)).unwrap();
        assert_eq!(slightly.renewed(HOST, day(0)).unwrap(), None);
    }

    #[test]
    fn whatever_is_written_over_a_part_of_the_secret_is_repaired() {
        let first = Bundle::new(HOST, day(0)).unwrap();
        let other = Bundle::new(HOST, day(0)).unwrap();
        let parts: [fn(&mut Bundle) -> &mut String; 4] = [
            |it| &mut it.authorities,
            |it| &mut it.authority_key,
            |it| &mut it.certificate,
            |it| &mut it.key,
        ];
        for part in parts {
            let written = [
                String::new(),
                "garbage".to_owned(),
                part(&mut other.clone()).clone(),
            ];
            for text in written {
                let mut edited = first.clone();
                *part(&mut edited) = text;
                // The authority's key counts when it is next used.
                for now in [day(0), day(244)] {
                    let next = edited.renewed(HOST, now).unwrap();
                    let next = next.as_ref().unwrap_or(&edited);
                    assert!(next.check(now).is_ok(), "{edited:?} {now}");
                }
            }
        }
    }

    #[test]
    fn another_name_needs_another_certificate() {
        let first = Bundle::new(HOST, day(0)).unwrap();
        let second = first.renewed("other.ns.svc", day(1)).unwrap().unwrap();
        assert_eq!(second.host, "other.ns.svc");
        assert_eq!(second.authorities, first.authorities);
    }

    #[test]
    fn the_previous_authority_stays_trusted() {
        let first = Bundle::new(HOST, day(0)).unwrap();
        let second = first.renewed(HOST, day(2_434)).unwrap().unwrap();
        assert!(second.authorities.ends_with(first.authorities.trim_end()));
        assert_eq!(second.authorities.matches("BEGIN CERTIFICATE").count(), 2);
        let third = second.renewed(HOST, day(5_000)).unwrap().unwrap();
        assert_eq!(third.authorities.matches("BEGIN CERTIFICATE").count(), 2);
    }
}

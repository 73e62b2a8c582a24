//! Creating certificates.

use anyhow::Result;
use k8s_openapi::jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
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
    pub(super) fn renewed(&self, host: &str, now: Timestamp) -> Result<Option<Self>> {
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
    fn a_certificate_is_renewed_when_two_thirds_of_its_time_are_over() {
        let first = Bundle::new(HOST, day(0)).unwrap();
        assert_eq!(first.renewed(HOST, day(243)).unwrap(), None);
        let second = first.renewed(HOST, day(244)).unwrap().unwrap();
        assert_ne!(second.certificate, first.certificate);
        assert_eq!(second.authorities, first.authorities);
        assert_eq!(second.renewed(HOST, day(245)).unwrap(), None);
    }

    #[test]
    fn another_name_takes_another_certificate() {
        let first = Bundle::new(HOST, day(0)).unwrap();
        let second = first.renewed("other.ns.svc", day(1)).unwrap().unwrap();
        assert_eq!(second.host, "other.ns.svc");
        assert_eq!(second.authorities, first.authorities);
    }

    #[test]
    fn the_authority_before_is_trusted_beside_the_new_one() {
        let first = Bundle::new(HOST, day(0)).unwrap();
        let second = first.renewed(HOST, day(2_434)).unwrap().unwrap();
        assert!(second.authorities.ends_with(first.authorities.trim_end()));
        assert_eq!(second.authorities.matches("BEGIN CERTIFICATE").count(), 2);
        let third = second.renewed(HOST, day(5_000)).unwrap().unwrap();
        assert_eq!(third.authorities.matches("BEGIN CERTIFICATE").count(), 2);
    }
}

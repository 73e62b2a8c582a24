//! The cluster's certificates.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// The authority that everybody in the cluster trusts.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: PathBuf,
}

/// The files of a private key and its public part, usually a certificate.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) public: PathBuf,
    pub(super) key: PathBuf,
}

impl Authority {
    /// A pair with its files in this directory.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let mut params = named("the lab's authority")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let this = Self {
            issuer: Issuer::new(params, key),
            directory: directory.to_owned(),
        };
        write(&this.certificate(), &certificate.pem())?;
        Ok(this)
    }

    /// The file of its own certificate.
    pub(super) fn certificate(&self) -> PathBuf {
        self.directory.join("authority.crt")
    }

    /// A certificate for a server with these addresses.
    pub(super) fn server(&self, addresses: &[IpAddr]) -> Result<Pair> {
        let mut params = named("kube-apiserver")?;
        let addresses = addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names = addresses.collect();
        let name = "kubernetes.default.svc".try_into()?;
        params.subject_alt_names.push(SanType::DnsName(name));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue("apiserver", &params)
    }

    /// A certificate that identifies its holder to the API server, in files of this name.
    pub(super) fn client(&self, file: &str, user: &str, group: &str) -> Result<Pair> {
        let mut params = named(user)?;
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(file, &params)
    }

    /// The key pair that signs ServiceAccount tokens and verifies them.
    pub(super) fn tokens(&self) -> Result<Pair> {
        let key = KeyPair::generate()?;
        self.write("tokens", &key.public_key_pem(), &key)
    }

    fn issue(&self, file: &str, params: &CertificateParams) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        self.write(file, &certificate.pem(), &key)
    }

    fn write(&self, file: &str, public: &str, key: &KeyPair) -> Result<Pair> {
        let pair = Pair {
            public: self.directory.join(format!("{file}.pem")),
            key: self.directory.join(format!("{file}.key")),
        };
        write(&pair.public, public)?;
        write(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

fn named(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| file.display().to_string())
}

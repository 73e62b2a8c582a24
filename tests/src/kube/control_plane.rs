//! etcd and kube-apiserver, and their faults.

use std::{
    collections::BTreeSet,
    fs, iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream},
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};

use super::{Kube, audit, certificates::Authority, identity::PORT};
use crate::{
    lab::{Host, Process},
    wait::wait_until,
};

/// More than they take to start, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The ranges of cluster IPs.
const SERVICES: &str = "10.96.0.0/16,fd00:10:96::/112";

/// The first cluster IPs: those of the API server itself.
const OWN_SERVICE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1)),
];

/// What later versions do by default.
pub(super) const FEATURES: &str = "IPv6DualStack=true,\
    EndpointSliceNodeName=true,\
    EndpointSliceTerminatingCondition=true,\
    MixedProtocolLBService=true,\
    ServiceLBNodePortControl=true";

/// On the host's own loopback.
pub(super) const STORE: &str = "http://127.0.0.1:2379";

/// The processes of a control plane.
#[derive(Debug)]
pub(super) struct ControlPlane {
    /// The arguments of the API server.
    arguments: Vec<String>,
    etcd: Process,
    api: Option<Process>,
    /// When the API server was started, and when it was ready.
    starts: Vec<(SystemTime, SystemTime)>,
}

impl ControlPlane {
    /// Starts etcd, and prepares everything for the API server.
    pub(super) fn new(
        host: &Host,
        authority: &Authority,
        programs: &Path,
        files: &Path,
    ) -> Result<Self> {
        let etcd = host
            .command(programs.join("etcd"))
            // In memory, and gone with the host.
            .args(["--data-dir", "/run/etcd"])
            .args([
                "--listen-client-urls",
                STORE,
                "--advertise-client-urls",
                STORE,
            ])
            .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
            .unheard()
            .spawn()?;
        let mut addresses = vec![
            host.eth0.ipv4.into(),
            host.eth0.ipv6.into(),
            Ipv4Addr::LOCALHOST.into(),
        ];
        addresses.extend(OWN_SERVICE);
        let server = authority.server(&addresses)?;
        let tokens = authority.tokens()?;
        let path = |path: &Path| path.display().to_string();
        let flags = [
            ("etcd-servers", STORE.to_owned()),
            // The added fields exist only in JSON.
            ("storage-media-type", "application/json".to_owned()),
            ("bind-address", "::".to_owned()),
            ("secure-port", PORT.to_string()),
            ("advertise-address", host.eth0.ipv4.to_string()),
            ("service-cluster-ip-range", SERVICES.to_owned()),
            ("feature-gates", FEATURES.to_owned()),
            ("allow-privileged", "true".to_owned()),
            ("client-ca-file", path(&authority.certificate())),
            ("tls-cert-file", path(&server.public)),
            ("tls-private-key-file", path(&server.key)),
            ("authorization-mode", "RBAC".to_owned()),
            // It would refuse pods whose ServiceAccount has no token from a controller.
            ("disable-admission-plugins", "ServiceAccount".to_owned()),
            (
                "service-account-issuer",
                "https://kubernetes.default.svc".to_owned(),
            ),
            ("service-account-signing-key-file", path(&tokens.key)),
            ("service-account-key-file", path(&tokens.public)),
            // Webhooks are reached at their Endpoints: this host has no kube-proxy.
            ("enable-aggregator-routing", "true".to_owned()),
            ("audit-policy-file", path(&audit::write_policy(files)?)),
            ("audit-log-path", audit::LOG.to_owned()),
        ];
        let flags = flags.map(|(name, value)| format!("--{name}={value}"));
        Ok(Self {
            arguments: flags.into(),
            etcd,
            api: None,
            starts: Vec::new(),
        })
    }
}

impl Kube {
    /// Kills the API server, as `kill -9` does. What it has stored stays.
    pub fn kill_api(&mut self) -> Result<()> {
        self.api()?.kill()?;
        self.control_plane.api = None;
        Ok(())
    }

    /// Starts the API server again, and waits until it is ready.
    pub fn start_api(&mut self) -> Result<()> {
        let started = SystemTime::now();
        let api = self
            .host
            .command(self.programs.join("kube-apiserver"))
            .args(&self.control_plane.arguments)
            .unheard()
            .spawn()?;
        self.control_plane.api = Some(api);
        self.wait_until_ready()?;
        let ready = SystemTime::now();
        self.control_plane.starts.push((started, ready));
        Ok(())
    }

    /// Whether the API server was starting at this time.
    pub(super) fn was_starting(&self, at: SystemTime) -> bool {
        let mut starts = self.control_plane.starts.iter();
        starts.any(|(started, ready)| (*started..*ready).contains(&at))
    }

    /// Freezes the API server: connections stay open, and nothing arrives.
    pub fn freeze_api(&mut self) -> Result<()> {
        self.api()?.freeze()
    }

    /// Resumes the API server.
    pub fn thaw_api(&mut self) -> Result<()> {
        self.api()?.thaw()
    }

    /// Freezes etcd: the API server answers from memory, or not at all.
    pub fn freeze_etcd(&mut self) -> Result<()> {
        self.control_plane.etcd.freeze()
    }

    /// Resumes etcd.
    pub fn thaw_etcd(&mut self) -> Result<()> {
        self.control_plane.etcd.thaw()
    }

    /// Drops, from now on, everything that arrives on a host's present connections to the API
    /// server, without telling either end, as a firewall does that has forgotten them. New
    /// connections work.
    pub fn sever(&self, host: &Host) -> Result<()> {
        let ports: Vec<String> = connections(host)?.iter().map(u16::to_string).collect();
        ensure!(!ports.is_empty(), "{} has no connection", host.name());
        let rules = format!(
            "table inet severed {{ chain input {{ type filter hook input priority 0; \
             tcp sport {PORT} tcp dport {{ {} }} drop; }}; }}",
            ports.join(", ")
        );
        host.command("nft").arg(rules).run().map(drop)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let ready = wait_until("the API server", LIMIT, || {
            // An error if it has ended.
            self.api()?.thaw()?;
            let address = self.address();
            if self.host.run(|| TcpStream::connect(address)).is_err() {
                return Ok(false);
            }
            let asked = self.kubectl(["get", "--raw=/readyz", "--request-timeout=2s"]);
            Ok(asked.unheard().output()?.status.success())
        });
        ready.with_context(|| self.said())
    }

    /// The last output of etcd and the API server: all of it is too much for a failing test to
    /// print.
    fn said(&self) -> String {
        let ControlPlane { etcd, api, .. } = &self.control_plane;
        let processes = iter::once(etcd).chain(api);
        let said = processes.map(|process| {
            let lines = process.stderr();
            lines[lines.len().saturating_sub(20)..].join("\n")
        });
        said.collect::<Vec<_>>().join("\n")
    }

    fn api(&mut self) -> Result<&mut Process> {
        self.control_plane
            .api
            .as_mut()
            .context("the API server is not running")
    }
}

/// The ports of a host's connections to the API server, at the host's end.
fn connections(host: &Host) -> Result<BTreeSet<u16>> {
    const ESTABLISHED: &str = "01";
    let listed = host.run(|| fs::read_to_string("/proc/thread-self/net/tcp"))?;
    let port = |end: &str| u16::from_str_radix(end.split_once(':')?.1, 16).ok();
    // `sl local_address rem_address st …`, in hexadecimal.
    let connection = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (port(fields.next()?)?, port(fields.next()?)?);
        (remote == PORT && fields.next()? == ESTABLISHED).then_some(local)
    };
    Ok(listed.lines().filter_map(connection).collect())
}

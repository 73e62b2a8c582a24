//! A real Kubernetes in the lab: etcd, kube-apiserver and kube-proxy.
//!
//! [`Kube`] is a control plane on its own host; hosts become nodes by [`Kube::join`]. Nothing is
//! mocked, and it ends with the lab.
//!
//! ```no_run
//! # use std::net::{IpAddr, Ipv4Addr};
//! # use std::time::Duration;
//! # use speaker_tests::kube::{Backend, Kube, get, objects};
//! speaker_tests::lab::test(|lab| {
//!     let kube = Kube::start(lab)?;
//!     let node = lab.host("node-a")?;
//!     let client = lab.host("client")?;
//!     kube.join(&node, &[("zone", "north")])?;
//!     let proxy = kube.proxy(&node, "iptables")?;
//!     let backend = Backend::start(&node, 8080)?;
//!
//!     let ports = [("TCP", 80, 8080)];
//!     kube.apply(&objects::service("web", &ports))?;
//!     let endpoint = objects::Endpoint::on(&node, false);
//!     kube.apply(&objects::endpoint_slice("web", &[endpoint], &ports))?;
//!     let vip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 240));
//!     kube.ingress("default/web", &[vip])?;
//!     // … and when somebody answers for the VIP:
//!     assert_eq!(get(&client, (vip, 80).into(), Duration::from_secs(1))?.node, "node-a");
//!     Ok(())
//! });
//! ```
//!
//! It is Kubernetes 1.20.2, the last of which Debian packages more than kubectl, with
//! `loadBalancerClass`, `ipMode`, `discovery.k8s.io/v1` and `policy/v1` of later versions:
//! `xtask/src/kubernetes/later.patch`. kubectl and its kustomize are those of 1.32.
//!
//! - There are no controllers, and pods run only in an [`Installation`]: a test writes the
//!   endpoints and conditions that they would write. Objects with owners are not garbage collected,
//!   namespaces stay until everything in them is deleted by hand, and aggregated roles (`view`,
//!   `edit`, `admin`) are empty.
//! - CEL rules are dropped from definitions of custom resources. Lists are not streamed.
//! - Objects are stored as JSON, since the added fields exist only there: a client that requests
//!   protobuf does not see them.
//! - kube-proxy uses the machine's iptables: legacy or nf_tables. Its IPVS mode is tested in a
//!   virtual machine ([`vm`](crate::vm)); this version has no nftables mode yet.
//!
//! A control plane takes about 4 s to start, and 300 MiB: let a test check more than one thing.

mod audit;
mod backend;
mod certificates;
mod client;
mod control_plane;
mod history;
mod identity;
mod installation;
mod kubectl;
mod kubelet;
mod node;
pub mod objects;
pub mod site;
mod visitor;

use std::{env, path::PathBuf};

use anyhow::{Result, ensure};
use tempfile::TempDir;

pub use self::{
    audit::Request,
    backend::Backend,
    history::Revision,
    identity::Identity,
    installation::{Family, Installation},
    kubelet::{Pod, Probe},
    site::Site,
    visitor::{Reply, Visit, Visitor, Visits, ask, get, get_udp},
};
use self::{certificates::Authority, control_plane::ControlPlane};
use crate::lab::{Host, Lab, Missing};

/// The environment variable that names the directory of `etcd`, `kube-apiserver`, `kube-proxy` and
/// `kubectl`. If empty, the tests that need them are skipped.
pub const PROGRAMS: &str = "SPEAKER_KUBERNETES";

/// A control plane, on its own host.
#[derive(Debug)]
pub struct Kube {
    /// The host of the control plane.
    pub host: Host,
    control_plane: ControlPlane,
    authority: Authority,
    programs: PathBuf,
    /// Certificates, kubeconfigs and manifests, visible to all hosts.
    files: TempDir,
}

impl Kube {
    /// Starts a control plane, and returns when it is ready. If the machine lacks Kubernetes, the
    /// error is [`Missing`].
    pub fn start(lab: &Lab) -> Result<Self> {
        let programs = programs()?;
        let host = lab.host("control-plane")?;
        let files = tempfile::Builder::new().prefix("kube").tempdir()?;
        let authority = Authority::new(files.path())?;
        let mut kube = Self {
            control_plane: ControlPlane::new(&host, &authority, &programs, files.path())?,
            host,
            authority,
            programs,
            files,
        };
        kube.write_admin()?;
        kube.start_api()?;
        Ok(kube)
    }
}

fn programs() -> Result<PathBuf> {
    let directory = PathBuf::from(env::var_os(PROGRAMS).ok_or(Missing::Kubernetes)?);
    if directory.as_os_str().is_empty() {
        return Err(Missing::LeftOut.into());
    }
    ensure!(
        directory.join("kube-apiserver").is_file(),
        "{PROGRAMS} names {}, which has no kube-apiserver",
        directory.display()
    );
    Ok(directory)
}

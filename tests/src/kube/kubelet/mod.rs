//! Runs pods: a kubelet and a container runtime, as far as deploy/ needs them.
//!
//! A container gets exactly what its pod says and nothing else: arguments, environment, mounts,
//! user, capabilities, a root file system that it cannot write. Names, paths and ports that do not
//! match in the manifests do not match here either.
//!
//! - The pod comes from the API server, with its defaults filled in.
//! - Each pod runs on a host of the lab and has its network, `hostNetwork` or not.
//! - Containers of other images are not started: `pause` only waits.
//! - There is no seccomp, AppArmor or SELinux, there are no cgroups, and nothing is restarted.

mod container;
mod spec;
mod volumes;

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use self::{container::Image, volumes::Volumes};
use super::{Kube, visitor::ask};
use crate::lab::{Command, Host, Process};

/// More than a container that runs to completion takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The kubelet's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Liveness: must it be restarted?
    Liveness,
    /// Readiness: may it get requests?
    Readiness,
}

/// A pod on a host.
#[derive(Debug)]
pub struct Pod {
    /// The process, if the image is ours.
    pub process: Option<Process>,
    /// The output of its init containers.
    pub said: Vec<String>,
    host: Arc<Host>,
    /// The object at the API server.
    pub(super) object: Value,
    volumes: Volumes,
}

impl Kube {
    /// Makes a pod of a workload, named as `kubectl get` has it: `daemonset/agent --namespace=a`.
    /// Then runs it on a host, whose address is the pod's.
    pub fn run_pod(&self, workload: &str, host: &Arc<Host>, ip: IpAddr) -> Result<Pod> {
        let object = self.make_pod_of(workload, host, ip)?;
        let containers = |field: &str| object["spec"][field].as_array().cloned();
        let volumes = Volumes::make(self, host, &object)?;
        let image = Image::read()?;
        let start = |container: &Value| -> Result<Option<Command>> {
            if !image.is_of(container) {
                return Ok(None);
            }
            let mut environment = spec::environment(container, &object)?;
            environment.extend(self.service(ip));
            let mounts = volumes.mounts(container)?;
            image
                .command(host, &object, container, &environment, &mounts)
                .map(Some)
        };
        let mut said = Vec::new();
        for container in containers("initContainers").unwrap_or_default() {
            if let Some(command) = start(&container)? {
                said.push(command.limit(LIMIT).run()?);
            }
        }
        let containers = containers("containers").context("no containers")?;
        let [container] = &containers[..] else {
            bail!("{workload} has {} containers", containers.len());
        };
        let process = start(container)?.map(Command::spawn).transpose()?;
        Ok(Pod {
            process,
            said,
            host: Arc::clone(host),
            object,
            volumes,
        })
    }

    /// As the workload controllers, the scheduler and the kubelet do.
    fn make_pod_of(&self, workload: &str, host: &Host, ip: IpAddr) -> Result<Value> {
        let workload = self.get(workload)?;
        let metadata = &workload["metadata"];
        let owner = metadata["name"].as_str().context("no name")?;
        let name = format!("{owner}-{}", host.name());
        let mut pod = workload["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = metadata["namespace"].clone();
        pod["spec"]["nodeName"] = json!(host.name());
        self.apply(&pod)?;
        let reference = format!("pod/{name} --namespace={}", text(&metadata["namespace"])?);
        let status =
            json!({ "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "hostIP": ip });
        self.patch_status(&reference, &status)?;
        self.get(&reference)
    }

    /// Where pods find the API server.
    fn service(&self, seen_from: IpAddr) -> [(String, String); 2] {
        let own = &self.host.eth0;
        let ip: IpAddr = match seen_from {
            IpAddr::V4(_) => own.ipv4.into(),
            IpAddr::V6(_) => own.ipv6.into(),
        };
        [
            ("KUBERNETES_SERVICE_HOST".to_owned(), ip.to_string()),
            (
                "KUBERNETES_SERVICE_PORT".to_owned(),
                self.address().port().to_string(),
            ),
        ]
    }
}

impl Pod {
    /// Sends the probe that the pod's manifest defines.
    pub fn probe(&self, probe: Probe) -> Result<()> {
        let container = &self.object["spec"]["containers"][0];
        let probe = match probe {
            Probe::Liveness => &container["livenessProbe"],
            Probe::Readiness => &container["readinessProbe"],
        };
        let get = &probe["httpGet"];
        ensure!(get["scheme"] == "HTTP", "not by HTTP: {get}");
        let ip: IpAddr = text(&self.object["status"]["podIP"])?.parse()?;
        let port = self.port(&get["port"])?;
        let limit = probe["timeoutSeconds"].as_u64().context("no limit")?;
        let path = text(&get["path"])?;
        let asked = || ask((ip, port).into(), path, Duration::from_secs(limit));
        self.host.run(asked).map(drop)
    }

    /// A port of its container, by number or by name.
    pub(super) fn port(&self, port: &Value) -> Result<u16> {
        spec::port(&self.object["spec"]["containers"][0], port)
    }

    /// A program of the pod's image, run in the pod as `kubectl exec` does.
    pub fn exec(&self, program: &str) -> Result<Command> {
        let process = self.process.as_ref().context("nothing runs in it")?;
        let target = process.id().to_string();
        let enter = self.host.command("nsenter");
        let enter = enter.args(["--target", &target, "--mount", "--root", "--wd"]);
        Ok(enter.arg("--").arg(program))
    }

    /// The output of its container.
    pub fn log(&self) -> Vec<String> {
        self.process
            .as_ref()
            .map(Process::stderr)
            .unwrap_or_default()
    }

    /// Updates its mounted Secrets, as a kubelet does within two minutes of a change.
    pub fn sync_secrets(&self, kube: &Kube) -> Result<()> {
        self.volumes.sync(kube, &self.host, &self.object)
    }
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("no text: {value}"))
}

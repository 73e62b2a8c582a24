//! A cluster that runs deploy/ exactly as written.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    Kube, Pod, Probe,
    objects::{self, Endpoint},
    site::{WEB, deploy},
};
use crate::{
    lab::{Host, Lab},
    wait::{wait_for, wait_until},
};

/// More than anything here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The address families of nodes and pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Both families; pods see IPv4.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// An installation: a control plane, controllers on their own hosts, agents on nodes.
///
/// There are no workload controllers: the pods are created at the start, and stay.
#[derive(Debug)]
pub struct Installation {
    /// The controllers.
    pub controllers: Vec<Pod>,
    /// The agents, each on its node.
    pub agents: Vec<Pod>,
    /// The nodes: `node-a`, `node-b`, …
    pub nodes: Vec<Arc<Host>>,
    /// A host that is not a node.
    pub client: Host,
    /// The control plane.
    pub kube: Kube,
    namespace: String,
    family: Family,
}

impl Installation {
    /// Applies a directory, below deploy/, that installs into a namespace, and waits until
    /// everything is ready.
    pub fn start(lab: &Lab, directory: &str, namespace: &str, family: Family) -> Result<Self> {
        let kube = Kube::start(lab)?;
        kube.kustomize(&deploy().join(directory))?;
        let mut this = Self {
            controllers: Vec::new(),
            agents: Vec::new(),
            nodes: Vec::new(),
            client: lab.host("client")?,
            kube,
            namespace: namespace.to_owned(),
            family,
        };
        let mut hosts = Vec::new();
        for name in ["infra-a", "infra-b", "node-a", "node-b", "node-c"] {
            let host = Arc::new(lab.host(name)?);
            this.kube.join(&host, &[])?;
            if family == Family::Ipv6 {
                host.ip("-4 address flush dev eth0")?;
            }
            hosts.push(host);
        }
        this.nodes = hosts.split_off(2);

        // The controllers create the Secret that the agents' pods wait for.
        for host in &hosts {
            let pod = this.run("deployment/speaker-controller", host)?;
            this.controllers.push(pod);
        }
        this.connect_webhooks()?;
        let secret = this.named("secret/speaker-memberlist");
        wait_until("the agents' key", LIMIT, || {
            Ok(this.kube.get(&secret).is_ok())
        })?;
        for host in &this.nodes {
            let pod = this.run("daemonset/speaker-agent", host)?;
            this.agents.push(pod);
        }
        let all = || this.controllers.iter().chain(&this.agents);
        for probe in [Probe::Liveness, Probe::Readiness] {
            wait_until(&format!("{probe:?}"), LIMIT, || {
                Ok(all().all(|pod| pod.probe(probe).is_ok()))
            })?;
        }
        Ok(this)
    }

    /// Runs a pod of a workload of the installation.
    pub fn run(&self, workload: &str, host: &Arc<Host>) -> Result<Pod> {
        let ip = self.address(host);
        self.kube.run_pod(&self.named(workload), host, ip)
    }

    /// An object of the installation's namespace, as named by kubectl.
    pub fn named(&self, object: &str) -> String {
        format!("{object} --namespace={}", self.namespace)
    }

    /// Creates a pool, its advertisement, and a Service. Returns the Service's address.
    pub fn serve(&self) -> Result<IpAddr> {
        let (kind, pool, node) = match self.family {
            Family::Ipv4 => ("IPv4", "10.9.9.0/24", false),
            Family::Ipv6 => ("IPv6", "fd00::9:0/112", true),
        };
        let configure = || {
            self.kube.apply(&objects::list([
                self.configuration("IPAddressPool", json!({ "addresses": [pool] })),
                self.configuration("L2Advertisement", json!({})),
            ]))
        };
        // The webhooks are trusted once a controller has written its certificate authority.
        wait_until("the webhooks", LIMIT, || Ok(configure().is_ok())).or_else(|_| configure())?;
        let mut service = objects::service("web", &WEB);
        service["spec"]["ipFamilyPolicy"] = json!("SingleStack");
        service["spec"]["ipFamilies"] = json!([kind]);
        let endpoint = Endpoint::on(&self.nodes[0], node);
        let slice = objects::endpoint_slice("web", &[endpoint], &WEB);
        self.kube.apply(&objects::list([service, slice]))?;
        wait_for("an address", LIMIT, || {
            let service = self.kube.get("service/web --namespace=default")?;
            let given = &service["status"]["loadBalancer"]["ingress"][0]["ip"];
            Ok(given.as_str().and_then(|ip| ip.parse().ok()))
        })
    }

    fn configuration(&self, kind: &str, spec: Value) -> Value {
        json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": kind,
            "metadata": { "name": "lan", "namespace": self.namespace },
            "spec": spec,
        })
    }

    fn address(&self, host: &Host) -> IpAddr {
        match self.family {
            Family::Ipv4 => host.eth0.ipv4.into(),
            Family::Ipv6 => host.eth0.ipv6.into(),
        }
    }

    /// Points the webhooks' Service to the controllers, as the endpoints controller does.
    fn connect_webhooks(&self) -> Result<()> {
        let service = self.kube.get(&self.named("service/speaker-webhook"))?;
        let selector = service["spec"]["selector"].as_object().context("none")?;
        let port = &service["spec"]["ports"][0];
        let mut subsets = Vec::new();
        for pod in &self.controllers {
            let labels = &pod.object["metadata"]["labels"];
            ensure!(
                selector.iter().all(|(name, value)| labels[name] == *value),
                "{selector:?} does not select {labels}"
            );
            subsets.push(json!({
                "addresses": [{ "ip": pod.object["status"]["podIP"] }],
                "ports": [{
                    "name": port["name"],
                    "protocol": port["protocol"],
                    "port": pod.port(&port["targetPort"])?,
                }],
            }));
        }
        self.kube.apply(&json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": { "name": "speaker-webhook", "namespace": self.namespace },
            "subsets": subsets,
        }))
    }
}

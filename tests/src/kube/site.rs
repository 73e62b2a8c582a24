//! A cluster as users have it: what deploy/ installs, and agents with exactly those permissions.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{
    Identity, Kube, get,
    objects::{self, Endpoint, Port},
};
use crate::{
    agent::{Mode, Node},
    cluster::agreed,
    lab::{Command, Host, Lab, Process},
    wait::{wait_for, wait_until},
};

/// The namespace that deploy/ creates.
pub const NAMESPACE: &str = "speaker-system";
/// More than anything here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// The agents' key.
const KEY: &str = "the secret of the nodes in the lab\n";
/// A web server on port 80.
pub const WEB: [Port<'static>; 1] = [("TCP", 80, 8080)];

/// A control plane with deploy/ applied, nodes, and an ordinary client.
#[derive(Debug)]
pub struct Site {
    /// The control plane.
    pub kube: Kube,
    /// The nodes: `node-a`, `node-b`, …
    pub nodes: Vec<Node>,
    /// A host that is not a node.
    pub client: Host,
    key: NamedTempFile,
}

/// Every test asserts that agents and controllers request nothing that they are not permitted to.
impl Drop for Site {
    fn drop(&mut self) {
        // A failing test has its own reason.
        if !std::thread::panicking() {
            let forbidden = self.kube.forbidden().expect("the audit log can be read");
            assert!(
                forbidden.is_empty(),
                "without a right to it: {forbidden:#?}"
            );
        }
    }
}

impl Site {
    /// Nodes without running agents, and no webhooks, since no controller runs to serve them. There
    /// is a pool `lan` of all of 10.0.0.0/8 and fd00::/8, and an advertisement of it.
    pub fn new(lab: &Lab, size: u8) -> Result<Self> {
        let kube = Kube::start(lab)?;
        kube.kustomize(&deploy())?;
        // Until a test enables them with `webhooks`.
        let webhook = "delete validatingwebhookconfiguration speaker-webhook-configuration";
        kube.kubectl(webhook.split(' ')).unheard().run()?;
        let mut site = Self {
            kube,
            nodes: Vec::new(),
            client: lab.host("client")?,
            key: tempfile::Builder::new().prefix("key").tempfile()?,
        };
        fs::write(&site.key, KEY)?;
        site.kube.apply(&json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": "speaker-memberlist", "namespace": NAMESPACE },
            "stringData": { "secretkey": KEY },
        }))?;
        wait_until("the custom resources", LIMIT, || {
            Ok(site.apply_pool("lan", &["10.0.0.0/8", "fd00::/8"]).is_ok())
        })?;
        site.kube.apply(&advertisement("all", json!({})))?;
        for number in 0..size {
            let name = format!("node-{}", char::from(b'a' + number));
            site.add_node(lab, &name)?;
        }
        Ok(site)
    }

    /// Nodes whose agents have met.
    pub fn started(lab: &Lab, size: u8) -> Result<Self> {
        let mut site = Self::new(lab, size)?;
        for node in &mut site.nodes {
            node.spawn()?;
        }
        for node in &mut site.nodes {
            node.agent().wait_for_line("ready", LIMIT)?;
        }
        Ok(site)
    }

    /// Adds a node, with a pod for its agent as the DaemonSet controller creates it, without
    /// starting the agent.
    pub fn add_node(&mut self, lab: &Lab, name: &str) -> Result<usize> {
        let mut node = Node::new(lab, name, Mode::Generic)?;
        self.kube.join(&node.host, &[])?;
        let account = Identity::ServiceAccount(NAMESPACE, "speaker-agent");
        let kubeconfig = self.kube.kubeconfig(account)?;
        let kubeconfig = kubeconfig.display().to_string();
        node.source = vec!["--kubeconfig".to_owned(), kubeconfig];
        let key = self.key.path().to_str().context("UTF-8")?;
        let own = node.host.eth0.ipv4;
        node.arguments = vec![
            format!("--gossip-bind={own}"),
            format!("--cluster-key-file={key}"),
        ];
        self.nodes.push(node);
        let number = self.nodes.len() - 1;
        self.add_pod(number)?;
        Ok(number)
    }

    /// Creates the pod of a node's agent, as the DaemonSet controller and the kubelet do.
    pub fn add_pod(&self, number: usize) -> Result<()> {
        let host = &self.nodes[number].host;
        let (name, own) = (host.name(), host.eth0.ipv4);
        self.kube.apply(&pod(name))?;
        let status = json!({ "phase": "Running", "podIP": own, "hostIP": own });
        let pod = format!("pod/speaker-agent-{name} --namespace={NAMESPACE}");
        self.kube.patch_status(&pod, &status)
    }

    /// Deletes the pod of a node's agent, as when a taint keeps it off the node.
    pub fn delete_pod(&self, number: usize) -> Result<()> {
        let pod = format!("pod/speaker-agent-{}", self.nodes[number].host.name());
        let namespace = format!("--namespace={NAMESPACE}");
        let delete = ["delete", &pod, &namespace, "--force", "--grace-period=0"];
        self.kube.kubectl(delete).unheard().run().map(drop)
    }

    /// Waits until a node's agent has saved a VIP for a restart, which it does every few seconds.
    pub fn remembers(&self, number: usize, vip: IpAddr) -> Result<()> {
        let host = &self.nodes[number].host;
        let written = || fs::read_to_string("/run/lab/state/last-known-objects.json");
        wait_until("what is known to be written down", LIMIT, || {
            Ok(host
                .run(written)
                .is_ok_and(|it| it.contains(&vip.to_string())))
        })
    }

    /// Enables the webhooks, once a controller has made the API server trust them.
    pub fn webhooks(&self) -> Result<()> {
        self.kube.kustomize(&deploy())
    }

    /// Points the webhooks' Service to these ports of the control plane's host.
    pub fn webhooks_at(&self, ports: &[u16]) -> Result<()> {
        let address = self.kube.host.eth0.ipv4;
        let subsets = ports.iter().map(|port| {
            json!({
                "addresses": [{ "ip": address }],
                "ports": [{ "name": "webhook", "protocol": "TCP", "port": port }],
            })
        });
        self.kube.apply(&json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": { "name": "speaker-webhook", "namespace": NAMESPACE },
            "subsets": subsets.collect::<Vec<_>>(),
        }))
    }

    /// Starts kube-proxy on every node.
    pub fn proxies(&self) -> Result<Vec<Process>> {
        let nodes = self.nodes.iter();
        nodes
            .map(|node| self.kube.proxy(&node.host, "iptables"))
            .collect()
    }

    /// Writes a pool.
    pub fn apply_pool(&self, name: &str, addresses: &[&str]) -> Result<()> {
        self.kube.apply(&json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": { "addresses": addresses },
        }))
    }

    /// Creates a Service with endpoints on these nodes, and with these addresses as from a
    /// controller.
    pub fn serve(&self, service: &Value, on: &[usize], vips: &[IpAddr]) -> Result<()> {
        let name = service["metadata"]["name"].as_str().context("a name")?;
        self.kube.apply(service)?;
        self.endpoints(name, on)?;
        self.kube.ingress(&format!("default/{name}"), vips)
    }

    /// Moves the endpoints of a Service of [`WEB`] to these nodes.
    pub fn endpoints(&self, service: &str, on: &[usize]) -> Result<()> {
        let of = |is_ipv6| {
            let hosts = on.iter().map(|number| &self.nodes[*number].host);
            let endpoints: Vec<Endpoint<'_>> =
                hosts.map(|host| Endpoint::on(host, is_ipv6)).collect();
            let mut slice = objects::endpoint_slice(service, &endpoints, &WEB);
            let family = if is_ipv6 { "ipv6" } else { "ipv4" };
            slice["metadata"]["name"] = json!(format!("{service}-{family}"));
            slice["addressType"] = json!(if is_ipv6 { "IPv6" } else { "IPv4" });
            slice
        };
        self.kube.apply(&objects::list([of(false), of(true)]))
    }

    /// The node that answers for a VIP: waits until one does, and all others know.
    pub fn owner(&self, vip: IpAddr) -> Result<usize> {
        let among: Vec<usize> = (0..self.nodes.len()).collect();
        self.owner_among(&among, vip)
    }

    /// The node that answers for a VIP: waits until these agree on one.
    pub fn owner_among(&self, among: &[usize], vip: IpAddr) -> Result<usize> {
        wait_for(&format!("an owner of {vip}"), LIMIT, || {
            Ok(agreed(&self.nodes, among, vip))
        })
    }

    /// Waits until no node answers for a VIP.
    pub fn unanswered(&self, vip: IpAddr) -> Result<()> {
        wait_until(&format!("nobody to answer for {vip}"), LIMIT, || {
            let mut nodes = self.nodes.iter();
            Ok(nodes.all(|node| {
                let explained = node.explain(vip);
                explained.is_ok_and(|it| it.state != "answering" && it.owner.is_none())
            }))
        })
    }

    /// The nodes that announce a Service according to the cluster, with their interfaces.
    pub fn announcers(&self, service: &str) -> Result<Vec<(String, Vec<String>)>> {
        let label = format!("--selector=metallb.io/service-name={service}");
        let list = self.kube.get(&format!(
            "servicel2statuses --namespace={NAMESPACE} {label}"
        ))?;
        let items = list["items"].as_array().context("a list")?;
        Ok(items
            .iter()
            .map(|item| {
                let status = &item["status"];
                let interfaces = status["interfaces"].as_array().into_iter().flatten();
                let names = interfaces.map(|it| text(&it["name"]));
                (text(&status["node"]), names.collect())
            })
            .collect())
    }

    /// Waits until, according to the cluster, exactly this node announces a Service.
    pub fn announced_by(&self, service: &str, node: Option<usize>) -> Result<()> {
        let name = node.map(|number| self.nodes[number].host.name().to_owned());
        let mut said = Vec::new();
        wait_until(&format!("{name:?} to announce {service}"), LIMIT, || {
            said = self.announcers(service)?;
            let names: Vec<&String> = said.iter().map(|(name, _)| name).collect();
            Ok(names == name.iter().collect::<Vec<_>>())
        })
        .with_context(|| format!("what is said: {said:?}"))
    }

    /// Waits until the client gets an answer.
    pub fn until_reached(&self, to: SocketAddr, within: Duration) -> Result<()> {
        wait_until("an answer", within, || {
            Ok(get(&self.client, to, within).is_ok())
        })
    }

    /// A controller on the host of the control plane, with exactly the permissions in deploy/.
    pub fn controller(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let account = Identity::ServiceAccount(NAMESPACE, "speaker-controller");
        let kubeconfig = self.kube.kubeconfig(account)?;
        let controller = self.kube.host.speaker()?.arg("controller");
        let controller = controller.arg("--kubeconfig").arg(kubeconfig);
        Ok(controller.args(["--identity", name]).args(arguments))
    }

    /// The events of a Service with this reason, as people read them.
    pub fn events(&self, service: &str, reason: &str) -> Result<Vec<String>> {
        let list = self.kube.get("events --namespace=default")?;
        let items = list["items"].as_array().context("a list")?;
        Ok(items
            .iter()
            .filter(|item| item["reason"] == reason && item["involvedObject"]["name"] == service)
            .map(|item| text(&item["message"]))
            .collect())
    }

    /// Sets labels of an object, or removes them (`label-`).
    pub fn label(&self, object: &str, labels: &[&str]) -> Result<()> {
        let label = self.kube.kubectl(["label", "--overwrite"]);
        label
            .args(object.split(' '))
            .args(labels)
            .unheard()
            .run()
            .map(drop)
    }
}

/// The manifests that users install.
pub(super) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// An advertisement of all pools.
pub fn advertisement(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "L2Advertisement",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": spec,
    })
}

/// The pod of the agent of a node.
pub fn pod(node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("speaker-agent-{node}"),
            "namespace": NAMESPACE,
            "labels": {
                "app.kubernetes.io/name": "speaker",
                "app.kubernetes.io/component": "speaker",
            },
        },
        "spec": {
            "nodeName": node,
            "hostNetwork": true,
            "containers": [{ "name": "agent", "image": "localhost/speaker" }],
        },
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

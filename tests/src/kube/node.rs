//! Hosts that are nodes of the cluster.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::{Identity, Kube, control_plane::FEATURES, objects, visitor::ask};
use crate::{
    lab::{Host, Process},
    wait::wait_until,
};

/// More than kube-proxy takes to write its rules, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Where kube-proxy reports whether it has written its rules.
const HEALTH: &str = "127.0.0.1:10256";

impl Kube {
    /// Makes a host a ready node, as its kubelet would.
    pub fn join(&self, host: &Host, labels: &[(&str, &str)]) -> Result<()> {
        self.apply(&objects::node(host.name(), labels))?;
        let (v4, v6) = (host.eth0.ipv4, host.eth0.ipv6);
        let status = json!({
            "addresses": [
                { "type": "InternalIP", "address": v4 },
                { "type": "InternalIP", "address": v6 },
                { "type": "Hostname", "address": host.name() },
            ],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
        });
        self.patch_status(&format!("node/{}", host.name()), &status)
    }

    /// Starts kube-proxy on a node, in the mode `iptables` or `ipvs`, and waits until it is healthy.
    pub fn proxy(&self, host: &Host, mode: &str) -> Result<Process> {
        for family in ["ipv4", "ipv6"] {
            host.sysctl(&format!("net.{family}.conf.all.forwarding"), "1")?;
        }
        let kubeconfig = self.kubeconfig(Identity::User("system:kube-proxy", "lab:proxies"))?;
        let proxy = host
            .command(self.programs.join("kube-proxy"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--hostname-override", host.name()])
            .args(["--feature-gates", FEATURES])
            .args(["--proxy-mode", mode])
            // Apply changes at once, not after a second.
            .args(["--iptables-min-sync-period", "50ms"])
            .args(["--ipvs-min-sync-period", "50ms"])
            // These settings belong to the machine, and tests must not change them.
            .args(["--conntrack-max-per-core", "0"])
            .args(["--conntrack-tcp-timeout-established", "0"])
            .args(["--conntrack-tcp-timeout-close-wait", "0"])
            .args(["--healthz-bind-address", HEALTH])
            .unheard()
            .spawn()?;
        let healthy = wait_until("kube-proxy", LIMIT, || {
            let health = HEALTH.parse()?;
            Ok(host.run(|| ask(health, "/healthz", LIMIT)).is_ok())
        });
        healthy.map_err(|error| error.context(proxy.stderr().join("\n")))?;
        Ok(proxy)
    }
}

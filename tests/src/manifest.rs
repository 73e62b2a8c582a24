//! Manifests, as `speaker agent --manifests` reads them.

use std::{fmt::Display, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::json;
use tempfile::TempDir;

/// A directory of manifests, removed on drop.
#[derive(Debug)]
pub struct Manifests(TempDir);

impl Manifests {
    /// An empty one.
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes or replaces a file atomically: no reader sees half of it.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        // Editors and configuration management do it like this.
        let new = self.path().join(format!(".{file}.new"));
        fs::write(&new, text)
            .and_then(|()| fs::rename(new, self.path().join(file)))
            .with_context(|| format!("writing {file}"))
    }

    /// Removes a file.
    pub fn remove(&self, file: &str) -> Result<()> {
        fs::remove_file(self.path().join(file)).with_context(|| format!("removing {file}"))
    }
}

/// A pool of these addresses: prefixes or ranges.
pub fn pool(name: &str, addresses: &[&str]) -> String {
    let addresses = quoted(addresses);
    format!(
        "---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{ name: {name}, namespace: metallb-system }}
spec: {{ addresses: [{addresses}] }}
"
    )
}

/// An advertisement of these pools on these interfaces; if none is named, on all.
pub fn advertisement(name: &str, pools: &[&str], interfaces: &[&str]) -> String {
    let (pools, interfaces) = (quoted(pools), quoted(interfaces));
    format!(
        "---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {{ name: {name}, namespace: metallb-system }}
spec: {{ ipAddressPools: [{pools}], interfaces: [{interfaces}] }}
"
    )
}

/// A Service with these addresses.
pub fn service(name: &str, addresses: &[impl Display]) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join(",");
    format!(
        "---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  annotations: {{ metallb.io/loadBalancerIPs: \"{addresses}\" }}
spec: {{ type: LoadBalancer, ports: [{{ port: 80 }}] }}
"
    )
}

/// The Services `web-0`, `web-1` and so on with these addresses, as `kubectl get services -o json`
/// prints them.
pub fn services<A: Display>(addresses: impl Iterator<Item = Vec<A>>) -> String {
    let service = |(number, addresses): (usize, Vec<A>)| {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "namespace": "default",
                "name": format!("web-{number}"),
                "annotations": { "metallb.io/loadBalancerIPs": addresses.join(",") },
            },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
        })
    };
    let items: Vec<_> = addresses.enumerate().map(service).collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

fn quoted(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    quoted.join(", ")
}

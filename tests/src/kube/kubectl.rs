//! The API as people use it: with kubectl.

use std::{ffi::OsStr, fmt::Display, io::Write as _, net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Identity, Kube};
use crate::lab::Command;

/// More than kubectl takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

impl Kube {
    /// kubectl with these arguments, as administrator.
    pub fn kubectl(&self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Command {
        self.kubectl_with(&self.admin(), arguments)
    }

    /// kubectl with these arguments, as another user.
    pub fn kubectl_as(
        &self,
        identity: Identity<'_>,
        arguments: impl IntoIterator<Item: AsRef<OsStr>>,
    ) -> Result<Command> {
        Ok(self.kubectl_with(&self.kubeconfig(identity)?, arguments))
    }

    /// Applies manifests: YAML, or objects from [`objects`](super::objects). Unknown fields are
    /// refused.
    pub fn apply(&self, manifests: &impl Display) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.files.path())?;
        write!(file, "{manifests}")?;
        let apply = self.kubectl(["apply", "--filename"]).arg(file.path());
        apply.unheard().run()?;
        Ok(())
    }

    /// Applies the output of `kubectl kustomize` for a directory. That includes definitions of
    /// custom resources with CEL rules, which this API server does not know, so unknown fields are
    /// dropped here.
    pub fn kustomize(&self, directory: &Path) -> Result<()> {
        let apply = self.kubectl(["apply", "--validate=false", "--kustomize"]);
        apply.arg(directory).unheard().run()?;
        Ok(())
    }

    /// The result of `kubectl get` with these arguments: an object, or a list with `items`.
    pub fn get(&self, words: &str) -> Result<Value> {
        let get = self.kubectl(["get", "--output=json"]);
        let text = get.args(words.split_whitespace()).unheard().run()?;
        serde_json::from_str(&text).with_context(|| format!("reading {text}"))
    }

    /// Merges into the status of an object, named as `kubectl` does: `service/web --namespace=a`.
    pub fn patch_status(&self, words: &str, status: &Value) -> Result<()> {
        let patch = json!({ "status": status }).to_string();
        let arguments = ["patch", "--subresource=status", "--type=merge", "--patch"];
        let patch = self.kubectl(arguments).arg(patch);
        patch.args(words.split_whitespace()).unheard().run()?;
        Ok(())
    }

    /// Assigns a Service its addresses, as a controller does.
    pub fn ingress(&self, service: &str, vips: &[IpAddr]) -> Result<()> {
        let (namespace, name) = service.split_once('/').context("namespace/name")?;
        let ingress: Vec<Value> = vips.iter().map(|vip| json!({ "ip": vip })).collect();
        let status = json!({ "loadBalancer": { "ingress": ingress } });
        self.patch_status(&format!("service/{name} --namespace={namespace}"), &status)
    }

    fn kubectl_with(
        &self,
        kubeconfig: &Path,
        arguments: impl IntoIterator<Item: AsRef<OsStr>>,
    ) -> Command {
        self.host
            .command(self.programs.join("kubectl"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--cache-dir")
            .arg(self.files.path().join("cache"))
            .args(arguments)
            .limit(LIMIT)
    }
}

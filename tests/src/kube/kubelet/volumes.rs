//! What is mounted into containers.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::text;
use crate::{kube::Kube, lab::Host};

/// Where programs look for the credentials of their ServiceAccount.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Hosts of the lab share the machine's file system: what pods mount from it is here instead, on a
/// separate file system per host.
const NODE: &str = "/run/node";

/// A host path that is mounted into a container.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
    pub(super) read_only: bool,
}

/// The volumes of a pod.
#[derive(Debug)]
pub(super) struct Volumes {
    /// The name of each, and its directory on the host.
    sources: Vec<(String, PathBuf)>,
    account: Option<PathBuf>,
}

impl Volumes {
    /// Creates all that a pod mounts. As with a kubelet, a pod whose Secret is missing does not
    /// start.
    pub(super) fn make(kube: &Kube, host: &Host, pod: &Value) -> Result<Self> {
        let spec = &pod["spec"];
        let own = own(pod)?;
        let mut sources = Vec::new();
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            let name = text(&volume["name"])?;
            let source = match volume.get("hostPath") {
                Some(path) => host.run(|| host_path(path))?,
                None => own.join(name),
            };
            sources.push((name.to_owned(), source));
        }
        let mut account = None;
        if spec["automountServiceAccountToken"] != false {
            let directory = own.join("account");
            let (namespace, name) = (&pod["metadata"]["namespace"], &spec["serviceAccountName"]);
            let namespace = text(namespace)?;
            let files = [
                ("token", kube.token(namespace, text(name)?)?.into_bytes()),
                ("namespace", namespace.as_bytes().to_vec()),
                ("ca.crt", fs::read(kube.authority.certificate())?),
            ];
            host.run(|| publish(&directory, &files, 0o644))?;
            account = Some(directory);
        }
        let volumes = Self { sources, account };
        volumes.sync(kube, host, pod)?;
        Ok(volumes)
    }

    /// Writes the current content of the Secrets.
    pub(super) fn sync(&self, kube: &Kube, host: &Host, pod: &Value) -> Result<()> {
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            let Some(source) = volume.get("secret") else {
                ensure!(volume.get("hostPath").is_some(), "unknown: {volume}");
                continue;
            };
            let (name, namespace) = (&source["secretName"], &pod["metadata"]["namespace"]);
            let words = format!("secret/{} --namespace={}", text(name)?, text(namespace)?);
            let secret: Secret = serde_json::from_value(kube.get(&words)?)?;
            let files: Vec<(&str, Vec<u8>)> = secret
                .data
                .iter()
                .flatten()
                .map(|(key, value)| (key.as_str(), value.0.clone()))
                .collect();
            let mode = source["defaultMode"].as_u64().context("no mode")?;
            let directory = own(pod)?.join(text(&volume["name"])?);
            host.run(|| publish(&directory, &files, mode.try_into()?))?;
        }
        Ok(())
    }

    /// The mounts of a container of the pod.
    pub(super) fn mounts(&self, container: &Value) -> Result<Vec<Mount>> {
        let account = self.account.iter().map(|source| Mount {
            source: source.clone(),
            target: ACCOUNT.into(),
            read_only: true,
        });
        let mut mounts: Vec<Mount> = account.collect();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let name = text(&mount["name"])?;
            let source = self.sources.iter().find(|(known, _)| known == name);
            let (_, source) = source.with_context(|| format!("no volume is called {name}"))?;
            mounts.push(Mount {
                source: source.clone(),
                target: text(&mount["mountPath"])?.into(),
                read_only: mount["readOnly"] == true,
            });
        }
        Ok(mounts)
    }
}

/// The directory of a node's path, as seen from outside the pod.
pub(super) fn on_node(path: &str) -> PathBuf {
    // These belong to each host.
    if path.starts_with("/sys/") || path.starts_with("/run/") {
        return path.into();
    }
    Path::new(NODE).join(path.trim_start_matches('/'))
}

fn own(pod: &Value) -> Result<PathBuf> {
    let name = text(&pod["metadata"]["name"])?;
    Ok(on_node("/var/lib/kubelet/pods").join(name).join("volumes"))
}

fn host_path(volume: &Value) -> Result<PathBuf> {
    let path = on_node(text(&volume["path"])?);
    match text(&volume["type"])? {
        "Directory" => ensure!(path.is_dir(), "{} is no directory", path.display()),
        "DirectoryOrCreate" => fs::create_dir_all(&path)?,
        other => bail!("unknown type of a path: {other:?}"),
    }
    Ok(path)
}

/// Puts files into a directory so that readers see all old ones or all new ones: `file` is a link to
/// `..data/file`, and `..data` is a link to a directory that is never written again.
fn publish(directory: &Path, files: &[(&str, Vec<u8>)], mode: u32) -> Result<()> {
    fs::create_dir_all(directory)?;
    let new = tempfile::Builder::new()
        .prefix("..")
        .tempdir_in(directory)?;
    let new = new.keep();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    for (name, content) in files {
        let file = new.join(name);
        fs::write(&file, content)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
    }
    let data = directory.join("..data");
    let old = fs::read_link(&data).ok();
    let next = directory.join("..data_tmp");
    symlink(new.file_name().context("it has a name")?, &next)?;
    fs::rename(&next, &data)?;
    for (name, _) in files {
        let link = directory.join(name);
        if old.is_none() {
            symlink(Path::new("..data").join(name), link)?;
        }
    }
    if let Some(old) = old {
        fs::remove_dir_all(directory.join(old))?;
    }
    Ok(())
}

//! The image, and how a container of it is started.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{spec, text, volumes::Mount};
use crate::lab::{Command, Host, speaker_program};

/// Its name in the manifests.
const NAME: &str = "localhost/speaker";

/// Lays out a root file system, in a mount namespace that ends with the program, and becomes it.
///
/// In addition to the image's program, it has the libraries that a test build needs, and setpriv,
/// which runs within the new root because it drops the last privileges.
const START: &str = r#"
set -e
program=$1 entrypoint=$2 read_only=$3 mounts=$4; shift 4
root=/run/container
mkdir -p $root
mount -t tmpfs -o mode=0755 container $root
bind() { # source target options
    if [ -d "$1" ]; then mkdir -p "$root$2"
    else mkdir -p "$(dirname "$root$2")"; touch "$root$2"; fi
    mount --bind "$1" "$root$2"
    mount -o remount,bind,$3 "$root$2"
}
bind "$program" "$entrypoint" ro
bind "$(command -v setpriv)" /.setpriv ro
for libraries in /lib /lib64 /usr/lib /usr/lib64; do
    if [ -L $libraries ]; then cp -P $libraries $root$libraries
    elif [ -d $libraries ]; then bind $libraries $libraries ro; fi
done
mkdir $root/proc
mount --rbind /proc $root/proc
bind /sys /sys ro
while [ $mounts -gt 0 ]; do
    bind "$1" "$2" "$3"
    shift 3
    mounts=$((mounts - 1))
done
mount -o remount,bind,$read_only $root
exec chroot $root /.setpriv "$@"
"#;

/// The settings of the Dockerfile.
#[derive(Debug)]
pub(super) struct Image {
    entrypoint: String,
    user: (u64, u64),
}

impl Image {
    pub(super) fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/Dockerfile");
        let text = fs::read_to_string(path)?;
        let instruction = |name: &str| {
            let mut lines = text.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .with_context(|| format!("no {name} in the Dockerfile"))
        };
        let entrypoint: Vec<String> = serde_json::from_str(instruction("ENTRYPOINT ")?)?;
        let [entrypoint] = &entrypoint[..] else {
            bail!("the entry point is {entrypoint:?}");
        };
        let (user, group) = instruction("USER ")?.split_once(':').context("no group")?;
        Ok(Self {
            entrypoint: entrypoint.clone(),
            user: (user.parse()?, group.parse()?),
        })
    }

    /// Whether a container is of this image.
    pub(super) fn is_of(&self, container: &Value) -> bool {
        let name = container["image"].as_str();
        name.is_some_and(|it| it.split(':').next() == Some(NAME))
    }

    /// A container of a pod, about to be started.
    pub(super) fn command(
        &self,
        host: &Host,
        pod: &Value,
        container: &Value,
        environment: &[(String, String)],
        mounts: &[Mount],
    ) -> Result<Command> {
        let security = &container["securityContext"];
        ensure!(container.get("command").is_none(), "it has a command");
        let read_only = security["readOnlyRootFilesystem"] == true;
        let option = |read_only| if read_only { "ro" } else { "rw" };
        let mut command = host
            .command("env")
            .args(["-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        for (name, value) in environment {
            command = command.arg(format!("{name}={value}"));
        }
        command = command
            .args(["unshare", "--mount", "sh", "-c", START, "container"])
            .arg(speaker_program()?)
            .args([self.entrypoint.as_str(), option(read_only)])
            .arg(mounts.len().to_string());
        for mount in mounts {
            let paths: [&PathBuf; 2] = [&mount.source, &mount.target];
            command = command.args(paths).arg(option(mount.read_only));
        }
        Ok(command
            .args(self.privileges(&pod["spec"], security)?)
            .args(["--", &self.entrypoint])
            .args(spec::arguments(container, environment)?))
    }

    /// As arguments for setpriv.
    fn privileges(&self, pod: &Value, container: &Value) -> Result<Vec<String>> {
        let setting = |name: &str| container.get(name).or(pod["securityContext"].get(name));
        let id = |name| setting(name).and_then(Value::as_u64);
        // The image has no /etc/passwd that could give a user another group.
        let (user, group) = id("runAsUser").map_or(self.user, |user| (user, 0));
        let group = id("runAsGroup").unwrap_or(group);
        let is_root = setting("runAsNonRoot") == Some(&Value::Bool(true)) && user == 0;
        ensure!(!is_root, "it must not be root, and is");
        let capabilities = &container["capabilities"];
        ensure!(
            capabilities["drop"] == serde_json::json!(["ALL"]),
            "it keeps capabilities that differ from runtime to runtime"
        );
        let mut bounds = "--bounding-set=-all".to_owned();
        for added in capabilities["add"].as_array().into_iter().flatten() {
            bounds += &format!(",+{}", text(added)?.to_lowercase());
        }
        let mut arguments = vec![
            format!("--reuid={user}"),
            format!("--regid={group}"),
            "--clear-groups".to_owned(),
            "--inh-caps=-all".to_owned(),
            bounds,
        ];
        if container["allowPrivilegeEscalation"] == false {
            arguments.push("--no-new-privs".to_owned());
        }
        Ok(arguments)
    }
}

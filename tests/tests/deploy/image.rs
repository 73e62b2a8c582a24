//! The container image: what is in it, and that an agent runs from it.

use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use speaker_tests::{
    agent::{Mode, Node},
    asker::Asker,
    lab::{self, Missing},
};
use tempfile::TempDir;

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 9, 9));
const SOON: Duration = Duration::from_secs(20);

/// An image as unpacked by a container runtime.
struct Image {
    root: TempDir,
    config: Value,
}

impl Image {
    /// Unpacks what `cargo xtask image` has made; `SPEAKER_IMAGE` says where.
    fn unpack() -> Result<Self> {
        let archive = match env::var_os("SPEAKER_IMAGE") {
            Some(path) => PathBuf::from(path),
            None => bail!(Missing::Program("SPEAKER_IMAGE".to_owned())),
        };
        let unpacked = tempfile::tempdir()?;
        extract(&archive, unpacked.path())?;
        let manifest = json(&unpacked.path().join("manifest.json"))?;
        let image = &manifest[0];
        let config = json(
            &unpacked
                .path()
                .join(image["Config"].as_str().context("no config")?),
        )?;
        let root = tempfile::tempdir()?;
        for layer in image["Layers"].as_array().context("no layers")? {
            let layer = layer.as_str().context("a layer's name")?;
            extract(&unpacked.path().join(layer), root.path())?;
        }
        Ok(Self { root, config })
    }
}

fn extract(archive: &Path, into: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("--extract")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(into);
    let output = tar.output()?;
    ensure!(output.status.success(), "{archive:?}: {output:?}");
    Ok(())
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn the_image_holds_one_program_and_its_licences_and_runs_unprivileged() {
    crate::objects::test(|| {
        let Image { root, config } = Image::unpack()?;
        let mut files: Vec<_> = fs::read_dir(root.path())?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        files.sort();
        assert_eq!(files, ["licenses", "speaker"]);
        assert_eq!(config["config"]["Entrypoint"], json!(["/speaker"]));
        assert_eq!(config["config"]["User"], "65532:65532");
        Ok(())
    });
}

#[test]
fn an_agent_runs_from_the_image_with_only_the_mounts_of_the_manifests() {
    lab::test(|lab| {
        let image = Image::unpack()?;
        let root = image.root.path();
        let node = Node::new(lab, "node-a", Mode::Generic)?;
        let client = lab.host("client")?;
        node.serve("web", &[VIP])?;
        // What the runtime mounts: its own /proc, and the host's directories.
        let mounted = [
            ("/proc", "proc"),
            ("/sys/fs/bpf", "run/bpf"),
            ("/run/lab", "var/lib/speaker"),
        ];
        let manifests = node.manifests.path().display().to_string();
        node.host.run(|| fs::create_dir_all("/run/lab"))?;
        fs::create_dir(root.join("manifests"))?;
        let mounts = mounted
            .iter()
            .copied()
            .chain([(manifests.as_str(), "manifests")]);
        let mut script = "set -e\n".to_owned();
        for (from, to) in mounts {
            let to = root.join(to);
            fs::create_dir_all(&to)?;
            script += &format!("mount --rbind {from} {}\n", to.display());
        }
        script += "exec chroot \"$0\" /speaker agent --node-name node-a --xdp-mode generic \
                   --manifests /manifests";
        // Its mounts go with it.
        let agent = node
            .host
            .command("unshare")
            .args(["--mount", "sh", "-c", &script]);
        let mut agent = agent.arg(root).env("SPEAKER_BPFFS", "/run/bpf").spawn()?;
        agent.wait_for_line("ready", SOON)?;
        let asker = Asker::start(&client, VIP, Duration::from_millis(5))?;
        thread::sleep(Duration::from_millis(500));
        asker.stop()?.assert_all_answered(50, node.host.eth0.mac);
        ensure!(agent.terminate(SOON)?.success());
        Ok(())
    });
}

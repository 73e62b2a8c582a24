//! The file system of a virtual machine, in two parts: the programs, and the kernel's modules.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _, fs::symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use tempfile::{NamedTempFile, TempDir};

use super::package::Kernel;
use crate::{cargo::Built, shell};

/// The first process.
const INIT: &str = include_str!("init.sh");

/// Programs that the checks, and kube-proxy, use.
const TOOLS: [&str; 11] = [
    "arping",
    "conntrack",
    "ip",
    "ip6tables-restore",
    "ip6tables-save",
    "ip6tables",
    "ipset",
    "iptables",
    "iptables-restore",
    "iptables-save",
    "ndisc6",
];

/// Programs of Kubernetes that the checks use.
const KUBERNETES: [&str; 4] = ["etcd", "kube-apiserver", "kube-proxy", "kubectl"];

/// Applets of busybox that [`INIT`] uses.
const APPLETS: [&str; 6] = ["insmod", "mkdir", "mount", "poweroff", "sh", "sleep"];

/// Modules that the checks may need, if the kernel has them as modules.
const MODULES: [&str; 36] = [
    "8021q",
    "af_packet",
    "bonding",
    "bridge",
    "cls_bpf",
    "dummy",
    "ip6t_REJECT",
    "ip_set_bitmap_port",
    "ip_set_hash_ip",
    "ip_set_hash_ipport",
    "ip_set_hash_ipportip",
    "ip_set_hash_ipportnet",
    "ip_vs",
    "ip_vs_rr",
    "ip_vs_sh",
    "ip_vs_wrr",
    "ipt_REJECT",
    "macvlan",
    "nf_conntrack_netlink",
    "nft_chain_nat",
    "nft_compat",
    "sch_ingress",
    "sch_netem",
    "tun",
    "veth",
    "virtio_net",
    "virtio_pci",
    "vmxnet3",
    "vxlan",
    "xt_MASQUERADE",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_nat",
    "xt_set",
];

/// Everything but the modules, the same for each kernel.
pub(crate) fn payload(built: &Built, kubernetes: Option<&Path>) -> Result<NamedTempFile> {
    let root = Root::new()?;
    for directory in ["dev", "proc", "run", "sys", "tmp"] {
        root.directory(directory)?;
    }
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        root.directory(target)?;
        symlink(target, root.at(link))?;
    }

    fs::write(root.at("init"), INIT)?;
    fs::set_permissions(root.at("init"), fs::Permissions::from_mode(0o755))?;
    root.program(&tool("busybox")?, "usr/bin/busybox")?;
    for applet in APPLETS {
        symlink("busybox", root.at("usr/bin").join(applet))?;
    }
    for name in TOOLS {
        root.program(&tool(name)?, &format!("usr/sbin/{name}"))?;
    }

    root.iptables_extensions()?;
    if let Some(programs) = kubernetes {
        for name in KUBERNETES {
            root.program(&programs.join(name), &format!("kubernetes/{name}"))?;
        }
    }

    root.program(&built.speaker, "usr/bin/speaker")?;
    root.program(built.binary("vm")?, "usr/bin/vm")?;
    for binary in ["usr/bin/speaker", "usr/bin/vm"] {
        // The virtual machine unpacks all of it, at a tenth of this computer's speed.
        shell::read(
            shell::command("strip")
                .arg("--strip-debug")
                .arg(root.at(binary)),
        )?;
    }
    fs::copy(&built.object, root.at("speaker.o"))?;

    let mut archive = NamedTempFile::new()?;
    root.pack(archive.as_file_mut())?;
    Ok(archive)
}

/// The payload followed by a kernel's modules: the kernel unpacks concatenated archives.
pub(crate) fn complete(payload: &Path, kernel: &Kernel) -> Result<NamedTempFile> {
    let root = Root::new()?;
    root.directory("modules")?;
    for (number, module) in needed(kernel)?.into_iter().enumerate() {
        let file = module.file_name().context("a module is a file")?;
        // Decompressed, in the order of loading.
        let name = format!("{number:02}-{}", name_of(&file.to_string_lossy()));
        unpack_module(&module, &root.at("modules").join(name))?;
    }
    let mut archive = NamedTempFile::new()?;
    io::copy(&mut File::open(payload)?, archive.as_file_mut())?;
    root.pack(archive.as_file_mut())?;
    Ok(archive)
}

fn tool(name: &str) -> Result<PathBuf> {
    shell::find(name).with_context(|| format!("{name} is missing: run `cargo xtask setup`"))
}

/// The files of [`MODULES`], each after those that it depends on.
fn needed(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let listed = fs::read_to_string(kernel.modules.join("modules.dep"))?;
    let mut files = Vec::new();
    for file in loading_order(&listed, &MODULES) {
        files.push(kernel.modules.join(file));
    }
    Ok(files)
}

/// The order in which to load modules. A line of `modules.dep` is `file: dependencies`, the deepest
/// last.
fn loading_order<'a>(modules_dep: &'a str, wanted: &[&str]) -> Vec<&'a str> {
    let by_name: HashMap<&str, (&str, &str)> = modules_dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, dependencies)| (name_of(file), (file, dependencies)))
        .collect();
    let mut order = Vec::new();
    for (file, dependencies) in wanted.iter().filter_map(|name| by_name.get(name)) {
        for file in dependencies.split_whitespace().rev().chain([*file]) {
            if !order.contains(&file) {
                order.push(file);
            }
        }
    }
    order
}

/// The module in a file: `kernel/net/bridge/bridge.ko.xz` is `bridge`.
fn name_of(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name)
}

fn unpack_module(module: &Path, target: &Path) -> Result<()> {
    let output = File::create(target)?;
    match module.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => {
            fs::copy(module, target)?;
            Ok(())
        }
        Some("xz") => {
            let mut xz = shell::command("xz");
            xz.args(["--decompress", "--stdout"])
                .arg(module)
                .stdout(output);
            succeed(&mut xz)
        }
        _ => bail!("{} has an unknown compression", module.display()),
    }
}

/// A file system that is being put together.
struct Root(TempDir);

impl Root {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn directory(&self, path: &str) -> Result<()> {
        fs::create_dir_all(self.at(path)).with_context(|| path.to_owned())
    }

    /// Copies a program, and its shared libraries to where it looks for them.
    fn program(&self, program: &Path, to: &str) -> Result<()> {
        self.file(program, &self.at(to))?;
        // Fails for a static program.
        let linked = shell::read(shell::command("ldd").arg(program)).unwrap_or_default();
        for library in libraries(&linked) {
            let place = library.strip_prefix("/").unwrap_or(library);
            let target = self.0.path().join(place);
            if !target.exists() {
                self.file(library, &target)?;
            }
        }
        Ok(())
    }

    /// Copies the extensions that iptables loads: they are in a directory beside its library.
    fn iptables_extensions(&self) -> Result<()> {
        let linked = shell::read(shell::command("ldd").arg(tool("iptables")?))?;
        let xtables = libraries(&linked).find(|it| it.to_string_lossy().contains("libxtables"));
        let beside = xtables.context("iptables is not linked to libxtables")?;
        for extension in fs::read_dir(beside.with_file_name("xtables"))? {
            let extension = extension?.path();
            let place = extension.strip_prefix("/").unwrap_or(&extension);
            self.file(&extension, &self.0.path().join(place))?;
        }
        Ok(())
    }

    fn file(&self, from: &Path, to: &Path) -> Result<()> {
        let copy = || -> io::Result<()> {
            fs::create_dir_all(to.parent().unwrap_or(to))?;
            fs::copy(from, to)?;
            Ok(())
        };
        copy().with_context(|| from.display().to_string())
    }

    /// Writes the archive for the kernel.
    fn pack(&self, archive: &mut File) -> Result<()> {
        let mut names = Vec::new();
        for path in tree(self.0.path())? {
            let name = path
                .strip_prefix(self.0.path())
                .expect("it is below the root");
            names.extend_from_slice(name.as_os_str().as_bytes());
            names.push(0);
        }
        let mut cpio = shell::command("cpio");
        cpio.args(["--create", "--null", "--quiet"])
            .args(["--format=newc", "--owner=0:0"])
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(archive.try_clone()?);
        let mut child = cpio.spawn().with_context(|| shell::as_typed(&cpio))?;
        child
            .stdin
            .take()
            .expect("stdin is piped")
            .write_all(&names)?;
        if !child.wait()?.success() {
            bail!("{} failed", shell::as_typed(&cpio));
        }
        Ok(())
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| shell::as_typed(command))?;
    if !status.success() {
        bail!("{} failed: {status}", shell::as_typed(command));
    }
    Ok(())
}

/// Everything below a directory, each directory before its content.
fn tree(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        found.push(entry.path());
        if entry.file_type()?.is_dir() {
            found.extend(tree(&entry.path())?);
        }
    }
    Ok(found)
}

/// The files in ldd's output, whose lines are `name => /path (address)` or `/path (address)`.
fn libraries(linked: &str) -> impl Iterator<Item = &Path> {
    linked
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_once_and_after_their_dependencies() {
        let modules_dep = "\
kernel/net/802/stp.ko: kernel/net/llc/llc.ko
kernel/net/llc/llc.ko:
kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko kernel/net/llc/llc.ko
kernel/drivers/net/veth.ko:
";
        assert_eq!(
            loading_order(modules_dep, &["bridge", "builtin", "veth", "bridge"]),
            [
                "kernel/net/llc/llc.ko",
                "kernel/net/802/stp.ko",
                "kernel/net/bridge/bridge.ko.xz",
                "kernel/drivers/net/veth.ko",
            ]
        );
    }

    #[test]
    fn libraries_are_the_absolute_paths() {
        let linked = "\
\tlinux-vdso.so.1 (0x00007ffd)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f00)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f01)
";
        let found: Vec<_> = libraries(linked).collect();
        assert_eq!(
            found,
            [
                Path::new("/lib/x86_64-linux-gnu/libc.so.6"),
                Path::new("/lib64/ld-linux-x86-64.so.2"),
            ]
        );
    }
}

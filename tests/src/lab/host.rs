//! A host: a node or a client.

use std::{
    env,
    ffi::OsStr,
    fs,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    net::if_::if_nametoindex,
};

use super::{
    bpf::{self, Verdict},
    capture::Capture,
    journal::Journal,
    namespace::Namespace,
    packet::{Purpose, RawSocket},
    ping::ping,
    process::{Command, Process},
    switch::{Link, Switch},
};

/// Where an agent keeps its state: in the host's own `/run`, so that it outlives the agent and
/// goes with the host.
const STATE_DIRECTORY: &str = "/run/lab/state";

/// A host's own `/etc/hosts`, under its own `/run`.
const HOSTS: &str = "/run/lab/hosts";

/// A host in its own namespaces: network, mounts, host name and processes.
///
/// `/sys`, `/sys/fs/bpf` and `/run` are its own, the latter two empty at first; all other files are
/// the machine's. That includes `/proc`: a process finds itself there as `/proc/self`, not under
/// the number that `getpid` returns.
///
/// Dropping a host switches it off: its processes are killed, its cables unplugged.
#[derive(Debug)]
pub struct Host {
    /// Its interface in LAN 0.
    pub eth0: Link,
    name: String,
    namespace: Arc<Namespace>,
    switch: Arc<Switch>,
    journal: Journal,
}

impl Host {
    pub(super) fn new(name: &str, switch: Arc<Switch>, journal: Journal) -> Result<Self> {
        let namespace = Namespace::new(name)?;
        // Addresses are usable at once, and there are no router solicitations.
        for setting in ["accept_dad", "accept_ra", "router_solicitations"] {
            namespace.sysctl(&format!("net.ipv6.conf.default.{setting}"), "0")?;
        }
        Ok(Self {
            eth0: switch.plug(&namespace, "eth0", 0)?,
            name: name.to_owned(),
            namespace: Arc::new(namespace),
            switch,
            journal,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its first process: `nsenter --all --target` with it is a way in while a test is paused.
    pub fn init(&self) -> i32 {
        self.namespace.init().as_raw()
    }

    /// Adds another interface, plugged into a LAN; each LAN is a separate network.
    pub fn extra_link(&self, name: &str, lan: u8) -> Result<Link> {
        self.switch
            .plug(&self.namespace, name, lan)
            .with_context(|| format!("giving {} another interface", self.name))
    }

    /// Runs a closure in the host, on a thread of its own: sockets that it opens are the host's,
    /// wherever they are used later, and paths are as the host sees them. A panic of the closure
    /// is passed on. Processes are started by [`command`](Self::command), not from here.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(job)
    }

    /// A program to run in the host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(
            program,
            &self.name,
            Arc::clone(&self.namespace),
            self.journal.clone(),
        )
    }

    /// Runs `ip` with these arguments, separated by spaces, and returns its output.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        self.command("ip").args(arguments.split_whitespace()).run()
    }

    /// Writes a setting, by its `sysctl` name or its path below `/proc/sys`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.namespace.sysctl(name, value)
    }

    /// A command line of `speaker`: the program that `SPEAKER_BIN` names, or the one that cargo
    /// built next to the running test.
    pub fn speaker(&self) -> Result<Command> {
        Ok(self.command(speaker_program()?))
    }

    /// Starts `speaker agent` with these arguments, the host's name as the node's, and a state
    /// directory that the next agent in this host finds again.
    pub fn agent(&self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Result<Process> {
        self.run(|| fs::create_dir_all(STATE_DIRECTORY))
            .with_context(|| format!("making {STATE_DIRECTORY} on {}", self.name))?;
        self.speaker()?
            .args(["agent", "--node-name", &self.name])
            .args(["--state-dir", STATE_DIRECTORY])
            .args(arguments)
            .spawn()
    }

    /// Attaches an XDP program that passes every frame to an interface, in native mode, as some other
    /// program of the host might. It stays until the returned link is closed.
    pub fn occupy_xdp(&self, interface: &str) -> Result<OwnedFd> {
        self.run(|| -> Result<OwnedFd> {
            let pass = bpf::xdp_program(Verdict::Pass)?;
            let link = bpf::attach_native_xdp(pass.as_fd(), if_nametoindex(interface)?)?;
            Ok(link)
        })
        .with_context(|| format!("attaching an XDP program to {interface} of {}", self.name))
    }

    /// Sends one echo request, and returns how long the answer took; no answer within `limit` is an
    /// error. A link-local address is looked up on `eth0`.
    pub fn ping(&self, address: impl Into<IpAddr>, limit: Duration) -> Result<Duration> {
        let address = address.into();
        self.run(|| {
            let to = match address {
                IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                    let scope = if_nametoindex(&*self.eth0.name)?;
                    SocketAddr::V6(SocketAddrV6::new(v6, 0, 0, scope))
                }
                address => SocketAddr::new(address, 0),
            };
            ping(to, limit)
        })
        .with_context(|| format!("pinging from {}", self.name))
    }

    /// Replaces `/etc/hosts` on this host only.
    pub fn name_hosts(&self, lines: &str) -> Result<()> {
        let none: Option<&str> = None;
        self.run(|| -> Result<()> {
            let is_first = !fs::exists(HOSTS)?;
            fs::create_dir_all("/run/lab")?;
            fs::write(HOSTS, lines)?;
            if is_first {
                mount(Some(HOSTS), "/etc/hosts", none, MsFlags::MS_BIND, none)?;
            }
            Ok(())
        })
        .with_context(|| format!("giving {} an /etc/hosts of its own", self.name))
    }

    /// A socket for raw frames on an interface.
    pub fn raw(&self, interface: &str) -> Result<RawSocket> {
        self.run(|| RawSocket::open(interface, Purpose::Talk))
            .with_context(|| format!("on {}", self.name))
    }

    /// Records what an interface sends and receives.
    pub fn capture(&self, interface: &str) -> Result<Capture> {
        self.run(|| Capture::start(interface))
            .with_context(|| format!("on {}", self.name))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.namespace.kill();
    }
}

/// The program that [`Host::speaker`] and [`Host::agent`] run.
pub fn speaker_program() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SPEAKER_BIN") {
        return Ok(path.into());
    }
    // Tests are in a directory below that of the programs.
    let this = env::current_exe()?;
    match this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|d| d.join("speaker"))
        .find(|p| p.is_file())
    {
        Some(path) => Ok(path),
        None => bail!(
            "no program `speaker` next to {}: build it with `cargo build -p speaker`, or set SPEAKER_BIN to its path",
            this.display()
        ),
    }
}

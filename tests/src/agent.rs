//! A host with an agent on it, and its `speaker status`.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{Read as _, Write as _},
    net::{IpAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;
use speaker_common::layout::LAYOUT_VERSION;

use crate::{
    lab::{Command, Host, Lab, Process},
    manifest::{self, Manifests},
    wait::wait_until,
};

/// The argument that makes an agent serve [`Node::get`].
pub const HTTP: [&str; 2] = ["--http", "127.0.0.1:9100"];

/// More than an agent takes to start or stop, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Behind the driver, in the network stack.
    Generic,
    /// In the driver.
    Native,
}

impl Mode {
    /// Its name in `--xdp-mode` and the status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Native => "native",
        }
    }
}

/// A host that answers for VIPs, with its own manifests.
#[derive(Debug)]
pub struct Node {
    /// The host.
    pub host: Host,
    /// The manifests of its agent. Initially a pool of all of 10.0.0.0/8 and fd00::/8, and an
    /// advertisement of it on all interfaces (`pools.yaml`).
    pub manifests: Manifests,
    /// The arguments that give its agents their configuration: initially the manifests.
    pub source: Vec<String>,
    /// Further arguments of its agents.
    pub arguments: Vec<String>,
    mode: Mode,
    agent: Option<Process>,
}

impl Node {
    /// Adds a host to the lab, without starting its agent.
    pub fn new(lab: &Lab, name: &str, mode: Mode) -> Result<Self> {
        let host = lab.host(name)?;
        if mode == Mode::Native {
            host.eth0.port.enable_native_xdp()?;
        }
        let manifests = Manifests::new()?;
        let pool = manifest::pool("all", &["10.0.0.0/8", "fd00::/8"]);
        let advertisement = manifest::advertisement("all", &["all"], &[]);
        manifests.write("pools.yaml", &(pool + &advertisement))?;
        let directory = manifests.path().display().to_string();
        Ok(Self {
            host,
            manifests,
            source: vec!["--manifests".to_owned(), directory],
            arguments: Vec::new(),
            mode,
            agent: None,
        })
    }

    /// A node `node-a` whose agent answers for these VIPs of one Service `web`.
    pub fn serving(lab: &Lab, mode: Mode, vips: &[IpAddr]) -> Result<Self> {
        let mut node = Self::new(lab, "node-a", mode)?;
        node.serve("web", vips)?;
        node.start()?;
        Ok(node)
    }

    /// Writes a file with a Service that has these VIPs: `web` is in `web.yaml`.
    pub fn serve(&self, service: &str, vips: &[IpAddr]) -> Result<()> {
        let text = manifest::service(service, vips);
        self.manifests.write(&format!("{service}.yaml"), &text)
    }

    /// Starts the agent, and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        self.start_with::<&str>([])
    }

    /// Starts the agent with more arguments, and waits until it answers.
    pub fn start_with<S: AsRef<OsStr>>(&mut self, more: impl IntoIterator<Item = S>) -> Result<()> {
        self.spawn_with(more)?;
        self.agent().wait_for_line("ready", LIMIT)?;
        Ok(())
    }

    /// Waits until all announcements after a take-over have been sent: a restart repeats none then.
    pub fn wait_until_announced(&self, vips: &[IpAddr]) -> Result<()> {
        const BURST: u64 = 4;
        wait_until("all has been announced", LIMIT, || {
            for vip in vips {
                let Vip { places, .. } = self.vip(*vip)?;
                if places.iter().any(|place| place.announced < BURST) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Starts the agent. One that still runs is left running.
    pub fn spawn(&mut self) -> Result<()> {
        self.spawn_with::<&str>([])
    }

    /// Starts the agent with more arguments. One that still runs is left running.
    pub fn spawn_with<S: AsRef<OsStr>>(&mut self, more: impl IntoIterator<Item = S>) -> Result<()> {
        let more: Vec<S> = more.into_iter().collect();
        let mode = ["--xdp-mode", self.mode.name()].map(OsStr::new);
        let own = self.source.iter().chain(&self.arguments).map(OsStr::new);
        let more = more.iter().map(AsRef::as_ref);
        let all = mode.into_iter().chain(own).chain(more);
        self.agent = Some(self.host.agent(all)?);
        Ok(())
    }

    /// The agent that was started last.
    ///
    /// # Panics
    ///
    /// If none was.
    pub fn agent(&mut self) -> &mut Process {
        self.agent.as_mut().expect("an agent was started")
    }

    /// Stops the agent cleanly.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.agent().terminate(LIMIT)?;
        anyhow::ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }

    /// A command line of `speaker` for this node's agent: `status`, `watch` or `detach`.
    pub fn speaker(&self, command: &str) -> Result<Command> {
        let state = ["--state-dir", "/run/lab/state"];
        Ok(self.host.speaker()?.arg(command).args(state))
    }

    /// The output of `speaker status -o json`.
    pub fn status(&self) -> Result<Status> {
        let status = self.speaker("status")?.args(["-o", "json"]);
        let text = status.unheard().run()?;
        serde_json::from_str(&text).with_context(|| format!("reading the status {text}"))
    }

    /// The status of a VIP.
    pub fn vip(&self, vip: IpAddr) -> Result<Vip> {
        let vips = self.status()?.vips;
        vips.into_iter()
            .find(|it| it.address == Some(vip))
            .with_context(|| format!("{vip} is not in the status of {}", self.host.name()))
    }

    /// The state of a VIP on its first link, or what prevents it.
    pub fn state(&self, vip: IpAddr) -> Result<String> {
        let Vip { places, reason, .. } = self.vip(vip)?;
        let place = places.into_iter().next();
        let state = place.map(|place| place.error.unwrap_or(place.state));
        state
            .or(reason)
            .with_context(|| format!("{vip} is nowhere, and no reason is given"))
    }

    /// The entries of one of the program's pinned maps, with their fields by name.
    pub fn map(&self, name: &str) -> Result<Vec<Value>> {
        let map = format!("/sys/fs/bpf/speaker/v{LAYOUT_VERSION}/{name}");
        let dump = ["-j", "map", "dump", "pinned", &map];
        let text = self.host.command("bpftool").args(dump).run()?;
        let entries: Vec<Value> = serde_json::from_str(&text)?;
        let formatted = entries.into_iter().map(|mut it| it["formatted"].take());
        Ok(formatted.collect())
    }

    /// The agent's response to an HTTP GET of this path: it was started with [`HTTP`].
    pub fn get(&self, path: &str) -> Result<String> {
        let mut stream = self.host.run(|| TcpStream::connect(HTTP[1]))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// The lines of the agent's log that have `text` in them.
    pub fn log(&mut self, text: &str) -> Vec<String> {
        let mut lines = self.agent().stderr();
        lines.retain(|line| line.contains(text));
        lines
    }

    /// The agent's warnings and errors, after the node's name.
    pub fn warnings(&mut self) -> Vec<String> {
        let lines = [" WARN ", " ERROR "].map(|level| self.log(level));
        let name = self.host.name();
        let lines = lines.concat().into_iter();
        lines.map(|line| format!("{name}: {line}")).collect()
    }
}

/// The parts of `speaker status -o json` that tests read. Like other readers, they rely on these
/// names.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The node's name; `None` without an agent.
    pub node: Option<String>,
    /// The kernel-held lease.
    pub lease: Lease,
    /// All VIPs.
    pub vips: Vec<Vip>,
    /// The interfaces that the program runs on, or should.
    pub links: Vec<Link>,
    /// How other nodes' probes are answered.
    pub probes: Option<Probes>,
    /// How many frames were not answered, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Configuration that is refused.
    pub refused: Vec<String>,
}

/// How other nodes' liveness probes are answered.
#[derive(Clone, Debug, Deserialize)]
pub struct Probes {
    /// The interface whose program answers them.
    pub interface: Option<String>,
    /// Why there is none.
    pub reason: Option<String>,
}

/// The kernel-held lease.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Lease {
    /// Whether the program may answer.
    pub state: LeaseState,
    /// Time until it lapses without an agent; negative: since it lapsed.
    pub agent_left_ms: Option<i64>,
    /// Time until it lapses without other nodes; negative: since it lapsed.
    pub peers_left_ms: Option<i64>,
}

/// What the lease allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Answering.
    Valid,
    /// Nothing yet: no other node has renewed it.
    Unarmed,
    /// Nothing any longer.
    Over,
}

/// A VIP.
#[derive(Clone, Debug, Deserialize)]
pub struct Vip {
    /// The address.
    pub address: Option<IpAddr>,
    /// The Services that have it, as namespace/name.
    pub services: Vec<String>,
    /// Where it is answered, or should be.
    pub places: Vec<Place>,
    /// The counts in each place.
    pub counts: Vec<Counts>,
    /// Why it is answered nowhere.
    pub reason: Option<String>,
}

/// A VIP on a link.
#[derive(Clone, Debug, Deserialize)]
pub struct Place {
    /// The link.
    pub link: String,
    /// The MAC in answers.
    pub mac: String,
    /// `answering`, or why not.
    pub state: String,
    /// What the kernel refuses, if that is the reason.
    pub error: Option<String>,
    /// `generic` or `native`.
    pub mode: Option<String>,
    /// Announcements sent.
    pub announced: u64,
    /// Claims by another MAC.
    pub conflicts: u64,
    /// The last claimant.
    pub claimed_by: Option<String>,
}

/// The counts for a VIP on a link.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Answers.
    pub answered: u64,
    /// Requests not answered because the lease had lapsed.
    pub refused: u64,
}

/// An interface that the program runs on, or should.
#[derive(Clone, Debug, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Why the program does not run there.
    pub error: Option<String>,
}

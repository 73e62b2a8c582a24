//! The verbs that ask the agent to do something: `speaker drain`, `undrain`, `move`, `rebalance`
//! and `ebpf-log`.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;
use tokio::time::sleep;
use tracing::level_filters::LevelFilter;

use super::{
    StateDir, block_on,
    output::{note, print},
};
use crate::api::{Client, Report, Verb, VipReport};

/// How long to wait for the agent to do it.
const LIMIT: Duration = Duration::from_secs(10);
/// How long other nodes may take to claim what a drained node has given up.
const TAKEN: Duration = Duration::from_secs(1);
/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(50);

/// Hand over all VIPs of this node, and take none until `speaker undrain`
///
/// Returns once this node answers for none. A node stays drained across restarts of the agent.
#[derive(Debug, Args)]
pub(super) struct Drain {
    #[command(flatten)]
    state_dir: StateDir,
}

/// Let this node own VIPs again after `speaker drain`
#[derive(Debug, Args)]
pub(super) struct Undrain {
    #[command(flatten)]
    state_dir: StateDir,
}

/// Move a VIP, and those that must stay with it, to a node
///
/// Returns once that node owns it.
#[derive(Debug, Args)]
pub(super) struct Move {
    /// The VIP to move
    vip: IpAddr,

    /// The node to move it to
    node: String,

    #[command(flatten)]
    state_dir: StateDir,
}

/// Spread the VIPs evenly over the nodes, with as few moves as possible
#[derive(Debug, Args)]
pub(super) struct Rebalance {
    #[command(flatten)]
    state_dir: StateDir,
}

/// Let the eBPF program log each frame that it handles, or stop it
///
/// The agent swaps in a traced build of the program, or swaps it out, without a gap in the answers.
/// The lines appear in the agent's log. A restart resets the level to --ebpf-log-level.
#[derive(Debug, Args)]
pub(super) struct EbpfLog {
    /// What to log: off, error, warn, info, debug or trace. From debug on, every frame for a VIP
    level: LevelFilter,

    #[command(flatten)]
    state_dir: StateDir,
}

impl Drain {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            let mut client = ask(&self.state_dir, &Verb::Drain).await?;
            let drained = within(LIMIT, async || {
                let report = client.report().await?;
                Ok(!report.vips.iter().any(VipReport::is_answering))
            });
            if !drained.await? {
                bail!(
                    "this node is draining, but still answers for some VIPs; `speaker status` \
                     shows which"
                );
            }
            print("drained: this node answers for no VIP until `speaker undrain`\n")?;
            let mut vacant = Vec::new();
            let taken = within(TAKEN, async || {
                vacant = client.report().await?.vips;
                vacant.retain(is_vacant);
                Ok(vacant.is_empty())
            });
            if !taken.await?
                && let Some(vip) = vacant.iter().find_map(|vip| vip.status.address)
            {
                let more = match vacant.len() {
                    1 => String::new(),
                    vips => format!(" and {} more", vips - 1),
                };
                note(&format!(
                    "nobody answers for {vip}{more} now: `speaker explain {vip}` shows why"
                ));
            }
            Ok(())
        })
    }
}

impl Undrain {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            ask(&self.state_dir, &Verb::Undrain).await?;
            print("this node can own VIPs again\n")
        })
    }
}

impl Move {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            let Self {
                vip,
                node,
                state_dir,
            } = self;
            let verb = Verb::Move {
                vip,
                node: node.clone(),
            };
            let mut client = Client::connect(&state_dir.path).await?;
            check_node(&node, &client.report().await?)?;
            client.ask(&verb).await?;
            let moved = within(LIMIT, async || {
                let owner = client.explain(vip).await?.and_then(|it| it.owner);
                Ok(owner.as_ref() == Some(&node))
            });
            if !moved.await? {
                bail!("{node} has not taken {vip} over; `speaker explain {vip}` shows why");
            }
            print(&format!("{node} owns {vip}\n"))
        })
    }
}

impl Rebalance {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            ask(&self.state_dir, &Verb::Rebalance).await?;
            print("rebalancing has begun; `speaker status` shows the owners\n")
        })
    }
}

impl EbpfLog {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            let level = self.level;
            ask(&self.state_dir, &Verb::EbpfLog { level }).await?;
            print(match level {
                LevelFilter::OFF => "the eBPF program logs nothing\n",
                _ => "the eBPF program logs to the agent's log until `speaker ebpf-log off`\n",
            })
        })
    }
}

/// Whether some node should own it, and none does.
fn is_vacant(vip: &VipReport) -> bool {
    vip.status.reason.is_none() && vip.owner.is_none()
}

/// Refuses a node that the agent does not know.
fn check_node(node: &str, report: &Report) -> Result<()> {
    let others = report.members.iter().map(|member| &member.name);
    let known: BTreeSet<&String> = report.node.iter().chain(others).collect();
    if !known.iter().any(|name| *name == node) {
        let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
        bail!("unknown node {node}; known nodes: {}", known.join(", "));
    }
    Ok(())
}

/// Sends the request and keeps the connection.
async fn ask(state_dir: &StateDir, verb: &Verb) -> Result<Client> {
    let mut client = Client::connect(&state_dir.path).await?;
    client.ask(verb).await?;
    Ok(client)
}

/// Polls until something has happened. False if it has not within this time.
async fn within(
    limit: Duration,
    mut has_happened: impl AsyncFnMut() -> Result<bool>,
) -> Result<bool> {
    let end = Instant::now() + limit;
    while !has_happened().await? {
        if Instant::now() > end {
            return Ok(false);
        }
        sleep(LOOK).await;
    }
    Ok(true)
}

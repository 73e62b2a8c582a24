//! What the agent is asked to do: `speaker drain`, `undrain`, `move`, `rebalance` and `ebpf-log`.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;
use tokio::time::sleep;
use tracing::level_filters::LevelFilter;

use super::{Places, block_on, output::print};
use crate::api::{Client, Verb, VipReport};

/// How long to wait for what was asked for.
const LIMIT: Duration = Duration::from_secs(10);
/// How often to look.
const LOOK: Duration = Duration::from_millis(50);

/// Hand over all VIPs of this node, and take none until `speaker undrain`
///
/// Returns once this node answers for none. A node stays drained across restarts of the agent.
#[derive(Debug, Args)]
pub(super) struct Drain {
    #[command(flatten)]
    places: Places,
}

/// Let this node own VIPs again after `speaker drain`
#[derive(Debug, Args)]
pub(super) struct Undrain {
    #[command(flatten)]
    places: Places,
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
    places: Places,
}

/// Spread the VIPs evenly over the nodes, with as few moves as possible
#[derive(Debug, Args)]
pub(super) struct Rebalance {
    #[command(flatten)]
    places: Places,
}

/// Let the eBPF program log each frame that it handles, or stop it
///
/// The agent swaps the program for its traced build, or back, without a gap in the answers; the lines
/// are in the agent's log. Holds until the agent is restarted, which goes by --ebpf-log-level.
#[derive(Debug, Args)]
pub(super) struct EbpfLog {
    /// off, error, warn, info, debug or trace; debug logs every frame for a VIP
    level: LevelFilter,

    #[command(flatten)]
    places: Places,
}

impl Drain {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            let mut client = Client::connect(&self.places.state_dir).await?;
            client.ask(&Verb::Drain).await?;
            let end = Instant::now() + LIMIT;
            loop {
                let report = client.report().await?;
                if !report.vips.iter().any(VipReport::is_answering) {
                    return print(
                        "drained: this node answers for no VIP until `speaker undrain`\n",
                    );
                }
                if Instant::now() > end {
                    bail!(
                        "this node is draining, but still answers for some VIPs; `speaker status` \
                         shows which"
                    );
                }
                sleep(LOOK).await;
            }
        })
    }
}

impl Undrain {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            let mut client = Client::connect(&self.places.state_dir).await?;
            client.ask(&Verb::Undrain).await?;
            print("this node can own VIPs again\n")
        })
    }
}

impl Move {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            let Self { vip, node, places } = self;
            let mut client = Client::connect(&places.state_dir).await?;
            let verb = Verb::Move {
                vip,
                node: node.clone(),
            };
            client.ask(&verb).await?;
            let end = Instant::now() + LIMIT;
            loop {
                let explanation = client.explain(vip).await?;
                let owner = explanation.and_then(|it| it.owner);
                if owner.as_ref() == Some(&node) {
                    return print(&format!("{node} owns {vip}\n"));
                }
                if Instant::now() > end {
                    bail!("{node} has not taken {vip} over; `speaker explain {vip}` shows why");
                }
                sleep(LOOK).await;
            }
        })
    }
}

impl Rebalance {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            let mut client = Client::connect(&self.places.state_dir).await?;
            client.ask(&Verb::Rebalance).await?;
            print("rebalancing has begun; `speaker status` shows the owners\n")
        })
    }
}

impl EbpfLog {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            let mut client = Client::connect(&self.places.state_dir).await?;
            let level = self.level;
            client.ask(&Verb::EbpfLog { level }).await?;
            print(match level {
                LevelFilter::OFF => "the eBPF program logs nothing\n",
                _ => "the eBPF program logs to the agent's log until `speaker ebpf-log off`\n",
            })
        })
    }
}

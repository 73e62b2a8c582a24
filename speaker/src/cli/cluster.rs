//! How a node takes part in the cluster, on the command line.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use speaker_core::cluster::{self, Settings};

use super::address;
use crate::agent::Membership;

/// Sharing VIPs with other nodes
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sharing VIPs with other nodes")]
pub(super) struct Cluster {
    /// Another node that shares the VIPs; may be given several times, and may name this node too.
    /// Without any, this node is alone and owns them all
    #[arg(
        long = "peer",
        env = "SPEAKER_PEERS",
        value_name = "ADDR[:PORT]",
        value_delimiter = ',',
        value_parser = address::of_node
    )]
    peers: Vec<SocketAddr>,

    /// Where the other nodes reach this one: UDP, this port (7946) and the next. Without it, the
    /// address that leads to the first peer
    #[arg(long, env = "SPEAKER_GOSSIP_BIND", value_name = "ADDR[:PORT]",
          value_parser = address::of_node)]
    gossip_bind: Option<SocketAddr>,

    /// The secret that all nodes share, one a line: the first is used, all are accepted. Read anew
    /// when it changes
    #[arg(long, env = "SPEAKER_CLUSTER_KEY_FILE", value_name = "FILE")]
    cluster_key_file: Option<PathBuf>,

    /// When a VIP goes back to a node that is a better candidate than its owner: never, immediate,
    /// or after=DURATION
    #[arg(
        long,
        env = "SPEAKER_FAILBACK",
        value_name = "WHEN",
        default_value = "never"
    )]
    failback: Failback,

    /// Which side goes on when the nodes are split. With `majority`, every node probes every other,
    /// about 30 packets a second for each
    #[arg(long, env = "SPEAKER_PARTITION", value_enum, default_value_t = Partition::Available)]
    partition: Partition,

    /// What becomes of this node's VIPs when the agent is told to stop
    #[arg(long, env = "SPEAKER_ON_STOP", value_enum, default_value_t = OnStop::Stay)]
    on_stop: OnStop,

    /// Ask the network whether a VIP is free before it is claimed for the first time, and leave it
    /// alone while another host answers for it. Takes 300 ms, never on a fail-over
    #[arg(long, env = "SPEAKER_PROBE_BEFORE_CLAIM")]
    probe_before_claim: bool,

    /// How often a node asks another whether it is there
    #[arg(long, env = "SPEAKER_PROBE_INTERVAL", value_name = "DURATION",
          value_parser = humantime::parse_duration)]
    probe_interval: Option<Duration>,

    /// After how much silence a node is asked by other ways too
    #[arg(long, env = "SPEAKER_SUSPECT_AFTER", value_name = "DURATION",
          value_parser = humantime::parse_duration)]
    suspect_after: Option<Duration>,

    /// How long a node answers after it was last heard by another
    #[arg(long, env = "SPEAKER_PEERS_LEASE", value_name = "DURATION",
          value_parser = humantime::parse_duration)]
    peers_lease: Option<Duration>,

    /// After how much silence a node's VIPs are taken over: longer than its lease
    #[arg(long, env = "SPEAKER_TAKE_OVER_AFTER", value_name = "DURATION",
          value_parser = humantime::parse_duration)]
    take_over_after: Option<Duration>,
}

/// `--failback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failback(cluster::Failback);

impl FromStr for Failback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let after = |duration| humantime::parse_duration(duration).ok();
        match text {
            "never" => Ok(cluster::Failback::Never),
            "immediate" => Ok(cluster::Failback::Immediate),
            text => text
                .strip_prefix("after=")
                .and_then(after)
                .map(cluster::Failback::After)
                .ok_or_else(|| "not never, immediate, or after=DURATION (after=5m)".to_owned()),
        }
        .map(Self)
    }
}

/// `--partition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Partition {
    /// Each, for those clients that still reach it
    Available,
    /// The one with more than half of all nodes
    Majority,
}

/// `--on-stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnStop {
    /// They stay for 60 seconds, answered by the kernel: time for a restart
    Stay,
    /// They are handed over first
    Handover,
}

impl Cluster {
    /// As the flags say; `follow`: the configuration says which nodes there are.
    pub(super) fn membership(self, follow: bool) -> Membership {
        let partition = match self.partition {
            Partition::Available => cluster::Partition::Available,
            Partition::Majority => cluster::Partition::Majority,
        };
        let mut settings = Settings::new(partition);
        let given = [
            (&mut settings.probe_interval, self.probe_interval),
            (&mut settings.suspect_after, self.suspect_after),
            (&mut settings.peers_lease, self.peers_lease),
            (&mut settings.take_over_after, self.take_over_after),
        ];
        for (setting, given) in given {
            *setting = given.unwrap_or(*setting);
        }
        Membership {
            peers: self.peers,
            follow,
            bind: self.gossip_bind,
            key_file: self.cluster_key_file,
            settings,
            failback: self.failback.0,
            check_first: self.probe_before_claim,
            hand_over: self.on_stop == OnStop::Handover,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failback_is_never_immediate_or_after_a_while() {
        let parsed = |text: &str| text.parse::<Failback>().map(|Failback(failback)| failback);
        assert_eq!(parsed("never"), Ok(cluster::Failback::Never));
        assert_eq!(parsed("immediate"), Ok(cluster::Failback::Immediate));
        let five_minutes = Duration::from_secs(300);
        assert_eq!(
            parsed("after=5m"),
            Ok(cluster::Failback::After(five_minutes))
        );
        assert!(parsed("after=soon").is_err());
        assert!(parsed("sometimes").is_err());
    }
}

//! Flags for sharing VIPs with other nodes.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use speaker_core::cluster::{self, Settings};
use tracing::warn;

use super::{address, common::duration};
use crate::{
    agent::Membership,
    peers::{Keys, Peer},
};

/// Flags for sharing VIPs with other nodes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sharing VIPs with other nodes")]
pub(super) struct Cluster {
    /// Address or host name of another node that shares the VIPs; repeatable, and this node may be
    /// among them. Names are looked up again while the agent runs. Default: none, this node owns
    /// all VIPs
    #[arg(
        long = "peer",
        env = "SPEAKER_PEERS",
        value_name = "HOST[:PORT]",
        value_delimiter = ',',
        value_parser = address::of_peer
    )]
    peers: Vec<Peer>,

    /// UDP address to listen on; the next port serves liveness probes. Default: the source address
    /// used to reach the first --peer, port 7946
    #[arg(long, env = "SPEAKER_GOSSIP_BIND", value_name = "ADDR[:PORT]",
          value_parser = address::of_node)]
    gossip_bind: Option<SocketAddr>,

    /// File with the shared keys, one per line: the first encrypts what is sent, all are accepted.
    /// Reloaded on change
    #[arg(long, env = "SPEAKER_CLUSTER_KEY_FILE", value_name = "FILE")]
    cluster_key_file: Option<PathBuf>,

    /// When a VIP moves back to a node that is preferred over its owner: never, immediate, or
    /// after=DURATION
    #[arg(
        long,
        env = "SPEAKER_FAILBACK",
        value_name = "WHEN",
        default_value = "never"
    )]
    failback: Failback,

    /// Which side of a network partition keeps answering. With `majority`, every node probes every
    /// other, at about 30 packets per second for each
    #[arg(long, env = "SPEAKER_PARTITION", value_enum, default_value_t = Partition::Available)]
    partition: Partition,

    /// What happens to this node's VIPs when the agent is stopped
    #[arg(long, env = "SPEAKER_ON_STOP", value_enum, default_value_t = OnStop::Stay)]
    on_stop: OnStop,

    /// Check that no other host uses a VIP before claiming it for the first time, and leave it
    /// alone while one does. Takes 300 ms; never done on fail-over
    #[arg(long, env = "SPEAKER_PROBE_BEFORE_CLAIM")]
    probe_before_claim: bool,

    /// Interval between liveness probes to a node. Default: 100ms
    #[arg(long, env = "SPEAKER_PROBE_INTERVAL", value_name = "DURATION",
          value_parser = duration)]
    probe_interval: Option<Duration>,

    /// Silence after which a node is also probed through other nodes. Default: 250ms
    #[arg(long, env = "SPEAKER_SUSPECT_AFTER", value_name = "DURATION",
          value_parser = duration)]
    suspect_after: Option<Duration>,

    /// How long a node keeps answering after a peer last renewed its lease. Default: 350ms
    #[arg(long, env = "SPEAKER_PEERS_LEASE", value_name = "DURATION",
          value_parser = duration)]
    peers_lease: Option<Duration>,

    /// Silence after which a node's VIPs are taken over; must exceed its lease. Default: 360ms, or
    /// 610ms with --partition majority
    #[arg(long, env = "SPEAKER_TAKE_OVER_AFTER", value_name = "DURATION",
          value_parser = duration)]
    take_over_after: Option<Duration>,
}

/// `--failback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failback(cluster::Failback);

impl FromStr for Failback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let after = |text| duration(text).ok();
        match text {
            "never" => Ok(cluster::Failback::Never),
            "immediate" => Ok(cluster::Failback::Immediate),
            text => text
                .strip_prefix("after=")
                .and_then(after)
                .map(cluster::Failback::After)
                .ok_or_else(|| {
                    "expected never, immediate, or after=DURATION, such as after=5m".to_owned()
                }),
        }
        .map(Self)
    }
}

/// `--partition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Partition {
    /// Each side, for the clients that can still reach it
    Available,
    /// Only the side with more than half of all nodes
    Majority,
}

/// `--on-stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnStop {
    /// The kernel keeps answering for 60 seconds, enough for a restart
    Stay,
    /// They are handed over to other nodes first
    Handover,
}

impl Cluster {
    /// Warns if users other than its owner can read the key file. A missing file is refused later.
    pub(super) fn check_key_file(&self) {
        if let Some(path) = &self.cluster_key_file
            && Keys::are_exposed(path).unwrap_or(false)
        {
            let path = path.display();
            warn!(
                "users other than its owner can read {path} (--cluster-key-file), and anyone with \
                 the key can claim VIPs: run `chmod 600 {path}`"
            );
        }
    }

    /// The membership given by the flags. `follow`: the configuration names the nodes.
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
    fn help_shows_the_defaults_of_the_timing_flags() {
        let command = Cluster::augment_args(clap::Command::new("agent"));
        let check = |flag: &str, partition, default: fn(&Settings) -> Duration| {
            let argument = command
                .get_arguments()
                .find(|it| it.get_id() == flag)
                .unwrap();
            let help = argument.get_help().unwrap().to_string();
            let default = format!("{:?}", default(&Settings::new(partition)));
            assert!(
                help.contains(&default),
                "{flag}: {default} is not in {help}"
            );
        };
        let available = cluster::Partition::Available;
        check("probe_interval", available, |it| it.probe_interval);
        check("suspect_after", available, |it| it.suspect_after);
        check("peers_lease", available, |it| it.peers_lease);
        check("take_over_after", available, |it| it.take_over_after);
        let majority = cluster::Partition::Majority;
        check("take_over_after", majority, |it| it.take_over_after);
    }

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

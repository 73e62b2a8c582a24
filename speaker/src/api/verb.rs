//! What an operator can request from the agent.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

/// A request of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub enum Verb {
    /// Hand everything over and take nothing.
    Drain,
    /// Take part again.
    Undrain,
    /// Move a VIP, and those that belong with it, to a node.
    Move {
        /// The VIP.
        vip: IpAddr,
        /// The node.
        node: String,
    },
    /// Spread the VIPs evenly over the nodes, with the fewest moves.
    Rebalance,
    /// Load the build of the program that logs, or the one that does not.
    EbpfLog {
        /// The lowest level that it logs.
        #[serde(with = "level")]
        level: LevelFilter,
    },
}

/// A level as its name.
mod level {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use tracing::level_filters::LevelFilter;

    pub(super) fn serialize<S: Serializer>(level: &LevelFilter, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(level)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LevelFilter, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

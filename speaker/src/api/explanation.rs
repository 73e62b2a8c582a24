//! What `speaker explain` shows.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use speaker_core::cluster::CandidateStanding;

/// Who owns a VIP, since when, why that node and why not another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The VIP.
    pub vip: IpAddr,
    /// The node that reports.
    pub node: String,
    /// What that node does about the VIP.
    pub state: NodeState,
    /// The node that owns it; `None` while it is vacant.
    pub owner: Option<String>,
    /// The epoch of the ownership, raised by each new owner.
    pub epoch: u64,
    /// Milliseconds since that node became the owner, as far as this node knows.
    pub since_ms_ago: Option<u64>,
    /// Why that node became the owner.
    pub cause: Option<String>,
    /// The previous owners, most recent first, and what ended the ownership of each.
    pub history: Vec<FormerOwner>,
    /// The nodes that may own it, in order of preference.
    pub candidates: Vec<CandidateReport>,
    /// The nodes that may not own it, and why.
    #[serde(default)]
    pub excluded: BTreeMap<String, String>,
    /// The last other claimant.
    pub claimed_by: Option<String>,
    /// Milliseconds since then.
    pub claimed_ms_ago: Option<u64>,
}

/// What the reporting node does about a VIP. In JSON, its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum NodeState {
    /// It answers.
    Answering,
    /// It leaves the VIP to its owner.
    Standby {
        /// The node that owns it.
        owner: String,
    },
    /// It does not answer, and no other node owns the VIP.
    Silent {
        /// Why not.
        why: String,
    },
    /// It has not decided yet.
    Starting,
}

/// A node that owned a VIP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FormerOwner {
    /// Its name.
    pub node: String,
    /// What ended its ownership.
    pub until: String,
}

/// A node that may own a VIP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CandidateReport {
    /// Its name.
    pub node: String,
    /// Its preference.
    pub preference: i64,
    /// Whether it owns the VIP, or could take it now.
    pub standing: CandidateStanding,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answering => f.write_str("answering"),
            Self::Standby { owner } => write!(f, "standby: {owner} owns it"),
            Self::Silent { why } => write!(f, "silent: {why}"),
            Self::Starting => f.write_str("starting"),
        }
    }
}

impl From<NodeState> for String {
    fn from(state: NodeState) -> Self {
        state.to_string()
    }
}

impl TryFrom<String> for NodeState {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let owner = |rest: &str| rest.strip_suffix(" owns it").map(str::to_owned);
        if let Some(owner) = text.strip_prefix("standby: ").and_then(owner) {
            return Ok(Self::Standby { owner });
        }
        if let Some(why) = text.strip_prefix("silent: ").map(str::to_owned) {
            return Ok(Self::Silent { why });
        }
        match text.as_str() {
            "answering" => Ok(Self::Answering),
            "starting" => Ok(Self::Starting),
            _ => Err(format!("unknown state {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use speaker_core::link::XdpMode;

    use super::*;

    #[track_caller]
    fn check<T>(value: T, json: &str)
    where
        T: Serialize + DeserializeOwned + PartialEq + fmt::Debug,
    {
        assert_eq!(serde_json::to_string(&value).unwrap(), json);
        assert_eq!(serde_json::from_str::<T>(json).unwrap(), value);
    }

    #[test]
    fn a_state_is_its_text_in_json() {
        check(NodeState::Answering, r#""answering""#);
        let owner = "n 2: owns it".to_owned();
        check(
            NodeState::Standby { owner },
            r#""standby: n 2: owns it owns it""#,
        );
        let why = "it has no owner yet".to_owned();
        check(
            NodeState::Silent { why },
            r#""silent: it has no owner yet""#,
        );
        check(NodeState::Starting, r#""starting""#);
        assert!(serde_json::from_str::<NodeState>(r#""asleep""#).is_err());
    }

    #[test]
    fn a_standing_is_its_text_in_json() {
        use CandidateStanding::*;
        for standing in [
            Owner, Ready, Draining, Restarting, Silent, Down, Left, NotMember,
        ] {
            check(standing, &format!("\"{standing}\""));
        }
    }

    #[test]
    fn a_mode_is_its_text_in_json() {
        use XdpMode::*;
        for mode in [Native, Generic, Offloaded] {
            check(mode, &format!("\"{mode}\""));
        }
    }
}

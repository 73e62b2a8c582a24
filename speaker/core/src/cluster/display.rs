//! Owners, nodes and events as text for people.

use std::fmt::{self, Display, Formatter};

use super::{
    explain::CandidateStanding,
    io::{Cause, Claimant, DownReason, Event, LifeOver, Reason, Silence},
    name::NodeName,
};
use crate::describe::mac_text;

impl Display for Cause {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("nobody owned it"),
            Self::Resumed => f.write_str("that node owned it before its lease lapsed"),
            Self::Met => f.write_str("that node owned it when this node met it"),
            Self::Adopted => f.write_str("that node owned it before its agent restarted"),
            Self::Down(node) => write!(f, "{node}, which owned it, was down"),
            Self::GivenUp(node) => write!(f, "{node} gave it up"),
            Self::HandedOver { by, why } => write!(f, "{by} handed it over: {why}"),
        }
    }
}

impl Cause {
    /// What ended the time of the former owner, as far as this node knows, after "until".
    pub fn ending(&self, former: &NodeName) -> String {
        let it = |node: &NodeName| match node == former {
            true => "it".to_owned(),
            false => node.to_string(),
        };
        match self {
            Self::First | Self::Resumed | Self::Met | Self::Adopted => {
                "another node owned it".to_owned()
            }
            Self::Down(node) => format!("{} was down", it(node)),
            Self::GivenUp(node) => format!("{} gave it up", it(node)),
            Self::HandedOver { by, why } => format!("{} handed it over: {why}", it(by)),
        }
    }
}

impl Display for Reason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drain => "it is drained, or was stopped for good",
            Self::NotCandidate => "its configuration or its links no longer allow it",
            Self::Failback => "a better candidate was back",
            Self::Move => "an operator asked for the move",
            Self::Rebalance => "an operator asked for a rebalance",
            Self::Together => "it must stay with the other VIPs of its Service",
        })
    }
}

impl Display for Silence {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCandidate => "no live node may own it",
            Self::Vacant => "it has no owner yet",
            Self::Joining => "this node has not met the others yet",
            Self::InUse => "another host on the network answers for it",
            Self::Minority => "this node does not reach more than half of the nodes",
        })
    }
}

impl Display for DownReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "no node reaches it",
            Self::Agentless => "its agent is gone",
            Self::Lapsed => "its lease has lapsed",
        })
    }
}

impl Display for LifeOver {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lapsed => "its lease has lapsed",
            Self::Declared => "the other nodes declared it down",
            Self::Minority => "it does not reach more than half of the nodes",
        })
    }
}

impl Display for CandidateStanding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "owner",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Restarting => "restarting",
            Self::Silent => "silent",
            Self::Down => "down",
            Self::Left => "left",
            Self::NotMember => "not a member",
        })
    }
}

impl Display for Claimant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Foreign(mac) => f.write_str(&mac_text(mac)),
        }
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::MemberUp(node) => write!(f, "{node} is a member"),
            Self::MemberDown(node, _, why) => write!(f, "{node} is down: {why}"),
            Self::MemberLeft(node) => write!(f, "{node} has left"),
            Self::Joined => f.write_str("this node has joined"),
            Self::LifeOver(why) => write!(f, "this node gives up its VIPs and joins again: {why}"),
            Self::NameTaken(address) => write!(
                f,
                "the agent at {address} has this node's name too: give each node its own --node-name"
            ),
            Self::TimesDiffer(node, spans) => write!(
                f,
                "{node} uses different times (probe interval {:?}, peers lease {:?}, agent grace \
                 {:?}, {:?} to notice a lost majority, clock off by up to {} ppm): the longer ones \
                 apply; give all nodes the same flags",
                spans.heartbeat,
                spans.peers_lease,
                spans.agent_grace,
                spans.notice,
                spans.drift_ppm
            ),
            Self::Unreadable(address) => write!(
                f,
                "a message from {address} cannot be read: the agent there is a different version; \
                 run the same version on both nodes"
            ),
            Self::MoveRefused(vip, node) => {
                write!(
                    f,
                    "{vip} cannot be moved to {node}, which may not own it now"
                )
            }
            Self::Conflict(vip, by) => write!(f, "{by} also claims {vip}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_owner_has_the_reason_for_its_end() {
        let check = |cause: Cause, expect: &str| {
            assert_eq!(cause.ending(&"node-c".into()), expect);
        };
        check(Cause::Down("node-c".into()), "it was down");
        check(Cause::GivenUp("node-c".into()), "it gave it up");
        let handed_over = |by: &str| Cause::HandedOver {
            by: by.into(),
            why: Reason::Failback,
        };
        check(
            handed_over("node-c"),
            "it handed it over: a better candidate was back",
        );
        // This node missed what came between the two.
        check(
            handed_over("node-b"),
            "node-b handed it over: a better candidate was back",
        );
        check(Cause::Met, "another node owned it");
    }
}

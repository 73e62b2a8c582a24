//! Explains who owns a VIP, since when, why that node, and why not another.

use std::{net::IpAddr, time::Instant};

use serde::{Deserialize, Serialize};

use super::{
    Cluster,
    io::{Cause, Claimant, LinkInfo, VipState},
    name::{Endpoints, Epoch, Life, NodeName},
    peer::State,
};

/// What this node knows about a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What this node does for it; `None` if its intent does not name the VIP.
    pub state: Option<VipState>,
    /// The owner, if it is alive.
    pub owner: Option<NodeName>,
    /// Counts its owners.
    pub epoch: Epoch,
    /// When the owner became one, as far as this node knows.
    pub since: Option<Instant>,
    /// Why the owner became one.
    pub cause: Option<Cause>,
    /// Former owners, most recent first, each with the reason why the next one followed.
    pub history: Vec<(NodeName, Cause)>,
    /// The candidates, best first.
    pub candidates: Vec<Candidate>,
    /// The last claim that somebody else made to the VIP on the wire.
    pub conflict: Option<(Claimant, Instant)>,
}

/// A node that may own a VIP by configuration, links and subnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: NodeName,
    /// Its preference.
    pub score: i64,
    /// Whether it owns the VIP, or could.
    pub standing: CandidateStanding,
}

/// The standing of a candidate, or of a node in general.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CandidateStanding {
    /// It owns the VIP.
    Owner,
    /// It would take the VIP if it were vacant and no better candidate existed.
    Ready,
    /// It is being drained.
    Draining,
    /// Its agent announced that it restarts.
    Restarting,
    /// It does not reply.
    Silent,
    /// It is down.
    Down,
    /// It left.
    Left,
    /// It is not a member, or not yet.
    #[serde(rename = "not a member")]
    NotMember,
}

impl CandidateStanding {
    /// Whether the node is a member.
    pub fn is_member(self) -> bool {
        !matches!(self, Self::Down | Self::Left | Self::NotMember)
    }
}

/// Another node that this one knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Its present life.
    pub life: Life,
    /// Its addresses.
    pub endpoints: Endpoints,
    /// Its links, as it reported them.
    pub links: Vec<LinkInfo>,
    /// Its standing, regardless of VIPs.
    pub standing: CandidateStanding,
    /// When it last became a member, or ceased to be one.
    pub since: Instant,
    /// When it last replied to a probe of this node.
    pub heard: Option<Instant>,
}

impl Cluster {
    /// The live owner of a VIP, as far as this node knows.
    pub fn owner(&self, vip: IpAddr) -> Option<NodeName> {
        let seat = self.seats.get(&vip);
        if seat.is_some_and(|seat| seat.mine.is_owned()) {
            return Some(self.name.clone());
        }
        self.live_owner(self.records.get(&vip)?)
    }

    /// What this node knows about a VIP. A VIP that its intent does not name has neither state nor
    /// candidates; if no member owns it either, there is no explanation.
    pub fn explain(&self, vip: IpAddr) -> Option<Explanation> {
        let seat = self.seats.get(&vip);
        let record = self.records.get(&vip);
        let owner = self.owner(vip);
        if seat.is_none() && owner.is_none() {
            return None;
        }
        let candidates = seat
            .into_iter()
            .flat_map(|seat| &seat.order)
            .map(|(name, score)| Candidate {
                name: name.clone(),
                score: *score,
                standing: if owner.as_ref() == Some(name) {
                    CandidateStanding::Owner
                } else {
                    self.standing_of(name)
                },
            })
            .collect();
        Some(Explanation {
            state: self.state(vip).cloned(),
            owner,
            epoch: record.map_or(0, |record| record.epoch),
            since: record.map(|record| record.origin.since),
            cause: record.map(|record| record.origin.cause.clone()),
            history: record
                .map_or_else(Vec::new, |record| record.history.iter().cloned().collect()),
            candidates,
            conflict: seat.and_then(|seat| seat.wire.claimed.clone()),
        })
    }

    /// What this node does for a VIP, once decided.
    pub fn state(&self, vip: IpAddr) -> Option<&VipState> {
        self.seats.get(&vip)?.state.as_ref()
    }

    /// The other nodes that this one knows.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.peers.iter().map(|(name, peer)| Member {
            name: name.clone(),
            life: peer.life,
            endpoints: peer.card.endpoints,
            links: peer.links.known().to_vec(),
            standing: self.standing_of(name),
            since: peer.since,
            heard: peer.evidence.heard,
        })
    }

    /// Counts the changes of [`members`](Self::members) in names and links.
    pub fn members_version(&self) -> u64 {
        self.members_version
    }

    /// The VIPs that this node owns.
    pub(super) fn owned(&self) -> impl Iterator<Item = IpAddr> {
        let owned = self.seats.iter().filter(|(_, seat)| seat.mine.is_owned());
        owned.map(|(vip, _)| *vip)
    }

    fn standing_of(&self, name: &NodeName) -> CandidateStanding {
        let own = *name == self.name;
        if own && self.card.draining {
            return CandidateStanding::Draining;
        } else if own && self.lease.restarting {
            return CandidateStanding::Restarting;
        } else if own {
            return if self.is_joined() {
                CandidateStanding::Ready
            } else {
                CandidateStanding::NotMember
            };
        }
        let Some(peer) = self.peers.get(name) else {
            return CandidateStanding::NotMember;
        };
        match peer.state {
            State::Unmet => CandidateStanding::NotMember,
            State::Down(_) => CandidateStanding::Down,
            State::Left => CandidateStanding::Left,
            State::Live if peer.evidence.gone => CandidateStanding::Silent,
            State::Live if peer.paused.is_some() => CandidateStanding::Restarting,
            State::Live if peer.card.draining => CandidateStanding::Draining,
            State::Live => CandidateStanding::Ready,
        }
    }
}

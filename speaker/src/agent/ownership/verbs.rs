//! The operator's requests.

use std::{io, net::IpAddr};

use anyhow::{Context as _, Result};
use speaker_core::cluster::{CandidateStanding, Explanation, Input, Member, NodeName, VipState};

use super::{Ownership, local_node::LocalNode};

/// Why the agent refuses a request of the operator.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum Refused {
    #[error("{0} is not a VIP of this node's configuration")]
    Unknown(IpAddr),
    #[error("{0} may not own {1}: see `speaker explain {1}`")]
    NoCandidate(String, IpAddr),
    #[error("{0} cannot take {1} now: it is {2}")]
    Unready(String, IpAddr, CandidateStanding),
}

impl Ownership {
    /// Drains this node, or lets it take part again. Survives restarts.
    pub(in super::super) fn drain(&mut self, draining: bool, local: &mut LocalNode) -> Result<()> {
        let noted = if draining {
            std::fs::write(&self.drained, "")
        } else {
            std::fs::remove_file(&self.drained)
        };
        match noted {
            Err(error) if draining || error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| {
                    let action = if draining { "write" } else { "remove" };
                    let path = self.drained.display();
                    format!(
                        "cannot {action} {path}, which keeps the node drained over restarts: the \
                         agent must be able to write to its --state-dir"
                    )
                });
            }
            _ => {}
        }
        self.draining = draining;
        self.handle(Input::Drain(draining), local);
        Ok(())
    }

    pub(in super::super) fn draining(&self) -> bool {
        self.draining
    }

    /// Asks the owner of a VIP to hand it over to another node.
    pub(in super::super) fn r#move(
        &mut self,
        vip: IpAddr,
        to: &str,
        local: &mut LocalNode,
    ) -> Result<(), Refused> {
        use CandidateStanding::{Owner, Ready};
        let explanation = self.explain(vip);
        let explanation = explanation.ok_or(Refused::Unknown(vip))?;
        let to = NodeName::from(to);
        let mut candidates = explanation.candidates.iter();
        match candidates.find(|candidate| candidate.name == to) {
            None => return Err(Refused::NoCandidate(to.into(), vip)),
            Some(candidate) if !matches!(candidate.standing, Owner | Ready) => {
                return Err(Refused::Unready(to.into(), vip, candidate.standing));
            }
            Some(_) => {}
        }
        self.handle(Input::Move { vip, to }, local);
        Ok(())
    }

    /// Who owns a VIP, and why; `None` if the configuration does not have it.
    pub(in super::super) fn explain(&self, vip: IpAddr) -> Option<Explanation> {
        self.told.get(&vip)?;
        self.cluster.explain(vip)
    }

    /// What this node does for a VIP of the configuration, once decided.
    pub(in super::super) fn state(&self, vip: IpAddr) -> Option<&VipState> {
        self.told.get(&vip)?;
        self.cluster.state(vip)
    }

    /// The node that owns a VIP of the configuration.
    pub(in super::super) fn owner(&self, vip: IpAddr) -> Option<NodeName> {
        self.told.get(&vip)?;
        self.cluster.owner(vip)
    }

    /// Whether no node may own a VIP.
    pub(in super::super) fn has_no_candidate(&self, vip: IpAddr) -> bool {
        let vip = self.told.get(&vip);
        vip.is_some_and(|vip| vip.candidates.is_empty())
    }

    /// A number that changes whenever members or owners may have changed.
    pub(in super::super) fn edition(&self) -> u64 {
        self.edition
    }

    pub(in super::super) fn members(&self) -> impl Iterator<Item = Member> {
        self.cluster.members()
    }

    /// How many datagrams no key decrypted.
    pub(in super::super) fn unreadable(&self) -> u64 {
        self.net.as_ref().map_or(0, |net| net.unreadable)
    }
}

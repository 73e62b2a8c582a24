//! Claims by a node that joined while a member's agent is away.
//!
//! A member whose agent restarts cannot be asked for consent. Who has met it knows what it may own,
//! and leaves that alone; to everything else it has consented by announcing its restart (`claim`).
//! A node that has yet to meet it knows nothing. So its claims name that member, and a member that
//! has met it has to vouch for it: it says so with its own consent, and denies what the other may
//! own.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use super::{
    Cluster,
    io::Silence,
    message::{Ask, Refusal},
    name::{Epoch, Life, NodeName},
    record::{Holder, Origin},
    timing::Timing,
};

/// The most members that a claim can name: more would not fit in a message.
const MOST: usize = 4;

/// Members by their number in probes, each in a life.
pub(super) type Unmet = BTreeMap<u64, Life>;

impl Cluster {
    /// The members that this node has not met and whose agents restart; `None` if there are too
    /// many of them to claim anything.
    pub(super) fn unmet_restarting(&self) -> Option<Unmet> {
        let unmet: Unmet = self
            .live()
            .filter(|(_, peer)| peer.paused.is_some() && !peer.handshake.met)
            .map(|(_, peer)| (peer.number, peer.life))
            .collect();
        (unmet.len() <= MOST).then_some(unmet)
    }

    /// Those of these members whose agents restart and whom this node has met.
    pub(super) fn vouch(&self, unmet: &Unmet) -> Vec<u64> {
        let knows = |number: u64, life: Life| {
            let peer = self.peers.numbered(number).map(|(_, peer)| peer);
            peer.is_some_and(|peer| {
                peer.is_live() && peer.life == life && peer.handshake.met && peer.paused.is_some()
            })
        };
        let met = unmet
            .iter()
            .filter(|(number, life)| knows(**number, **life));
        met.map(|(number, _)| *number).collect()
    }

    /// Refuses a VIP that one of these members may own. An owner also refuses if it would give the
    /// VIP up and cannot vouch for all of them.
    pub(super) fn check_unmet(&self, vip: IpAddr, unmet: &Unmet) -> Result<(), Refusal> {
        let holders = self.records.get(&vip).map(|record| &record.holders);
        for Holder { name, life } in holders.into_iter().flatten() {
            let number = self.peers.get(name).map(|peer| peer.number);
            if let Some(by) = number.filter(|number| unmet.get(number) == Some(life)) {
                return Err(Refusal::Held { by });
            }
        }
        let seat = self.seats.get(&vip);
        let owned = seat.is_some_and(|seat| seat.mine.is_owned());
        if owned && self.vouch(unmet).len() < unmet.len() {
            return Err(Refusal::Mine);
        }
        Ok(())
    }

    /// A member says that another one, whose agent restarts, may own the VIP.
    pub(super) fn learn_holder(&mut self, vip: IpAddr, by: u64, epoch: Epoch, now: Instant) {
        let Some((name, peer)) = self.peers.numbered(by) else {
            return;
        };
        let (name, life): (NodeName, Life) = (name.clone(), peer.life);
        self.learn_owner(vip, &name, life, epoch, Origin::met(now), now);
    }

    /// Withdraws claims to which all have consented without anybody's vouching for a member that
    /// could not be asked, and makes them again later.
    pub(super) fn withdraw_unvouched(&mut self, now: Instant) {
        let unvouched = self.rounds.iter().filter(|(_, round)| round.is_unvouched());
        let unvouched: Vec<u64> = unvouched.map(|(id, _)| *id).collect();
        for id in unvouched {
            let Some(Ask::Claim { entries, .. }) = self.rounds.get(&id).map(|round| &round.ask)
            else {
                continue;
            };
            let vips: Vec<IpAddr> = entries.keys().copied().collect();
            // The members have consented, and expect this node to answer.
            self.release(&vips, Silence::Vacant, now);
            self.rounds.remove(&id);
            for vip in vips {
                self.agenda.add_at(now + Timing::PATIENCE, vip);
            }
        }
    }
}

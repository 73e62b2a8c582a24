//! How members go: down, for good, or for a restart.

use std::time::Instant;

use super::{
    Cluster,
    io::{DownReason, Event},
    name::NodeName,
    peer::State,
};

impl Cluster {
    pub(super) fn mark_down(&mut self, name: &NodeName, why: DownReason, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        peer.state = State::Down(why);
        peer.since = now;
        peer.watch = None;
        peer.evidence.gone = true;
        let life = peer.life;
        let address = peer.card.endpoints.messages;
        self.event(Event::MemberDown(name.clone(), life, why));
        self.probe_the_dead(address, now);
        self.remove_member(name, now);
    }

    pub(super) fn on_leave(&mut self, name: &NodeName, now: Instant) {
        if let Some(peer) = self.peers.get_mut(name) {
            peer.state = State::Left;
            peer.since = now;
            peer.watch = None;
            self.event(Event::MemberLeft(name.clone()));
            self.remove_member(name, now);
        }
    }

    fn remove_member(&mut self, name: &NodeName, now: Instant) {
        self.forget_votes_of(name);
        self.watches_stale = true;
        self.forget_records();
        self.decide_all();
        self.drop_from_rounds(name, now);
    }

    /// A member's agent announced, at `said` or later, that it restarts. Until it says hello, it
    /// consents to every claim to a VIP that it does not own, and renews nobody.
    pub(super) fn on_pause(&mut self, name: &NodeName, said: Instant, now: Instant) {
        if let Some(peer) = self.peers.get_mut(name)
            && peer.paused.is_none()
            && peer.handshake.confirmed <= said
        {
            peer.paused = Some(now);
            self.decide_all();
            self.abandon_claims_awaiting_restarts(now);
            self.drop_from_rounds(name, now);
        }
    }
}

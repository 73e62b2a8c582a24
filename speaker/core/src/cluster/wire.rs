//! What the wire itself shows about who owns a VIP.
//!
//! Two nodes that can neither probe nor message each other may still share a wire and see each
//! other's announcements. These carry no epoch, but it can be inferred: the node that took the VIP
//! over while it considered the other down has the higher one, and usually both know which node
//! that is. If both persist all the same, the lower hash wins.
//!
//! A node that receives nothing announces its VIPs like any other, but answers for none of them. So
//! before a node concedes a VIP, it checks on the wire that the other one really answers.

use std::{collections::BTreeMap, net::IpAddr, slice, time::Instant};

use super::{
    Cluster,
    io::{Claimant, Command, Event, Occupancy},
    name::NodeName,
    order::weight,
    peer::State,
    record::{Holder, Origin},
    seat::Mine,
    timing::Timing,
};

/// What the wire has shown about a VIP.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// Other nodes of the cluster that claim this one's VIP.
    contests: BTreeMap<NodeName, Contest>,
    /// An unreachable node owns it: it is not claimed before the wire is silent.
    pub(super) conceded: bool,
    check: Check,
    /// The last foreign claim.
    pub(super) claimed: Option<(Claimant, Instant)>,
}

/// Another node of the cluster claims a VIP of this one.
#[derive(Debug)]
struct Contest {
    since: Instant,
    /// When this node last announced the VIP in response.
    answered: Option<Instant>,
    /// That was after messages could have settled the contest.
    challenged: bool,
    /// A check is under way whether the other node answers.
    asked: bool,
    /// The check failed: when to judge again.
    again: Option<Instant>,
}

impl Contest {
    /// When this node announces the VIP to make the other one show whether it still claims it. The
    /// margin is for the other node, which noticed the contest a little later.
    fn challenge(&self) -> Instant {
        self.since + Timing::WIRE + Timing::WIRE / 5
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Check {
    #[default]
    Unknown,
    Asked,
    Free,
    /// Another host answered; check again at this time.
    InUse(Instant),
    /// The check failed; check again at this time.
    Failed(Instant),
}

impl Wire {
    pub(super) fn is_in_use(&self, now: Instant) -> bool {
        match self.check {
            Check::InUse(until) => now < until,
            // It may no longer be.
            Check::Failed(until) => self.conceded && now < until,
            Check::Asked => self.conceded,
            Check::Unknown | Check::Free => false,
        }
    }

    /// Ends all contests, which were about an earlier ownership of this node.
    pub(super) fn forget_contests(&mut self) {
        self.contests.clear();
    }

    /// A member owns the VIP: whether its successor may claim it is for the members to say.
    pub(super) fn trust_members(&mut self) {
        self.conceded = false;
        self.check = Check::Unknown;
    }

    pub(super) fn next_look(&self) -> Option<Instant> {
        match self.check {
            Check::InUse(until) | Check::Failed(until) => Some(until),
            Check::Unknown | Check::Asked | Check::Free => None,
        }
    }
}

impl Cluster {
    /// Whether a VIP is not claimed before the wire shows that no other host uses it.
    pub fn awaits_check(&self, vip: IpAddr) -> bool {
        let seat = self.seats.get(&vip);
        seat.is_some_and(|seat| seat.wire.check != Check::Unknown)
    }

    /// Whether the wire allows a vacant VIP to be claimed: it has been checked, or need not be.
    pub(super) fn is_checked(&mut self, vip: IpAddr, now: Instant) -> bool {
        let new = self
            .records
            .get(&vip)
            .is_none_or(|record| record.epoch == 0);
        let Some(seat) = self.seats.get_mut(&vip) else {
            return false;
        };
        let unsure = seat.wire.conceded || new && self.check_first;
        if !unsure {
            return true;
        }
        match seat.wire.check {
            Check::Free => {
                seat.wire.check = Check::Unknown;
                seat.wire.conceded = false;
                return true;
            }
            Check::InUse(until) | Check::Failed(until) if now < until => {
                self.agenda.add_at(until, vip);
            }
            Check::Asked => {}
            Check::Unknown | Check::InUse(_) | Check::Failed(_) => {
                seat.wire.check = Check::Asked;
                self.commands.push_back(Command::Check(vip));
            }
        }
        false
    }

    pub(super) fn on_checked(&mut self, vip: IpAddr, occupancy: Occupancy, now: Instant) {
        let Some(seat) = self.seats.get_mut(&vip) else {
            return;
        };
        let again = now + Timing::UNCHECKED;
        if seat.wire.check == Check::Asked {
            seat.wire.check = match occupancy {
                Occupancy::Free => Check::Free,
                Occupancy::InUse => Check::InUse(now + Timing::RECHECK),
                Occupancy::Unknown => Check::Failed(again),
            };
            self.agenda.add(vip);
        }
        let mut asked = Vec::new();
        for (name, contest) in &mut seat.wire.contests {
            if std::mem::take(&mut contest.asked) {
                contest.again = (occupancy == Occupancy::Unknown).then_some(again);
                asked.push(name.clone());
            }
        }
        let Some(with) = asked.iter().min_by_key(|name| weight(name, vip)) else {
            return;
        };
        if !seat.mine.is_owned() {
            return;
        }
        match occupancy {
            Occupancy::Free => self.answer_contests(vip, &asked, now),
            Occupancy::InUse => self.concede(vip, with, now),
            Occupancy::Unknown => self.agenda.add_at(again, vip),
        }
    }

    pub(super) fn on_wire_claim(&mut self, vip: IpAddr, by: Claimant, now: Instant) {
        let Some(seat) = self.seats.get_mut(&vip) else {
            return;
        };
        let news = seat
            .wire
            .claimed
            .as_ref()
            .is_none_or(|(last, at)| *last != by || now >= *at + Timing::DEFEND);
        if news {
            seat.wire.claimed = Some((by.clone(), now));
        }
        if !seat.mine.is_owned() {
            return;
        }
        if news {
            self.event(Event::Conflict(vip, by.clone()));
        }
        match by {
            // The shell defends it: RFC 5227 §2.4 allows one announcement, not a burst.
            Claimant::Foreign(_) => {}
            Claimant::Node(name) => self.settle(vip, &name, now),
        }
    }

    fn settle(&mut self, vip: IpAddr, name: &NodeName, now: Instant) {
        let Some(record) = self.records.get(&vip) else {
            return;
        };
        let epoch = record.epoch;
        let better = self.yields(vip, epoch, name, epoch);
        let taken_from = record.history.front().map(|(last, _)| last) == Some(name);
        let yields = match self.peers.get(name).map(|peer| (peer.state, peer.since)) {
            // The frame may be late, or come from the other node's kernel, which has the VIP too with
            // kube-proxy in IPVS mode. A member that can be reached settles it by epoch.
            Some((State::Live, _)) => {
                self.commands.push_back(Command::Defend(vip));
                None
            }
            // It was down before this node took the VIP: from it, or from a third node, from which
            // it may have taken it too.
            Some((State::Down(_), down)) if down <= record.origin.since => {
                Some(!taken_from && better)
            }
            // It was a member and consented when this node took the VIP. So it has given this node
            // up since, and its epoch is higher.
            Some((State::Down(_), _)) => Some(true),
            Some((State::Unmet | State::Left, _)) | None => Some(better),
        };
        let Some(seat) = self.seats.get_mut(&vip) else {
            return;
        };
        let going_on = |contest: &&Contest| now < contest.since + Timing::DEFEND;
        let late = match seat.wire.contests.get(name).filter(going_on) {
            Some(contest) => now >= contest.since + Timing::WIRE,
            None => {
                let contest = Contest {
                    since: now,
                    answered: None,
                    challenged: false,
                    asked: false,
                    again: None,
                };
                self.agenda.add_at(contest.challenge(), vip);
                seat.wire.contests.insert(name.clone(), contest);
                if yields.is_none() {
                    self.reassert(vip, epoch, now);
                }
                false
            }
        };
        match yields {
            _ if late && better => self.ask_before_conceding(vip, name),
            _ if late => self.answer_contests(vip, slice::from_ref(name), now),
            Some(true) => self.ask_before_conceding(vip, name),
            Some(false) if self.may_answer_contest(vip, name, now) => {
                self.answer_contests(vip, slice::from_ref(name), now);
            }
            Some(false) | None => {}
        }
    }

    /// One check is enough for all contests that it can end.
    fn ask_before_conceding(&mut self, vip: IpAddr, to: &NodeName) {
        let Some(seat) = self.seats.get_mut(&vip) else {
            return;
        };
        let contests = &mut seat.wire.contests;
        let is_asked = contests.values().any(|contest| contest.asked);
        if let Some(contest) = contests.get_mut(to) {
            contest.asked = true;
        }
        if !is_asked {
            self.commands.push_back(Command::Check(vip));
        }
    }

    /// Whether an announcement is due in response to a frame: not to every frame, or two nodes
    /// would answer each other endlessly.
    fn may_answer_contest(&self, vip: IpAddr, with: &NodeName, now: Instant) -> bool {
        let seat = self.seats.get(&vip);
        let contest = seat.and_then(|seat| seat.wire.contests.get(with));
        contest.is_some_and(|contest| {
            contest
                .answered
                .is_none_or(|last| now >= last + Timing::WIRE / 2)
        })
    }

    fn answer_contests(&mut self, vip: IpAddr, with: &[NodeName], now: Instant) {
        let Some(seat) = self.seats.get_mut(&vip) else {
            return;
        };
        for name in with {
            if let Some(contest) = seat.wire.contests.get_mut(name) {
                contest.answered = Some(now);
            }
        }
        self.commands.push_back(Command::Contend(vip));
    }

    /// Challenges the nodes that claim a VIP of this one, if no message has settled that in time;
    /// judges contests again whose check failed.
    pub(super) fn contests_due(&mut self, vip: IpAddr, now: Instant) {
        let Some(seat) = self.seats.get_mut(&vip) else {
            return;
        };
        let (mut again, mut challenged) = (Vec::new(), Vec::new());
        for (name, contest) in &mut seat.wire.contests {
            if contest.again.take_if(|at| *at <= now).is_some() {
                again.push(name.clone());
            } else if !contest.challenged {
                let at = contest.challenge();
                if now < at {
                    self.agenda.add_at(at, vip);
                } else {
                    contest.challenged = true;
                    challenged.push(name.clone());
                }
            }
        }
        for name in again {
            self.settle(vip, &name, now);
        }
        if !challenged.is_empty() {
            self.answer_contests(vip, &challenged, now);
        }
    }

    /// Ends contests with a node that has become a member: from now on, messages settle them.
    pub(super) fn forget_contests_with(&mut self, name: &NodeName) {
        for seat in self.seats.values_mut() {
            seat.wire.contests.remove(name);
        }
    }

    /// Ends contests with a member that has acknowledged this node's ownership.
    pub(super) fn end_contests(&mut self, with: &NodeName, vips: &[IpAddr]) {
        for vip in vips {
            if let Some(seat) = self.seats.get_mut(vip) {
                seat.wire.contests.remove(with);
            }
        }
    }

    fn concede(&mut self, vip: IpAddr, to: &NodeName, now: Instant) {
        let life = self.peers.get(to).map(|peer| peer.life).unwrap_or_default();
        let record = self.record(vip, now);
        let epoch = record.epoch + 1;
        let owner = Holder {
            name: to.clone(),
            life,
        };
        record.set(owner, epoch, Origin::met(now));
        self.lose(vip, to);
        if let Some(seat) = self.seats.get_mut(&vip) {
            debug_assert_eq!(seat.mine, Mine::No, "it has just been lost");
            seat.wire.conceded = true;
            seat.wire.check = Check::InUse(now + Timing::RECHECK);
        }
    }
}

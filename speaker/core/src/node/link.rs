//! Changes of links.

use std::time::Instant;

use super::Node;
use crate::link::{Kind, Link, LinkChange};

impl Node {
    /// Notes a change of a link. Several may be handled together, unless that would hide that a
    /// link with VIPs was down for a moment, or is another one with the same index.
    pub(super) fn link_changed(&mut self, change: LinkChange, now: Instant) {
        let news = match &change {
            LinkChange::Set(link) => Some((link.index, Some(link))),
            LinkChange::Gone(index) => Some((*index, None)),
            LinkChange::Missed => None,
        };
        if let Some((index, after)) = news
            && (self.held.links.contains_key(&index) || self.announced_links.contains(&index))
        {
            let looks = |link: &Link| (link.is_up(), link.mac);
            let before = self.links.as_ref().and_then(|links| links.get(index));
            if before.map(looks) != after.map(looks) {
                self.catch_up(now);
            }
        }
        self.failover(&change, now);
        self.lose_groups(&change);
        self.doubt_links(&change);
        if let Some(links) = &mut self.links {
            self.stale |= links.apply(change);
        }
    }

    /// Announces the VIPs of a bond that now sends through another member, and so through another
    /// port of the switch, and those of its VLANs.
    fn failover(&mut self, change: &LinkChange, now: Instant) {
        let (Some(links), LinkChange::Set(link)) = (&self.links, change) else {
            return;
        };
        let before = links.get(link.index).map(|before| &before.kind);
        if let (Some(Kind::Bond { active: old }), Kind::Bond { active: Some(new) }) =
            (before, &link.kind)
            && *old != Some(*new)
        {
            let on_it =
                |on: &Link| matches!(on.kind, Kind::Vlan { parent, .. } if parent == link.index);
            self.announcer.bond_failover(link.index, now);
            for vlan in links.iter().filter(|on| on_it(on)) {
                self.announcer.bond_failover(vlan.index, now);
            }
        }
    }

    /// Has all links announced again if any of them may have been down.
    fn doubt_links(&mut self, change: &LinkChange) {
        if *change == LinkChange::Missed {
            for link in &self.announced_links {
                self.announcer.link_down(*link);
            }
            self.stale = true;
        }
    }
}

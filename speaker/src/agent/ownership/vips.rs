//! What is passed to the cluster: this node's links, and the VIPs with the nodes that may own them.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, time::Duration};

use speaker_core::{
    candidates::{Excluded, Host, candidates, excluded},
    cluster::{self, Input, Member, NodeName},
    intent::{Intent, Outlook},
};

use super::{Ownership, local_node::LocalNode, net::Net};

/// A node that has been a member for this long has said which other nodes it knows.
const ACQUAINTED: Duration = Duration::from_secs(1);

impl Ownership {
    /// Tells the other nodes which links this one can answer on. Returns whether they changed.
    pub(in super::super) fn tell_links(&mut self, local: &mut LocalNode) -> bool {
        let links = local.node.usable_links();
        let others = links != self.links;
        if others {
            self.links.clone_from(&links);
            self.handle(Input::Links(links), local);
        }
        others
    }

    /// Whether news from other nodes may have changed the candidates since the last call.
    pub(in super::super) fn has_news(&mut self) -> bool {
        let news = self.cluster.members_version();
        std::mem::replace(&mut self.news, news) != news
    }

    /// Determines which nodes may own which VIPs, for [`tell_vips`](Self::tell_vips).
    pub(in super::super) fn plan(&mut self, intent: &Intent, local: &LocalNode) {
        let Some(vips) = self.of_hosts(intent, local, candidates) else {
            return;
        };
        let gone = self.told.keys().filter(|vip| !vips.contains_key(vip));
        let changed = vips
            .iter()
            .filter(|(vip, it)| self.told.get(vip) != Some(it))
            .map(|(vip, _)| vip);
        self.untold = gone.chain(changed).copied().collect();
        self.vips = vips;
    }

    /// The nodes that may not own a VIP, and why.
    pub(in super::super) fn excluded(
        &self,
        vip: IpAddr,
        intent: &Intent,
        local: &LocalNode,
    ) -> BTreeMap<NodeName, Excluded> {
        self.of_hosts(intent, local, |hosts| excluded(hosts, vip))
            .unwrap_or_default()
    }

    /// Evaluates all nodes, once the configuration is known.
    fn of_hosts<R>(
        &self,
        intent: &Intent,
        local: &LocalNode,
        ask: impl FnOnce(&[Host<'_>]) -> R,
    ) -> Option<R> {
        let wanted = local.node.wanted()?;
        let members: Vec<Member> = self.cluster.members().collect();
        // Nodes with the same outlook want the same VIPs, which are computed once.
        let own = intent.outlook(&intent.node(self.name.as_str()));
        let mut alike = BTreeMap::from([(own, Cow::Borrowed(wanted))]);
        let outlooks: Vec<Outlook> = members
            .iter()
            .map(|member| {
                let node = intent.node(member.name.as_str());
                let outlook = intent.outlook(&node);
                alike
                    .entry(outlook.clone())
                    .or_insert_with(|| Cow::Owned(intent.wanted(&node)));
                outlook
            })
            .collect();
        let own = Host {
            name: &self.name,
            address: self
                .net
                .as_ref()
                .map(|net| net.sockets.endpoints().messages.ip()),
            wanted,
            links: &self.links,
        };
        let others = members.iter().zip(&outlooks).map(|(member, outlook)| Host {
            name: &member.name,
            address: Some(member.endpoints.messages.ip()),
            wanted: &alike[outlook],
            links: &member.links,
        });
        let hosts: Vec<Host<'_>> = [own].into_iter().chain(others).collect();
        Some(ask(&hosts))
    }

    /// Whether the cluster has not yet been told of all VIPs.
    pub(in super::super) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Tells the cluster of some VIPs. There may be as many as the maps hold, and the lease must be
    /// renewed in between.
    pub(in super::super) fn tell_vips(&mut self, local: &mut LocalNode) {
        const AT_ONCE: usize = 256;
        let some = self.untold.len().min(AT_ONCE);
        let mut changes = Vec::with_capacity(some);
        for vip in self.untold.drain(..some) {
            let now = self.vips.get(&vip).cloned();
            match &now {
                Some(now) => drop(self.told.insert(vip, now.clone())),
                None => drop(self.told.remove(&vip)),
            }
            self.edition += 1;
            changes.push((vip, now));
        }
        if !changes.is_empty() {
            self.handle(Input::Vips(changes), local);
        }
        if self.untold.is_empty() {
            self.take_part(local);
        }
    }

    /// Whether this node owns all that it can own at once: nothing if other nodes have to agree;
    /// everything if it is alone, except what another host may be using.
    pub(in super::super) fn is_settled(&self) -> bool {
        let is_candidate = |placement: &cluster::Placement| {
            let mut names = placement.candidates.iter().map(|(name, _)| name);
            names.any(|name| *name == self.name)
        };
        let mut mine = self.told.iter().filter(|(_, it)| is_candidate(it));
        self.planned
            && self.untold.is_empty()
            && (self.net.is_some()
                || self.draining
                || mine.all(|(vip, _)| {
                    self.cluster.owner(*vip).is_some() || self.cluster.awaits_check(*vip)
                }))
    }

    /// Takes part once the cluster knows the VIPs. A node that hears only nodes with other keys
    /// claims nothing: it has the wrong key, and another node owns the VIPs.
    fn take_part(&mut self, local: &mut LocalNode) {
        if self.planned || !self.joined {
            return;
        }
        let strangers = self.net.as_ref().is_some_and(Net::hears_strangers);
        let met = |member: Member| {
            use cluster::CandidateStanding::{Draining, Ready, Restarting};
            matches!(member.standing, Draining | Ready | Restarting)
                && member.since.elapsed() > ACQUAINTED
        };
        if !strangers || self.cluster.members().any(met) {
            self.planned = true;
            self.handle(Input::Planned, local);
        }
    }
}

//! The node as status output shows it.

use std::{fmt, net::IpAddr, time::Instant};

use serde::{Deserialize, Serialize};
use speaker_common::layout::Action;

use super::{Membership, Node, Place, Placed, Step};
use crate::{
    describe::mac_text,
    intent::{Wanted, WantedVip},
    link::XdpMode,
};

/// How the program runs on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The mode in which it runs.
    pub mode: XdpMode,
    /// Why the mode is generic although native was wanted.
    pub note: Option<String>,
}

/// A snapshot of the node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// All VIPs that the intent names, and those that it refuses.
    pub vips: Vec<VipStatus>,
    /// The interfaces on which the program runs, or should.
    pub links: Vec<LinkStatus>,
    /// How other nodes' liveness probes are answered; `None` if there are no other nodes.
    pub probes: Option<ProbeStatus>,
}

/// How other nodes' liveness probes are answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStatus {
    /// Where they arrive.
    pub address: IpAddr,
    /// The interface whose program answers them, whatever the agent does.
    pub interface: Option<String>,
    /// Why there is none. The agent then answers them itself, and the node counts as down as soon
    /// as the agent stalls.
    pub reason: Option<String>,
}

/// A VIP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VipStatus {
    /// The address; `None` if a Service has none to announce.
    pub address: Option<IpAddr>,
    /// The Services that have it, as namespace/name.
    pub services: Vec<String>,
    /// The links on which it is answered, or should be.
    pub places: Vec<PlaceStatus>,
    /// Why it is answered nowhere.
    pub reason: Option<String>,
}

/// A VIP on a link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlaceStatus {
    /// The link's name.
    pub link: String,
    /// The interface on which the program answers.
    pub interface: String,
    /// The MAC that answers contain.
    pub mac: String,
    /// The VLAN on the interface; 0 if untagged.
    pub vlan: u16,
    /// What this node does for the VIP there.
    pub state: PlaceState,
    /// What the kernel refuses, if the state is [`PlaceState::Failed`], or why nobody answers, if it
    /// is [`PlaceState::Silent`].
    pub error: Option<String>,
    /// How the program runs there.
    pub mode: Option<XdpMode>,
    /// The slot of its counters.
    pub slot: Option<u32>,
    /// Announcements sent since this node began to answer there.
    pub announced: u64,
    /// Milliseconds since the last announcement.
    pub announced_ms_ago: Option<u64>,
    /// Claims by another MAC.
    pub conflicts: u64,
    /// The last claimant.
    pub claimed_by: Option<String>,
}

/// What a node does for a VIP on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlaceState {
    /// It answers.
    Answering,
    /// Another node owns the VIP.
    Standby,
    /// It would answer, but the link has no carrier.
    #[serde(rename = "no carrier")]
    NoCarrier,
    /// The kernel is not set up yet.
    Starting,
    /// It does not answer, and knows of no other node that does: the error says why; without one,
    /// it owns the VIP, but its lease is not valid.
    Silent,
    /// It would answer, but no program runs there.
    #[serde(rename = "not attached")]
    NotAttached,
    /// The kernel refuses something that answering needs.
    Failed,
}

impl fmt::Display for PlaceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answering => "answering",
            Self::Standby => "standby",
            Self::NoCarrier => "no carrier",
            Self::Starting => "starting",
            Self::Silent => "silent",
            Self::NotAttached => "not attached",
            Self::Failed => "failed",
        })
    }
}

impl PlaceStatus {
    /// The state and the error, if any.
    pub fn describe(&self) -> String {
        match &self.error {
            Some(error) => format!("{}: {error}", self.state),
            None => self.state.to_string(),
        }
    }
}

/// An interface on which the program runs, or should.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// How the program runs there.
    pub attached: Option<Attached>,
    /// Why it does not run.
    pub error: Option<String>,
}

impl Node {
    /// Takes a snapshot.
    pub fn status(&self, now: Instant) -> Status {
        let Some(wanted) = &self.wanted else {
            return Status::default();
        };
        let mut vips: Vec<VipStatus> = wanted
            .vips
            .iter()
            .map(|(&address, vip)| VipStatus {
                address: Some(address),
                services: vip.services.iter().map(ToString::to_string).collect(),
                places: self.statuses_of(address, now),
                reason: self.absence(wanted, address, vip),
            })
            .collect();
        vips.extend(wanted.refused.iter().map(|refused| VipStatus {
            address: refused.address,
            services: vec![refused.service.to_string()],
            places: Vec::new(),
            reason: Some(refused.reason.to_string()),
        }));
        let links = self
            .held
            .attached
            .iter()
            .map(|(&index, program)| LinkStatus {
                name: self.link_name(index),
                index,
                attached: program.granted().cloned(),
                error: self.program_refusal(index).map(str::to_owned),
            })
            .collect();
        let probes = self.probes();
        Status {
            vips,
            links,
            probes,
        }
    }

    /// How liveness probes are answered, once that is settled.
    fn probes(&self) -> Option<ProbeStatus> {
        let address = self.site.probed?;
        let answer = match self.plan.probed.as_ref()? {
            Ok(interface) => {
                self.held.attached.get(interface)?.result()?;
                match self.program_refusal(*interface) {
                    Some(reason) => Err(reason.to_owned()),
                    None => Ok(self.link_name(*interface)),
                }
            }
            Err(reason) => Err(reason.to_string()),
        };
        Some(ProbeStatus {
            address,
            interface: answer.as_ref().ok().cloned(),
            reason: answer.err(),
        })
    }

    /// Why this node could not answer for a VIP if it owned it: a reason in its configuration, its
    /// links, or the kernel.
    pub fn obstacle(&self, vip: IpAddr) -> Option<String> {
        let wanted = self.wanted.as_ref()?;
        self.absence(wanted, vip, wanted.vips.get(&vip)?)
            .or_else(|| {
                let places = self.places_of(vip);
                let refusal = |it| self.refusal(it, self.plan.places.get(it)?);
                places.iter().find_map(refusal).map(str::to_owned)
            })
    }

    /// Why a VIP is answered on no link.
    fn absence(&self, wanted: &Wanted, address: IpAddr, vip: &WantedVip) -> Option<String> {
        let refusal = vip.refusal_on(&wanted.node).map(|it| it.to_string());
        let absent = || self.plan.absent.get(&address).map(ToString::to_string);
        refusal.or_else(absent)
    }

    /// What the kernel has refused of what answering there needs.
    pub(super) fn refusal(&self, place: &Place, placed: &Placed) -> Option<&str> {
        let entry = [Step::Put(placed.entry), Step::Fit(placed.entry)];
        let group = Membership::of(place).map(Step::Join);
        let steps = entry.into_iter().chain(group);
        let failure = steps.filter_map(|step| self.failures.of(&step)).next();
        failure.or_else(|| self.program_refusal(placed.attached))
    }

    /// How the program runs on the interface where it answers for the VIP.
    pub(super) fn attached_for(&self, placed: &Placed) -> Option<&Attached> {
        self.held.attached.get(&placed.attached)?.granted()
    }

    fn statuses_of(&self, address: IpAddr, now: Instant) -> Vec<PlaceStatus> {
        self.places_of(address)
            .iter()
            .filter_map(|place| Some(self.place(place, self.plan.places.get(place)?, now)))
            .collect()
    }

    fn place(&self, place: &Place, placed: &Placed, now: Instant) -> PlaceStatus {
        let attached = self.attached_for(placed);
        let held = self.held.vips.get(&placed.entry);
        let error = self.refusal(place, placed).map(str::to_owned);
        let state = match (&error, attached.and(held)) {
            (Some(_), _) => PlaceState::Failed,
            (None, Some(vip)) if vip.action == Action::Suppress => PlaceState::Standby,
            (None, Some(_)) if placed.up => PlaceState::Answering,
            (None, Some(_)) => PlaceState::NoCarrier,
            (None, None) => PlaceState::Starting,
        };
        let announced = self.announced.get(place);
        let conflict = self.conflicts.get(&placed.entry);
        PlaceStatus {
            link: self.link_name(place.link),
            interface: self.link_name(placed.attached),
            mac: mac_text(&placed.mac),
            vlan: placed.entry.vlan.id,
            state,
            error,
            mode: attached.map(|attached| attached.mode),
            slot: held.map(|vip| vip.slot),
            announced: announced.map_or(0, |sent| sent.count),
            announced_ms_ago: announced
                .map(|sent| now.saturating_duration_since(sent.last).as_millis() as u64),
            conflicts: conflict.map_or(0, |conflict| conflict.claims),
            claimed_by: conflict.map(|conflict| mac_text(&conflict.by)),
        }
    }
}

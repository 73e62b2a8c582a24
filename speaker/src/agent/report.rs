//! Reports: what the node knows and what the kernel has counted.

use std::{collections::BTreeMap, net::IpAddr, path::Path, time::Instant};

use anyhow::Result;
use speaker_common::layout::{Action, Counters, Link};
use speaker_core::{
    candidates::Excluded,
    cluster::{self, Member, NodeName, Silence, VipState},
    describe::mac_text,
    node::{Attached, LinkStatus, PlaceState, PlaceStatus, Status, VipStatus},
};

use super::{
    configuration::Configuration,
    ownership::{LocalNode, Ownership},
};
use crate::{
    api::{
        ApiServerReport, AwayReport, CandidateReport, Counts, Explanation, FormerOwner,
        LeaseReport, MemberReport, NodeState, Report, VipReport,
    },
    kernel::{self, Inspect, Maps},
    kubernetes::Reach,
    netlink,
};

/// The report of a running agent.
pub(super) fn report(
    name: &str,
    local: &LocalNode,
    ownership: &Ownership,
    configuration: &Configuration,
    reach: Option<&Reach>,
) -> Result<Report> {
    let LocalNode { node, shell } = local;
    let maps = shell.kernel.maps();
    let lease = shell.lease_report();
    let Status {
        vips,
        links,
        probes,
    } = node.status(Instant::now());
    let counters = counters(&vips, maps)?;
    let owned = |mut status: VipStatus| {
        let silence = status.address.and_then(|vip| silence(ownership, vip));
        for place in &mut status.places {
            match (place.state, silence) {
                (PlaceState::Answering, _) if !lease.is_valid() => {
                    place.state = PlaceState::Silent;
                }
                (PlaceState::Standby, Some(why)) => {
                    place.state = PlaceState::Silent;
                    place.error = Some(why.to_string());
                }
                _ => {}
            }
        }
        let owner = status.address.and_then(|vip| ownership.owner(vip));
        counted(status, owner.map(Into::into), &counters)
    };
    Ok(Report {
        node: Some(name.to_owned()),
        lease,
        vips: vips.into_iter().map(owned).collect(),
        links,
        probes,
        reasons: reasons(maps)?,
        refused: configuration.refusals().to_vec(),
        updates: configuration.updates(),
        update_errors: configuration.errors(),
        api_server: reach.map(api_server),
        draining: ownership.draining(),
        members: ownership.members().map(member).collect(),
        unreadable: ownership.unreadable(),
    })
}

/// Why this node knows of no node that answers for a VIP, if so. The entry in the kernel's map is
/// the same as for a VIP that another node owns.
fn silence(ownership: &Ownership, vip: IpAddr) -> Option<Silence> {
    match ownership.state(vip)? {
        VipState::Silent(why) => Some(*why),
        VipState::Answer { .. } | VipState::Suppress { .. } => None,
    }
}

/// The report from the pinned maps, while no agent runs.
///
/// # Errors
///
/// There are no pins, or they cannot be read.
pub fn pinned(bpffs: &Path) -> Result<Report> {
    let inspect = Inspect::open(bpffs)?;
    let maps = inspect.maps();
    let links: BTreeMap<u32, Link> = maps.links()?.into_iter().collect();
    let attached = inspect.attached()?;
    let lease = LeaseReport::new(&maps.lease()?, &maps.peers()?, kernel::now());

    let mut vips: BTreeMap<_, VipStatus> = BTreeMap::new();
    for (key, vip) in maps.vips()? {
        let status = vips.entry(key.address).or_insert_with(|| VipStatus {
            address: Some(key.address),
            services: Vec::new(),
            places: Vec::new(),
            reason: None,
        });
        let runs = attached.iter().find(|link| link.ifindex == key.port);
        let interface = netlink::name(key.port);
        let mode = runs
            .and_then(|link| link.interface.as_ref())
            .map(|&(_, mode)| mode);
        let state = match (vip.action, lease.is_valid(), mode) {
            (Action::Suppress, ..) => PlaceState::Standby,
            (Action::Answer, _, None) => PlaceState::NotAttached,
            (Action::Answer, false, _) => PlaceState::Silent,
            (Action::Answer, true, Some(_)) => PlaceState::Answering,
        };
        status.places.push(PlaceStatus {
            link: interface.clone(),
            interface,
            mac: links
                .get(&key.port)
                .map_or_else(|| "-".to_owned(), |link| mac_text(&link.mac)),
            vlan: key.vlan.id,
            state,
            error: None,
            mode,
            slot: Some(vip.slot),
            announced: 0,
            announced_ms_ago: None,
            conflicts: 0,
            claimed_by: None,
        });
    }
    let vips: Vec<VipStatus> = vips.into_values().collect();
    let counters = counters(&vips, maps)?;
    Ok(Report {
        node: None,
        lease,
        vips: vips
            .into_iter()
            .map(|status| counted(status, None, &counters))
            .collect(),
        links: attached
            .into_iter()
            .map(|link| LinkStatus {
                name: netlink::name(link.ifindex),
                index: link.ifindex,
                error: link
                    .interface
                    .is_none()
                    .then(|| "the program no longer runs there".to_owned()),
                attached: link
                    .interface
                    .map(|(_, mode)| Attached { mode, note: None }),
            })
            .collect(),
        probes: None,
        reasons: reasons(maps)?,
        refused: Vec::new(),
        updates: 0,
        update_errors: 0,
        api_server: None,
        draining: false,
        members: Vec::new(),
        unreadable: 0,
    })
}

/// The counters of all slots in use, in one system call: there may be tens of thousands.
fn counters(vips: &[VipStatus], maps: &Maps) -> Result<Vec<Counters>> {
    let places = vips.iter().flat_map(|vip| &vip.places);
    let slots = places.filter_map(|place| place.slot);
    let count = slots.max().map_or(0, |last| last + 1);
    Ok(maps.counters(count)?)
}

fn counted(status: VipStatus, owner: Option<String>, counters: &[Counters]) -> VipReport {
    let now = kernel::now();
    let counts = |place: &PlaceStatus| {
        let counters = counters.get(place.slot? as usize)?;
        Some(Counts::new(*counters, now))
    };
    let places = status.places.iter();
    VipReport {
        counts: places.map(|it| counts(it).unwrap_or_default()).collect(),
        status,
        owner,
    }
}

fn api_server(reach: &Reach) -> ApiServerReport {
    let away = reach.away().map(|away| AwayReport {
        for_ms: ago(away.since),
        why: away.why,
    });
    ApiServerReport { away }
}

fn member(member: Member) -> MemberReport {
    let links = member.links.into_iter();
    let usable = links.filter(|link| link.obstacle.is_none());
    MemberReport {
        name: member.name.to_string(),
        address: member.endpoints.messages,
        state: member.standing,
        since_ms_ago: ago(member.since),
        heard_ms_ago: member.heard.map(ago),
        links: usable.map(|link| link.name).collect(),
    }
}

/// The answer to `speaker explain`.
pub(super) fn explanation(
    vip: IpAddr,
    node: &str,
    it: cluster::Explanation,
    excluded: BTreeMap<NodeName, Excluded>,
) -> Explanation {
    Explanation {
        vip,
        node: node.to_owned(),
        state: match &it.state {
            Some(VipState::Answer { .. }) => NodeState::Answering,
            Some(VipState::Suppress { owner }) => NodeState::Standby {
                owner: owner.to_string(),
            },
            Some(VipState::Silent(why)) => NodeState::Silent {
                why: why.to_string(),
            },
            None => NodeState::Starting,
        },
        owner: it.owner.map(Into::into),
        epoch: it.epoch,
        since_ms_ago: it.since.map(ago),
        cause: it.cause.map(|cause| cause.to_string()),
        history: it
            .history
            .into_iter()
            .map(|(node, cause)| FormerOwner {
                until: cause.ending(&node),
                node: node.into(),
            })
            .collect(),
        candidates: it
            .candidates
            .into_iter()
            .map(|candidate| CandidateReport {
                node: candidate.name.into(),
                preference: candidate.score,
                standing: candidate.standing,
            })
            .collect(),
        excluded: excluded
            .into_iter()
            .map(|(node, why)| (node.into(), why.to_string()))
            .collect(),
        claimed_by: it.conflict.as_ref().map(|(by, _)| by.to_string()),
        claimed_ms_ago: it.conflict.map(|(_, at)| ago(at)),
    }
}

fn ago(time: Instant) -> u64 {
    time.elapsed().as_millis() as u64
}

fn reasons(maps: &Maps) -> Result<BTreeMap<String, u64>> {
    let reasons = maps.reasons()?.into_iter();
    Ok(reasons
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.text().to_owned(), count))
        .collect())
}

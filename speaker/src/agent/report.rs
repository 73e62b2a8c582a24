//! What the node knows and what the kernel has counted, put together.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use nix::net::if_::if_indextoname;
use speaker_common::{
    layout::{Action, Link},
    lease::{Tenure, is_alone, tenure},
};
use speaker_core::{
    describe::mac_text,
    node::{Attached, LinkStatus, PlaceStatus, Status, VipStatus},
};

use crate::{
    api::{Counts, LeaseReport, Report, VipReport},
    kernel::{self, Inspect, Maps},
};

/// The report of a running agent.
pub(super) fn report(
    node: &str,
    status: Status,
    maps: &Maps,
    refused: Vec<String>,
) -> Result<Report> {
    let Status { vips, links } = status;
    Ok(Report {
        node: Some(node.to_owned()),
        lease: lease(maps)?,
        vips: vips
            .into_iter()
            .map(|status| counted(status, maps))
            .collect::<Result<_>>()?,
        links,
        reasons: reasons(maps)?,
        refused,
    })
}

/// What the pins tell while no agent runs.
///
/// # Errors
///
/// There are no pins, or they cannot be read.
pub fn pinned(bpffs: &Path) -> Result<Report> {
    let inspect = Inspect::open(bpffs)?;
    let maps = inspect.maps();
    let links: BTreeMap<u32, Link> = maps.links()?.into_iter().collect();
    let attached = inspect.attached()?;
    let lease = lease(maps)?;

    let mut vips: BTreeMap<_, VipStatus> = BTreeMap::new();
    for (key, vip) in maps.vips()? {
        let status = vips.entry(key.address).or_insert_with(|| VipStatus {
            address: Some(key.address),
            services: Vec::new(),
            places: Vec::new(),
            reason: None,
        });
        let runs = attached.iter().find(|link| link.ifindex == key.port);
        let interface = name(key.port);
        let mode = runs
            .and_then(|link| link.interface.as_ref())
            .map(|(_, mode)| mode.to_string());
        let state = match (vip.action, lease.valid, &mode) {
            (Action::Suppress, ..) => "suppressed",
            (Action::Answer, _, None) => "not attached",
            (Action::Answer, false, _) => "silent",
            (Action::Answer, true, Some(_)) => "answering",
        };
        status.places.push(PlaceStatus {
            link: interface.clone(),
            interface,
            mac: links
                .get(&key.port)
                .map_or_else(|| "-".to_owned(), |link| mac_text(&link.mac)),
            vlan: key.vlan.id,
            state: state.to_owned(),
            mode,
            slot: Some(vip.slot),
            announced: 0,
            conflicts: 0,
            claimed_by: None,
        });
    }
    Ok(Report {
        node: None,
        lease,
        vips: vips
            .into_values()
            .map(|status| counted(status, maps))
            .collect::<Result<_>>()?,
        links: attached
            .into_iter()
            .map(|link| LinkStatus {
                name: name(link.ifindex),
                index: link.ifindex,
                error: link
                    .interface
                    .is_none()
                    .then(|| "the interface is gone".to_owned()),
                attached: link.interface.map(|(_, mode)| Attached {
                    mode: mode.to_string(),
                    note: None,
                }),
            })
            .collect(),
        reasons: reasons(maps)?,
        refused: Vec::new(),
    })
}

fn counted(status: VipStatus, maps: &Maps) -> Result<VipReport> {
    let now = kernel::now();
    let counts = status
        .places
        .iter()
        .map(|place| {
            let Some(slot) = place.slot else {
                return Ok(Counts::default());
            };
            Ok(Counts::new(maps.counters(slot)?, now))
        })
        .collect::<Result<_>>()?;
    Ok(VipReport { status, counts })
}

fn lease(maps: &Maps) -> Result<LeaseReport> {
    let (agent, peers) = (maps.lease()?, maps.peers()?);
    let now = kernel::now();
    let deadline = if is_alone(&agent, &peers) {
        agent.agent_deadline_ns
    } else {
        agent.agent_deadline_ns.min(peers.deadline_ns)
    };
    Ok(LeaseReport {
        valid: tenure(&agent, &peers, now) == Tenure::Valid,
        remaining_ms: (deadline as i64 - now as i64) / 1_000_000,
    })
}

fn reasons(maps: &Maps) -> Result<BTreeMap<String, u64>> {
    let reasons = maps.reasons()?.into_iter();
    Ok(reasons
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.text().to_owned(), count))
        .collect())
}

fn name(index: u32) -> String {
    if_indextoname(index).map_or_else(
        |_| format!("interface {index}"),
        |name| name.to_string_lossy().into_owned(),
    )
}

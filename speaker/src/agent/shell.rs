//! Carries out the node's commands.

use anyhow::{Context as _, Result};
use speaker_common::lease::{Tenure, tenure};
use speaker_core::{
    announce::Announcement,
    describe::mac_text,
    node::{self, Adopted, Command, Input, NotAttached, Notice},
};
use tracing::{debug, info, warn};

use crate::{
    announce::{Delivery, Groups, Sender},
    api::LeaseReport,
    kernel::{self, AttachError, Attached, Kernel, Lease, ModeChoice},
    netlink,
};

/// Everything through which the agent acts.
pub(super) struct Shell {
    pub(super) kernel: Kernel,
    pub(super) lease: Lease,
    mode: ModeChoice,
    groups: Groups,
    sender: Sender,
}

impl Shell {
    pub(super) fn new(kernel: Kernel, mode: ModeChoice) -> Result<Self> {
        Ok(Self {
            lease: kernel.lease()?,
            kernel,
            mode,
            groups: Groups::open().context("cannot open a netlink socket to join IPv6 groups")?,
            sender: Sender::new()
                .context("cannot open a packet socket (AF_PACKET) for announcements")?,
        })
    }

    /// What an earlier agent has left behind.
    pub(super) fn adopted(&self) -> Result<Adopted> {
        let maps = self.kernel.maps();
        Ok(Adopted {
            vips: maps.vips()?.into_iter().collect(),
            links: maps.links()?.into_iter().collect(),
            attached: self.kernel.pinned()?.into_iter().collect(),
            joined: self
                .groups
                .joined()
                .context("cannot list the IPv6 groups that an earlier agent joined")?
                .into_iter()
                .collect(),
            in_time: self.is_lease_valid(),
        })
    }

    /// Whether the lease lets the program answer now.
    pub(super) fn is_lease_valid(&self) -> bool {
        tenure(&self.lease.agent(), &self.lease.peers(), kernel::now()) == Tenure::Valid
    }

    /// The state of the lease now.
    pub(super) fn lease_report(&self) -> LeaseReport {
        LeaseReport::new(&self.lease.agent(), &self.lease.peers(), kernel::now())
    }

    /// Carries out a command, and returns the result for the node.
    pub(super) fn carry_out(&mut self, command: Command) -> Option<Input> {
        debug!(?command, "command");
        let maps = self.kernel.maps_mut();
        let result: Result<()> = match command {
            Command::Tell(notice) => {
                tell(&notice);
                return None;
            }
            Command::Attach(interface) => return Some(self.attach(interface)),
            Command::KeepPins => {
                self.kernel.keep_pins();
                return None;
            }
            Command::CheckProgram(interface) => match self.kernel.still_runs(interface) {
                // rtnetlink reports links that are gone.
                Ok(true) | Err(AttachError::NoSuchLink { .. }) => Ok(()),
                Ok(false) => return Some(Input::Detached(interface)),
                Err(error) => Err(error.into()),
            },
            Command::KeepTags(interface) => {
                let kept = self.keep_tags(interface);
                let result = kept.map_err(|error| format!("{error:#}"));
                return Some(Input::KeptTags { interface, result });
            }
            Command::Put(entry, vip) => {
                let put = maps.put_vip(&entry, &vip);
                return put.err().map(|error| {
                    let reason = format!("{:#}", anyhow::Error::from(error));
                    Input::PutFailed { entry, reason }
                });
            }
            Command::SetLink(interface, link) => {
                let set = maps.put_link(interface, &link);
                let result = set.map_err(|error| format!("{:#}", anyhow::Error::from(error)));
                return Some(Input::LinkSet { interface, result });
            }
            Command::RemoveLink(index) => maps.remove_link(index).map_err(Into::into),
            Command::Join(membership) => {
                let joined = self.groups.join(membership);
                return joined.err().map(|error| Input::JoinFailed {
                    membership,
                    reason: error.to_string(),
                });
            }
            Command::Leave(membership) => {
                self.groups.leave(membership);
                Ok(())
            }
            Command::ResetCounters(slot) => maps.reset_counters(slot).map_err(Into::into),
            Command::Remove(entry) => maps.remove_vip(&entry).map_err(Into::into),
            Command::Detach(interface) => self.kernel.detach(interface).map_err(Into::into),
        };
        if let Err(error) = result {
            warn!("{error:#}");
        }
        None
    }

    /// Sends announcements, and returns the outcome of each, in order.
    pub(super) fn announce(&self, announcements: &[Announcement]) -> Vec<Delivery> {
        let deliveries = self.sender.send(announcements);
        for (announcement, delivery) in announcements.iter().zip(&deliveries) {
            if let Some(error) = delivery.error {
                debug!(vip = %announcement.vip, link = announcement.link, %error, "not announced");
            }
        }
        deliveries
    }

    fn attach(&mut self, interface: u32) -> Input {
        let result = match self.kernel.attach(interface, self.mode) {
            Ok(attached) => {
                let Attached {
                    mode,
                    adopted: _,
                    why_generic: note,
                } = attached;
                let why = note
                    .as_ref()
                    .map_or_else(String::new, |why| format!(": {why}"));
                let name = netlink::name(interface);
                info!("the program runs on {name} in {mode} mode{why}");
                Ok(node::Attached { mode, note })
            }
            Err(error) => {
                let is_above = matches!(error, AttachError::ProgramAbove { .. });
                let reason = format!("{:#}", anyhow::Error::from(error));
                Err(match is_above {
                    true => NotAttached::ProgramAbove(reason),
                    false => NotAttached::Other(reason),
                })
            }
        };
        Input::Attached { interface, result }
    }

    fn keep_tags(&self, interface: u32) -> Result<()> {
        let name = netlink::name(interface);
        info!(
            "{name} has VLANs: turning off its rx-vlan-offload, so that the program sees the tags"
        );
        netlink::set_vlan_stripping(&name, false)
            .with_context(|| format!("cannot turn off rx-vlan-offload of {name}"))
    }
}

fn tell(notice: &Notice) {
    match notice {
        Notice::Announcing(vip, link) => info!("answering for {vip} on {link}"),
        Notice::Withdrawn(vip, link) => info!("no longer answering for {vip} on {link}"),
        Notice::NotAnnounced(vip, reason) => warn!("{vip} is not announced: {reason}"),
        Notice::Refused(reason) => warn!("{reason}"),
        Notice::TakenOff(link) => {
            warn!("something else detached the program from {link}: attaching it again");
        }
        Notice::Conflict(vip, mac) => warn!(
            "{} also claims {vip}: another host uses this address; remove it there",
            mac_text(mac)
        ),
    }
}

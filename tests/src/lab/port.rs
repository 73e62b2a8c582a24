//! A port of the switch: the end of a host's cable where faults are injected.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_route::link::{InfoData, InfoKind, InfoVeth},
};

use super::{
    Missing,
    bpf::{self, Verdict},
    capture::Capture,
    namespace::wait_for_file,
    netlink::{self, Hook},
    relay::Relay,
    switch::{Switch, bridge},
};

/// The direction of frames on a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Frames that the host sends.
    FromHost,
    /// Frames that the host receives.
    ToHost,
}

/// A port of the switch, with a host's interface at the other end of the cable.
///
/// Frames are lost inside the switch: what the host sends has always left it, and
/// [`capture`](Self::capture) sees it even if it is lost behind the port.
#[derive(Debug)]
pub struct Port {
    switch: Arc<Switch>,
    name: String,
    lan: u8,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The share of frames that is lost.
    lost_from_host: f64,
    lost_to_host: f64,
    relay: Option<Relay>,
    native_xdp: Option<OwnedFd>,
}

impl Port {
    /// Plugs an interface of the switch's namespace into the bridge of a LAN.
    pub(super) fn new(switch: Arc<Switch>, name: String, lan: u8) -> Result<Self> {
        let this = Self {
            switch,
            name,
            lan,
            state: Mutex::default(),
        };
        this.switch.namespace.run(|| this.join_bridge(&this.name))?;
        Ok(this)
    }

    /// Silently loses every frame, both ways: the carrier stays.
    pub fn cut(&self) -> Result<()> {
        self.lose(1.0, Direction::FromHost)?;
        self.lose(1.0, Direction::ToHost)
    }

    /// Loses each frame in one direction with a probability from 0 to 1.
    pub fn lose(&self, probability: f64, direction: Direction) -> Result<()> {
        let mut state = self.state();
        match direction {
            Direction::FromHost => state.lost_from_host = probability,
            Direction::ToHost => state.lost_to_host = probability,
        }
        self.apply_loss(&state, direction)
    }

    /// Takes the carrier away, as a pulled plug does. The host's kernel acts on it a moment later,
    /// as it does when the carrier comes back.
    pub fn unplug(&self) -> Result<()> {
        let down = LinkUnspec::new_with_name(&self.name).down().build();
        self.switch
            .namespace
            .run(|| netlink::set_link(down))
            .with_context(|| format!("unplugging {}", self.name))
    }

    /// Gives the carrier back.
    pub fn plug(&self) -> Result<()> {
        let delayed = self.state().relay.is_some();
        self.switch
            .namespace
            .run(|| match delayed {
                true => Ok(netlink::set_link(
                    LinkUnspec::new_with_name(&self.name).up().build(),
                )?),
                false => self.join_bridge(&self.name),
            })
            .with_context(|| format!("plugging {} in", self.name))
    }

    /// Plugs the cable into another LAN, until it is restored: the network splits into the hosts
    /// moved there and the rest. The host keeps its addresses and its carrier.
    pub fn move_to(&self, lan: u8) -> Result<()> {
        self.switch.make_lan(lan)?;
        self.switch
            .namespace
            .run(|| self.join(&self.name, lan))
            .with_context(|| format!("moving {} to LAN {lan}", self.name))
    }

    /// Delays every frame by this much, each way; zero removes the delay. Frames in flight are lost
    /// when the delay changes.
    ///
    /// Frames then pass through a thread of this process. It keeps their order, adds tens of
    /// microseconds of its own (milliseconds while every core is busy), and carries about ten
    /// thousand frames per second.
    pub fn delay(&self, delay: Duration) -> Result<()> {
        let mut state = self.state();
        let was_delayed = state.relay.take().is_some();
        state.relay = self
            .switch
            .namespace
            .run(|| -> Result<Option<Relay>> {
                match (was_delayed, delay.is_zero()) {
                    (false, true) | (true, false) => {}
                    (false, false) => {
                        netlink::remove_classifier(if_nametoindex(&*self.name)?, Hook::Ingress)?;
                        self.detour()?;
                    }
                    (true, true) => {
                        let detour = LinkUnspec::new_with_name(&self.beyond()).build();
                        netlink::delete_link(detour)?;
                        self.join_bridge(&self.name)?;
                    }
                }
                match delay.is_zero() {
                    true => Ok(None),
                    false => Relay::start(&self.name, &self.before(), delay).map(Some),
                }
            })
            .with_context(|| format!("delaying {} by {delay:?}", self.name))?;
        self.apply_loss(&state, Direction::FromHost)
    }

    /// Plugs the cable in where it belongs, and removes all loss and delay.
    pub fn restore(&self) -> Result<()> {
        self.lose(0.0, Direction::FromHost)?;
        self.lose(0.0, Direction::ToHost)?;
        self.delay(Duration::ZERO)?;
        self.plug()
    }

    /// Lets native `XDP_TX` of the host reach the switch.
    ///
    /// On a veth pair, a native program's `XDP_TX` puts the frame into the receive ring of the
    /// other end, and the kernel empties that ring only for an end that has an XDP program too.
    /// Without one, depending on the kernel, the frame is dropped, or stays there until something
    /// else arrives and then comes out in a burst; receive offload at the other end is not enough.
    /// So this attaches a program that passes every frame. Generic mode needs nothing.
    pub fn enable_native_xdp(&self) -> Result<()> {
        let mut state = self.state();
        if state.native_xdp.is_none() {
            let link = self
                .switch
                .namespace
                .run(|| {
                    let pass = bpf::xdp_program(Verdict::Pass)?;
                    bpf::attach_native_xdp(pass.as_fd(), if_nametoindex(&*self.name)?)
                })
                .with_context(|| format!("attaching an XDP program to {}", self.name))?;
            state.native_xdp = Some(link);
        }
        Ok(())
    }

    /// Keeps VLAN tags inside the frames that go to the host, as on a wire.
    ///
    /// Otherwise a tag travels between the ends of a veth pair as metadata, where an XDP program
    /// does not see it. Runs `ethtool`.
    pub fn put_tags_inline(&self) -> Result<()> {
        let mut ethtool = Command::new("ethtool");
        ethtool.arg("-K").arg(&self.name);
        for offload in ["tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"] {
            ethtool.args([offload, "off"]);
        }
        let output = self.switch.namespace.run(|| ethtool.output());
        let output = output.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Missing::Program("ethtool".to_owned()).into(),
            _ => anyhow::Error::new(error),
        })?;
        ensure!(output.status.success(), "ethtool: {output:?}");
        Ok(())
    }

    /// Captures what passes the cable. [`Frame::sent`](super::Frame::sent) means: to the host.
    pub fn capture(&self) -> Result<Capture> {
        self.switch.namespace.run(|| Capture::start(&self.name))
    }

    fn apply_loss(&self, state: &State, direction: Direction) -> Result<()> {
        let (interface, hook, probability) = match direction {
            Direction::ToHost => (self.name.clone(), Hook::Egress, state.lost_to_host),
            // A relay reads frames before they pass a classifier of the interface it reads from.
            Direction::FromHost if state.relay.is_some() => {
                (self.beyond(), Hook::Ingress, state.lost_from_host)
            }
            Direction::FromHost => (self.name.clone(), Hook::Ingress, state.lost_from_host),
        };
        self.switch
            .namespace
            .run(|| -> Result<()> {
                let index = if_nametoindex(&*interface)?;
                if probability == 0.0 {
                    netlink::remove_classifier(index, hook)?;
                } else {
                    let program = bpf::lossy_classifier(probability)?;
                    netlink::set_classifier(index, hook, program.as_fd())?;
                }
                Ok(())
            })
            .with_context(|| format!("losing {probability} of the frames of {interface}"))
    }

    /// Puts a second cable between this port and the bridge, with a relay in between.
    fn detour(&self) -> Result<()> {
        let bridge_end = LinkMessageBuilder::<LinkUnspec>::new()
            .name(self.beyond())
            .build();
        let relay_end = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(bridge_end)))
            .name(self.before())
            .up()
            .build();
        netlink::add_link(relay_end)?;
        let leave = LinkUnspec::new_with_name(&self.name).nocontroller().build();
        netlink::set_link(leave)?;
        self.join_bridge(&self.beyond())?;
        netlink::wait_until_up(&self.before())
    }

    /// Brings an interface up as a port of the bridge, and waits until it forwards, if the other
    /// end is up.
    fn join_bridge(&self, interface: &str) -> Result<()> {
        self.join(interface, self.lan)
    }

    fn join(&self, interface: &str, lan: u8) -> Result<()> {
        let bridge = if_nametoindex(&*bridge(lan))?;
        let join = LinkUnspec::new_with_name(interface)
            .controller(bridge)
            .up()
            .build();
        netlink::set_link(join)?;
        if fs::read_to_string(format!("/sys/class/net/{interface}/carrier"))?.trim() != "1" {
            return Ok(());
        }
        const FORWARDING: &str = "3";
        wait_for_file(
            &format!("/sys/class/net/{interface}/brport/state"),
            |state| state.trim() == FORWARDING,
        )?;
        netlink::wait_until_up(interface)
    }

    /// The relay's end of the second cable.
    fn before(&self) -> String {
        format!("{}a", self.name)
    }

    /// The bridge's end of the second cable.
    fn beyond(&self) -> String {
        format!("{}b", self.name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Fails only if the interface has gone with its host, which is fine.
        let _ = self.unplug();
    }
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsFd as _, time::Duration};

    use anyhow::Result;
    use nix::net::if_::if_nametoindex;

    use crate::lab::{
        self,
        bpf::{self, Verdict},
    };

    #[test]
    fn native_xdp_tx_of_a_host_reaches_the_switch() {
        lab::test(|lab| {
            let (node, client) = (lab.host("node")?, lab.host("client")?);
            node.eth0.port.enable_native_xdp()?;
            let _bounce = node.run(|| -> Result<_> {
                let program = bpf::xdp_program(Verdict::Bounce)?;
                Ok(bpf::attach_native_xdp(
                    program.as_fd(),
                    if_nametoindex("eth0")?,
                )?)
            })?;

            let wire = node.eth0.port.capture()?;
            let socket = client.raw("eth0")?;
            let mut frame = [0xa5; 60];
            frame[..6].copy_from_slice(&node.eth0.mac);
            frame[6..12].copy_from_slice(&client.eth0.mac);
            for number in 0..100 {
                frame[14] = number;
                socket.send(&frame)?;
                wire.wait_for(
                    |seen| !seen.sent && seen.bytes == frame,
                    Duration::from_millis(500),
                )?;
            }
            Ok(())
        });
    }
}

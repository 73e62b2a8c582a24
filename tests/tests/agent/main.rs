//! The agent, end to end: real processes on the hosts of a lab, with independent clients.

mod alone;
mod announcements;
mod configuration;
mod errors;
mod groups;
mod lease;
mod lifecycle;
mod links;
mod observe;
mod probes;
mod programs;
mod resolve;
mod scale;
mod smoltcp_stack;
mod vlan;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    time::Duration,
};

use anyhow::Result;
use serde_json::Value;
use speaker_tests::{
    lab::{Frame, Host, Link},
    message::{self, Mac, Message},
    wait,
};

const VIP_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 240);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x240);
const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)];

/// What should happen takes less, even on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// What should not happen would have happened within this time.
const MEANWHILE: Duration = Duration::from_millis(300);

/// Makes each function a test in generic mode and one in native mode.
macro_rules! in_each_mode {
    ($($rule:ident,)+) => {$(
        mod $rule {
            use speaker_tests::{agent::Mode, lab};

            #[test]
            fn generic() {
                lab::test(|lab| super::$rule(lab, Mode::Generic));
            }

            #[test]
            fn native() {
                lab::test(|lab| super::$rule(lab, Mode::Native));
            }
        }
    )+};
}
use in_each_mode;

/// Waits until a condition holds.
fn wait_until(what: &str, so: impl FnMut() -> Result<bool>) -> Result<()> {
    wait::wait_until(what, SOON, so)
}

/// Waits until `look` finds something.
fn wait_for<T>(what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    wait::wait_for(what, SOON, look)
}

/// Sends a datagram.
fn send_to(client: &Host, address: IpAddr) -> Result<()> {
    client.run(|| {
        let any: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        const DISCARD: u16 = 9;
        UdpSocket::bind((any, 0))?.send_to(b"?", (address, DISCARD))?;
        Ok(())
    })
}

/// The client's neighbour entry for an address on `eth0`: state and MAC.
fn neighbor(client: &Host, address: IpAddr) -> Result<Option<(String, String)>> {
    let text = client.ip(&format!("-json neigh show {address} dev eth0"))?;
    let known: Value = serde_json::from_str(&text)?;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(known
        .get(0)
        .map(|known| (word(&known["state"][0]), word(&known["lladdr"]))))
}

/// Asks once who has an address, on a link of the client.
fn answer(client: &Host, link: &Link, vip: IpAddr) -> Result<Option<Mac>> {
    let socket = client.raw(&link.name)?;
    let request = match vip {
        IpAddr::V4(vip) => {
            Message::arp_request((link.ipv4, link.mac), vip).frame(link.mac, message::BROADCAST)
        }
        IpAddr::V6(vip) => {
            let group = message::group_mac(message::solicited_node(vip));
            Message::solicitation((link.ipv6, link.mac), vip).frame(link.mac, group)
        }
    };
    socket.send(&request)?;
    let answers = |frame: &Frame| {
        let message = Message::of(frame);
        frame.destination() == link.mac && message.is_some_and(|it| it.says(vip, frame.source()))
    };
    // No answer is a valid result.
    let reply = socket.receive_matching(MEANWHILE, answers).ok();
    Ok(reply.map(|frame| frame.source()))
}

//! The attached program, asked by clients that nobody here wrote.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::XdpMode;

use super::{
    namespace::{Namespace, run},
    responder::{self, Responder},
};

const VIP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
const VIP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));

pub(super) fn veth_generic() -> Result<()> {
    let wire = Wire::veth()?;
    responder::with(|responder| wire.answers(responder, XdpMode::Skb))
}

pub(super) fn veth_native() -> Result<()> {
    let wire = Wire::veth()?;
    responder::with(|responder| {
        // veth takes transmitted frames at the other end only where that has a program too. This
        // one knows nothing of that end, and passes all.
        let end = wire.client_end;
        wire.client
            .call(|| responder.attach(end, XdpMode::Driver))?;
        wire.answers(responder, XdpMode::Driver)
    })
}

pub(super) fn virtio_generic() -> Result<()> {
    let wire = Wire::virtio()?;
    responder::with(|responder| wire.answers(responder, XdpMode::Skb))
}

pub(super) fn virtio_native() -> Result<()> {
    let wire = Wire::virtio()?;
    responder::with(|responder| wire.answers(responder, XdpMode::Driver))
}

/// A node, here, and a client in a namespace on one wire.
struct Wire {
    kind: Kind,
    client: Namespace,
    client_end: &'static str,
    node_end: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Made here.
    Pair,
    /// The two network cards that the virtual machine has.
    Cards,
}

impl Wire {
    fn veth() -> Result<Self> {
        let (node_end, client_end) = ("node", "client");
        run(
            "ip",
            &["link", "add", node_end, "type", "veth", "peer", client_end],
        )?;
        Self::up(Kind::Pair, node_end, client_end)
    }

    fn virtio() -> Result<Self> {
        Self::up(Kind::Cards, "eth0", "eth1")
    }

    fn up(kind: Kind, node_end: &'static str, client_end: &'static str) -> Result<Self> {
        let client = Namespace::new("client")?;
        run("ip", &["link", "set", client_end, "netns", "client"])?;
        // Who answers for IPv6 VIPs joins their groups; here all groups are let in.
        run("ip", &["link", "set", node_end, "up", "allmulticast", "on"])?;
        client.run("ip", &["link", "set", client_end, "up"])?;
        client.run("ip", &["address", "add", "192.0.2.2/24", "dev", client_end])?;
        client.run(
            "ip",
            &[
                "address",
                "add",
                "2001:db8::2/64",
                "dev",
                client_end,
                "nodad",
            ],
        )?;
        Ok(Self {
            kind,
            client,
            client_end,
            node_end,
        })
    }

    /// The client asks for both VIPs and is told the node's MAC.
    fn answers(&self, responder: &mut Responder, mode: XdpMode) -> Result<()> {
        let node = |file: &str| -> Result<String> {
            let path = format!("/sys/class/net/{}/{file}", self.node_end);
            Ok(fs::read_to_string(&path).context(path)?.trim().to_owned())
        };
        let (ifindex, mac) = (node("ifindex")?.parse()?, node("address")?);
        responder.answer(ifindex, parse_mac(&mac)?, &[VIP_V4, VIP_V6])?;
        let attached = responder.attach(self.node_end, mode)?;
        let asked = self.ask(&mac);
        responder.detach(attached)?;
        asked
    }

    fn ask(&self, mac: &str) -> Result<()> {
        let (v4, v6) = (VIP_V4.to_string(), VIP_V6.to_string());
        let end = self.client_end;
        let arping = ["-c", "2", "-w", "10", "-I", end, &v4];
        let ndisc6 = ["-1", "-r", "5", &v6, end];
        for (program, arguments) in [("arping", &arping[..]), ("ndisc6", &ndisc6)] {
            let told = self.client.run(program, arguments)?;
            ensure!(
                told.to_lowercase().contains(mac),
                "{program} is not told {mac}: {told}"
            );
        }
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let removed = match self.kind {
            Kind::Pair => run("ip", &["link", "delete", self.node_end]),
            // By itself it would come back some time after its namespace is gone.
            Kind::Cards => self
                .client
                .run("ip", &["link", "set", self.client_end, "netns", "1"]),
        };
        if let Err(error) = removed {
            eprintln!("{error:#}");
        }
    }
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let mut mac = [0; 6];
    let mut octets = text.split(':');
    for byte in &mut mac {
        let octet = octets.next().with_context(|| format!("{text} is no MAC"))?;
        *byte = u8::from_str_radix(octet, 16).with_context(|| format!("{text} is no MAC"))?;
    }
    Ok(mac)
}

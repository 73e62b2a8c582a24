//! Liveness probes from a socket of another host, while the agent is frozen.

use std::{
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result};
use speaker_common::{
    layout::Probes,
    probe::{FLAG_ALONE, FLAG_LAPSED, FLAG_VALID, Key, Kind, LENGTH, Probe},
};
use speaker_tests::{
    agent::{Mode, Node},
    lab::{Host, Lab},
};
use zerocopy::transmute;

use crate::{SOON, VIPS, in_each_mode, wait_until};

const KEY: Key = Key([1, 2]);
const NUMBER: u64 = 11;
const PORT: u16 = 7_947;

in_each_mode! {
    a_probe_is_answered_while_the_agent_is_frozen,
}

fn a_probe_is_answered_while_the_agent_is_frozen(lab: &Lab, mode: Mode) -> Result<()> {
    let mut node = Node::serving(lab, mode, &VIPS)?;
    let client = lab.host("client")?;
    let probes = Probes::new(NUMBER, PORT, &[KEY]).context("one key fits")?;
    let probes: [u8; size_of::<Probes>()] = transmute!(probes);
    let map = "map update pinned /sys/fs/bpf/speaker/v2/probes key 0 0 0 0 value";
    let words = map.split(' ').map(str::to_owned);
    let words = words.chain(probes.iter().map(u8::to_string));
    node.host.command("bpftool").args(words).run()?;

    node.agent().freeze()?;
    let addresses: [IpAddr; 2] = [node.host.eth0.ipv4.into(), node.host.eth0.ipv6.into()];
    for (sequence, address) in (1..).zip(addresses) {
        let reply = ask(&client, address, sequence)?;
        assert_eq!((reply.kind, reply.target), (Kind::Reply, NUMBER));
        assert_eq!(reply.sequence, sequence);
        assert_eq!(reply.flags, FLAG_VALID | FLAG_ALONE);
        assert!(reply.agent_left_ms > 0 && reply.life > 0, "{reply:?}");
    }
    wait_until("the probe says that the lease has lapsed", || {
        let reply = ask(&client, addresses[0], 3)?;
        Ok(reply.flags & (FLAG_VALID | FLAG_LAPSED) == FLAG_LAPSED && reply.agent_age_ms > 2_000)
    })?;
    let lapsed = ask(&client, addresses[0], 4)?;
    node.agent().thaw()?;
    wait_until("another life has begun", || {
        let reply = ask(&client, addresses[1], 5)?;
        Ok(reply.flags & FLAG_VALID != 0 && reply.life > lapsed.life)
    })?;
    let counted = node.status()?.reasons;
    assert!(counted["probe-answered"] >= 5, "{counted:?}");
    Ok(())
}

/// Probes the node from a socket of the client's kernel.
fn ask(client: &Host, address: IpAddr, sequence: u64) -> Result<Probe> {
    let request = Probe {
        kind: Kind::Request,
        flags: 0,
        watcher: NUMBER + 1,
        target: NUMBER,
        sequence,
        life: 0,
        time_ns: 0,
        agent_age_ms: 0,
        agent_left_ms: 0,
    };
    client.run(|| {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect((address, PORT))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let mut bytes = [0; LENGTH];
        let end = std::time::Instant::now() + SOON;
        loop {
            socket.send(&request.seal(&KEY))?;
            match socket.recv(&mut bytes) {
                Ok(_) => break,
                // The first one may be lost while the client's kernel resolves the node.
                Err(_) if std::time::Instant::now() < end => {}
                Err(error) => return Err(error).context("a probe is not answered"),
            }
        }
        Probe::open(&bytes, &KEY).context("the reply is no probe under the key")
    })
}

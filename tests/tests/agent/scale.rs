//! As many VIPs as the maps hold, and one more of each family.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use speaker_tests::{
    agent::{Mode, Node},
    asker::Asker,
    lab::{self, Host},
    manifest,
    message::Mac,
};

use crate::{VIPS, answer, wait_until};

/// Entries of a map of VIPs.
const FULL: u32 = 65_536;

/// Many times what a debug build takes.
const LIMIT: Duration = Duration::from_secs(300);

/// Announcements of so many VIPs may fill the kernel's queue, and a few requests be lost; a lease
/// that lapsed, or maps that were replaced, would leave all requests unanswered for longer.
const LAPSE: Duration = Duration::from_millis(300);

#[test]
fn filling_the_maps_does_not_interrupt_existing_vips() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Native, &VIPS)?;
        let client = lab.host("client")?;
        let askers = VIPS.map(|vip| Asker::start(&client, vip, Duration::from_millis(10)));

        // One more than fits, together with the existing ones.
        let services = manifest::services((0..FULL).map(|n| vips(n).to_vec()));
        let started = Instant::now();
        node.manifests.write("many.json", &services)?;
        // Commands are carried out in the order of addresses.
        for vip in vips(FULL - 2) {
            while !is_answered(&client, vip, node.host.eth0.mac)? {
                ensure!(started.elapsed() < LIMIT, "{vip} is not answered");
            }
        }
        let took = started.elapsed();
        println!("{FULL} VIPs of each family: all answered after {took:?}");

        let some = (0..16).map(|n| n * 40_503 % (FULL - 1));
        for vip in [0].into_iter().chain(some).flat_map(vips) {
            wait_until(&format!("{vip} is answered"), || {
                is_answered(&client, vip, node.host.eth0.mac)
            })?;
        }
        for asker in askers {
            let asked = asker?.stop()?;
            assert_eq!(asked.answered_by(), [node.host.eth0.mac]);
            let outage = asked.outage();
            assert!(outage < LAPSE, "{outage:?}");
        }
        let status = node.speaker("status")?.unheard().limit(LIMIT).run()?;
        for (vip, map) in vips(FULL - 1).into_iter().zip(["vips_v4", "vips_v6"]) {
            assert_eq!(answer(&client, &client.eth0, vip)?, None, "{vip}");
            let reason = format!("the map {map} is full");
            let told = node.log(&format!("{vip} is not announced: {reason}"));
            assert_eq!(told.len(), 1, "{told:?}");
            let vip = vip.to_string();
            let its = |line: &&str| line.split_whitespace().next() == Some(&vip);
            let lines: Vec<_> = status.lines().filter(its).collect();
            assert!(lines.iter().any(|it| it.contains(&reason)), "{lines:?}");
        }
        Ok(())
    });
}

fn is_answered(client: &Host, vip: IpAddr, mac: Mac) -> Result<bool> {
    Ok(answer(client, &client.eth0, vip)? == Some(mac))
}

/// There are only 256 solicited-node groups: the kernel searches its list for each that is joined.
fn vips(number: u32) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::new(10, 1, 0, 0).to_bits() + number;
    let [_, _, high, low] = number.to_be_bytes().map(u16::from);
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 1, high, 0, 0, 0x1000 | low);
    [Ipv4Addr::from_bits(v4).into(), v6.into()]
}

//! As many VIPs as the maps hold, and one more.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde_json::{Value, json};
use speaker_tests::{
    agent::{Mode, Node},
    asker::Asker,
    lab,
};

use crate::{VIPS, answer};

/// Entries of a map of VIPs.
const FULL: u32 = 65_536;

/// Reading so many manifests takes a debug build most of it.
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn the_map_is_filled_to_its_last_entry_while_what_was_there_is_answered_without_a_gap() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Native, &VIPS[..1])?;
        let client = lab.host("client")?;
        let asker = Asker::start(&client, VIPS[0], Duration::from_millis(10))?;

        // One more than there is room for, with the one that is there.
        let vips: Vec<_> = (0..FULL).map(vip).collect();
        let services: Vec<_> = vips.iter().map(|&vip| service(vip)).collect();
        let services = json!({ "apiVersion": "v1", "kind": "List", "items": services });
        let started = Instant::now();
        node.manifests.write("many.json", &services.to_string())?;
        let [.., last_that_fits, one_too_many] = vips[..] else {
            unreachable!("there are many");
        };
        while answer(&client, &client.eth0, last_that_fits)?.is_none() {
            ensure!(
                started.elapsed() < LIMIT,
                "{last_that_fits} is not answered"
            );
        }
        println!("{FULL} VIPs: all answered after {:?}", started.elapsed());

        let some = (0..16).map(|n| vip(n * 40_503 % (FULL - 1)));
        for vip in [vips[0], last_that_fits].into_iter().chain(some) {
            let its = answer(&client, &client.eth0, vip)?;
            assert_eq!(its, Some(node.host.eth0.mac), "{vip}");
        }
        assert_eq!(answer(&client, &client.eth0, one_too_many)?, None);
        let reason = "the map vips_v4 is full";
        let told = format!("{one_too_many} is not announced: {reason}");
        assert_eq!(node.log(&told).len(), 1);
        let status = node.speaker("status")?.unheard().limit(LIMIT).run()?;
        let mut lines = status.lines();
        let line = lines.find(|line| line.contains(&one_too_many.to_string()));
        assert!(line.is_some_and(|line| line.contains(reason)), "{line:?}");
        asker.stop()?.assert_all_answered(50, node.host.eth0.mac);
        Ok(())
    });
}

/// As `kubectl get services -o json` prints it.
fn service(vip: IpAddr) -> Value {
    let name = vip.to_string().replace('.', "-");
    let annotations = json!({ "metallb.io/loadBalancerIPs": vip });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": "default", "name": name, "annotations": annotations },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
    })
}

fn vip(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(
        u32::from(Ipv4Addr::new(10, 1, 0, 0)) + number,
    ))
}

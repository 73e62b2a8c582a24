//! VIPs follow the manifests quickly, and the links wherever they go.

use std::{
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use speaker_tests::{
    agent::{Mode, Node},
    asker::Asker,
    lab::{self, Host, Lab, Link},
    manifest,
};

use crate::{VIP_V4, VIPS, answer, wait_until};

/// An agent may need a second at most.
const A_SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_manifest_change_is_in_force_within_a_second() {
    lab::test(|lab| {
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let client = lab.host("client")?;
        node.start()?;
        let mut times = Vec::new();
        // Once without interference from other programs is enough.
        for _ in 0..3 {
            let asker = Asker::start(&client, VIPS[0], Duration::from_millis(5))?;
            let written = SystemTime::now();
            node.serve("web", &VIPS)?;
            wait_until("it is answered", || {
                Ok(answer(&client, &client.eth0, VIPS[0])?.is_some())
            })?;
            thread::sleep(Duration::from_millis(200));
            let removed = SystemTime::now();
            node.manifests.remove("web.yaml")?;
            wait_until("it is not answered", || {
                Ok(answer(&client, &client.eth0, VIPS[0])?.is_none())
            })?;

            let asked = asker.stop()?;
            let first = asked.0.iter().find(|it| it.answer.is_some());
            let first = first.context("it was never answered")?.at;
            let last = asked.last_answered().context("the first was")?.at;
            let on = first.duration_since(written)?;
            let off = last.duration_since(removed).unwrap_or_default();
            println!("answered {on:?} after it was written, silent {off:?} after it was removed");
            let meanwhile = asked.between(first, removed);
            meanwhile.assert_all_answered(20, node.host.eth0.mac);
            if on.max(off) < A_SECOND {
                return Ok(());
            }
            times.push((on, off));
        }
        bail!("it took {times:?}")
    });
}

#[test]
fn a_bad_file_is_refused_by_name_and_changes_nothing_even_across_a_restart() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS[..1])?;
        node.serve("other", &VIPS[1..])?;
        wait_until("both are answered", || {
            Ok(VIPS.iter().all(|vip| is_answering(&node, *vip)))
        })?;
        let bad =
            manifest::service("web", &VIPS[..1]).replace("[{ port: 80 }]", "[{ port: http }]");
        node.manifests.write("web.yaml", &bad)?;
        let refused = [
            "web.yaml:7: Service default/web: spec.ports[0].port: ",
            "its last good content stays in force",
        ];
        let is_told = |node: &mut Node| -> Result<bool> {
            let mut lines = node.log(refused[0]);
            lines.extend(node.status()?.refused);
            // In the log and in the status.
            Ok(lines.len() == 2
                && lines
                    .iter()
                    .all(|line| refused.iter().all(|it| line.contains(it))))
        };
        wait_until("it is told", || is_told(&mut node))?;
        assert!(VIPS.iter().all(|vip| is_answering(&node, *vip)));

        node.agent().kill()?;
        node.start()?;
        assert!(is_told(&mut node)?, "{:?}", node.status()?.refused);
        assert!(VIPS.iter().all(|vip| is_answering(&node, *vip)));

        node.serve("web", &VIPS[..1])?;
        wait_until("it is good", || Ok(node.status()?.refused.is_empty()))?;
        assert_eq!(node.log("valid again").len(), 1);
        Ok(())
    });
}

#[test]
fn vips_not_announced_have_the_reason_and_remedy() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let reason = |node: &Node| node.state(VIPS[0]);
        let pool = manifest::pool("all", &["10.0.0.0/8", "fd00::/8"]);
        for (pools, expected) in [
            (
                pool.clone(),
                "no L2Advertisement covers IPAddressPool metallb-system/all",
            ),
            (
                manifest::pool("all", &["192.0.2.0/24"]),
                "no IPAddressPool holds this address",
            ),
            (
                pool + &manifest::advertisement("all", &["all"], &["eth7"]),
                "no interface eth7 on this node",
            ),
        ] {
            node.manifests.write("pools.yaml", &pools)?;
            wait_until(expected, || Ok(reason(&node)?.contains(expected)))?;
            let text = node.speaker("status")?.run()?;
            assert!(
                text.contains(&format!("not announced: {expected}")),
                "{text}"
            );
        }
        assert!(!node.log("no interface eth7 on this node").is_empty());
        Ok(())
    });
}

#[test]
fn a_vip_moves_to_the_interface_that_its_advertisement_names() {
    lab::test(|lab| {
        let two = TwoLinks::new(lab)?;
        for (interface, on_eth0) in [("eth1", false), ("eth0", true)] {
            two.advertise_on(&[interface])?;
            wait_until(interface, || Ok(two.answered()? == [on_eth0, !on_eth0]))?;
        }
        Ok(())
    });
}

#[test]
fn a_vip_of_two_advertisements_is_answered_on_the_interfaces_of_both() {
    lab::test(|lab| {
        let two = TwoLinks::new(lab)?;
        let pool = manifest::pool("all", &["10.0.0.0/8"]);
        let one = manifest::advertisement("one", &["all"], &["eth0"]);
        let other = manifest::advertisement("other", &[], &["eth1"]);
        let text = [pool.clone(), one, other].concat();
        two.node.manifests.write("pools.yaml", &text)?;
        wait_until("both answer", || Ok(two.answered()? == [true, true]))?;
        let [eth0, eth1] = [&two.node.host.eth0, &two.eth1];
        let macs = [
            answer(&two.client, &two.client.eth0, VIPS[0])?,
            answer(&two.client, &two.client_eth1, VIPS[0])?,
        ];
        assert_eq!(macs, [Some(eth0.mac), Some(eth1.mac)]);

        two.advertise_on(&["eth1"])?;
        wait_until("one is left", || Ok(two.answered()? == [false, true]))
    });
}

#[test]
fn an_interface_is_used_as_soon_as_it_appears_or_reappears() {
    lab::test(|lab| {
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let client = lab.host("client")?;
        let client_eth1 = client.extra_link("eth1", 1)?;
        let pool = manifest::pool("all", &["10.0.0.0/8"]);
        let advertisement = manifest::advertisement("all", &["all"], &["eth1"]);
        node.manifests
            .write("pools.yaml", &(pool + &advertisement))?;
        node.serve("web", &VIPS[..1])?;
        node.start_with(["--interface", "eth1"])?;
        assert_eq!(node.log("no interface eth1 (--interface) yet").len(), 1);
        for _ in 0..2 {
            let eth1 = node.host.extra_link("eth1", 1)?;
            wait_until("it answers", || {
                Ok(answer(&client, &client_eth1, VIPS[0])? == Some(eth1.mac))
            })?;
            assert_eq!(node.state(VIPS[0])?, "answering");
            node.host.ip("link delete eth1")?;
            wait_until("it is told", || {
                Ok(node.state(VIPS[0])? == "no interface eth1 on this node")
            })?;
        }
        let links = node.status()?.links;
        assert!(links.is_empty(), "{links:?}");
        Ok(())
    });
}

#[test]
fn a_renamed_interface_is_known_by_its_new_name() {
    lab::test(|lab| {
        let two = TwoLinks::new(lab)?;
        two.advertise_on(&["lan1"])?;
        wait_until("nobody answers", || Ok(two.answered()? == [false, false]))?;
        two.rename("eth1", "lan1")?;
        wait_until("lan1 answers", || Ok(two.answered()? == [false, true]))?;
        assert_eq!(two.node.vip(VIPS[0])?.places[0].link, "lan1");
        two.rename("lan1", "eth1")?;
        wait_until("nobody answers", || Ok(two.answered()? == [false, false]))
    });
}

#[test]
fn a_shared_address_is_answered_until_its_last_service_is_gone() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS[..1])?;
        let client = lab.host("client")?;
        node.serve("mail", &VIPS[..1])?;
        let services = |node: &Node| Ok::<_, anyhow::Error>(node.vip(VIPS[0])?.services);
        wait_until("both have it", || {
            Ok(services(&node)? == ["default/mail", "default/web"])
        })?;
        let asker = Asker::start(&client, VIPS[0], Duration::from_millis(5))?;
        node.manifests.remove("web.yaml")?;
        wait_until("one has it", || Ok(services(&node)? == ["default/mail"]))?;
        asker.stop()?.assert_all_answered(5, node.host.eth0.mac);
        let told = node.log("no longer answering");
        assert!(told.is_empty(), "{told:?}");

        node.manifests.remove("mail.yaml")?;
        wait_until("nobody has it", || {
            Ok(answer(&client, &client.eth0, VIPS[0])?.is_none())
        })
    });
}

/// The next VIP gets its slot among the counters.
#[test]
fn a_removed_vip_leaves_neither_entries_nor_counts() {
    lab::test(|lab| {
        let node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let client = lab.host("client")?;
        assert!(answer(&client, &client.eth0, VIPS[0])?.is_some());
        assert!(node.vip(VIPS[0])?.counts[0].answered > 0);
        node.manifests.remove("web.yaml")?;
        for map in ["vips_v4", "vips_v6"] {
            wait_until("the map is empty", || Ok(node.map(map)?.is_empty()))?;
        }

        let next = "10.0.0.241".parse()?;
        node.serve("next", &[next])?;
        wait_until("the next is answered", || Ok(is_answering(&node, next)))?;
        let counts = node.vip(next)?.counts[0];
        assert_eq!((counts.requests, counts.answered), (0, 0));
        Ok(())
    });
}

fn is_answering(node: &Node, vip: std::net::IpAddr) -> bool {
    node.state(vip).is_ok_and(|state| state == "answering")
}

/// A node and a client that are both in two LANs, and a VIP.
struct TwoLinks {
    node: Node,
    eth1: Link,
    client: Host,
    client_eth1: Link,
}

impl TwoLinks {
    fn new(lab: &Lab) -> Result<Self> {
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let client = lab.host("client")?;
        let this = Self {
            eth1: node.host.extra_link("eth1", 1)?,
            client_eth1: client.extra_link("eth1", 1)?,
            client,
            node: {
                node.serve("web", &[VIP_V4.into()])?;
                node.start()?;
                node
            },
        };
        assert_eq!(this.answered()?, [true, false], "eth0 has its subnet");
        Ok(this)
    }

    fn advertise_on(&self, interfaces: &[&str]) -> Result<()> {
        let pool = manifest::pool("all", &["10.0.0.0/8"]);
        let advertisement = manifest::advertisement("all", &["all"], interfaces);
        let manifests = &self.node.manifests;
        manifests.write("pools.yaml", &(pool + &advertisement))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let host = &self.node.host;
        host.ip(&format!("link set {from} down"))?;
        host.ip(&format!("link set {from} name {to}"))?;
        host.ip(&format!("link set {to} up"))?;
        Ok(())
    }

    /// Whether the VIP is answered in either LAN.
    fn answered(&self) -> Result<[bool; 2]> {
        let eth0 = answer(&self.client, &self.client.eth0, VIPS[0])?;
        let eth1 = answer(&self.client, &self.client_eth1, VIPS[0])?;
        Ok([eth0.is_some(), eth1.is_some()])
    }
}

/// A link with an MTU below 1280 has no IPv6, and the kernel forgets its groups.
#[test]
fn a_small_mtu_removes_ipv6_vips_and_a_larger_one_restores_them() {
    lab::test(|lab| {
        let node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let client = lab.host("client")?;
        let joined = || -> Result<bool> {
            let groups = node.host.ip("-6 maddress show dev eth0")?;
            Ok(groups.contains("ff02::1:ff00:240"))
        };
        assert!(joined()?);
        node.host.ip("link set eth0 mtu 1000")?;
        wait_until("it says why", || {
            let state = node.state(VIPS[1])?;
            Ok(state.contains("eth0 has an MTU of 1000 bytes, and IPv6 needs 1280"))
        })?;
        assert!(!joined()?);
        assert_eq!(answer(&client, &client.eth0, VIPS[1])?, None);
        assert!(is_answering(&node, VIPS[0]));

        node.host.ip("link set eth0 mtu 1500")?;
        wait_until("it is answered again", || Ok(is_answering(&node, VIPS[1])))?;
        assert!(joined()?);
        // Too short to notice.
        node.host.ip("link set eth0 mtu 1000")?;
        node.host.ip("link set eth0 mtu 1500")?;
        wait_until("the group is joined again", joined)
    });
}

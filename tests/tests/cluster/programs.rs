//! Where the program runs, and the consequences where it cannot.

use std::{net::IpAddr, thread::sleep, time::Duration};

use anyhow::Result;
use speaker_tests::{
    agent::Mode,
    asker::{Asked, Asker},
    cluster::Cluster,
    lab::{self, Lab, Link},
    message::Mac,
    wait::wait_until,
};

use crate::{
    EVERY, FAIL_OVER, HAND_OVER, VIP, VIPS, asked, brief, hosts::mute, in_time, restarted,
};

/// A VIP in the subnet of LAN 1.
const VIP_OF_LAN1: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 1, 240));

/// Nodes that talk to each other over `eth0`, and have their VIPs on `eth1`.
struct TwoLans {
    cluster: Cluster,
    /// The nodes' links in LAN 1.
    eth1: Vec<Link>,
    /// The client's.
    client: Link,
}

impl TwoLans {
    /// Their agents are yet to be started.
    fn new(lab: &Lab) -> Result<Self> {
        let cluster = Cluster::new(lab, 3, Mode::Generic, &[&[VIP_OF_LAN1]])?;
        let nodes = cluster.nodes.iter();
        let eth1 = nodes.map(|node| node.host.extra_link("eth1", 1));
        Ok(Self {
            eth1: eth1.collect::<Result<_>>()?,
            client: cluster.client.extra_link("eth1", 1)?,
            cluster,
        })
    }

    fn start(&mut self) -> Result<()> {
        for node in &mut self.cluster.nodes {
            node.start()?;
        }
        self.cluster.agree(vec![VIP_OF_LAN1])
    }

    fn mac(&self, node: usize) -> Mac {
        self.eth1[node].mac
    }

    /// The client asks for the VIP during a step.
    fn asked<T>(&mut self, act: impl FnOnce(&mut Cluster) -> Result<T>) -> Result<(Asked, T)> {
        let asker = Asker::on(&self.cluster.client, &self.client, VIP_OF_LAN1, EVERY)?;
        sleep(Duration::from_millis(200));
        let result = act(&mut self.cluster)?;
        sleep(Duration::from_millis(200));
        Ok((asker.stop()?, result))
    }
}

#[test]
fn an_absent_agent_is_not_missed_if_its_node_is_probed_on_a_separate_link() {
    lab::test(|lab| {
        let mut lans = TwoLans::new(lab)?;
        lans.start()?;
        let owner = lans.cluster.owner(VIP_OF_LAN1)?;
        let probes = lans.cluster.nodes[owner].status()?.probes;
        let probes = probes.expect("there are other nodes");
        assert_eq!(probes.interface.as_deref(), Some("eth0"), "{probes:?}");
        let (asked, owner, epoch) = in_time(|| {
            let owner = lans.cluster.owner(VIP_OF_LAN1)?;
            let epoch = lans.cluster.nodes[owner].explain(VIP_OF_LAN1)?.epoch;
            let (asked, in_time) = lans.asked(|cluster| {
                let in_time = restarted(&mut cluster.nodes[owner])?;
                sleep(Duration::from_millis(1_500));
                Ok(in_time)
            })?;
            Ok(in_time.then_some((asked, owner, epoch)))
        })?;
        asked.assert_all_answered(200, lans.mac(owner));
        assert_eq!(lans.cluster.owner(VIP_OF_LAN1)?, owner);
        let now = lans.cluster.nodes[owner].explain(VIP_OF_LAN1)?.epoch;
        assert_eq!(now, epoch);
        Ok(())
    });
}

#[test]
fn a_link_that_loses_its_carrier_hands_its_vips_over_at_once() {
    lab::test(|lab| {
        let mut lans = TwoLans::new(lab)?;
        lans.start()?;
        brief(HAND_OVER, || {
            let owner = lans.cluster.owner(VIP_OF_LAN1)?;
            let others = lans.cluster.others(owner);
            let asker = Asker::on(&lans.cluster.client, &lans.client, VIP_OF_LAN1, EVERY)?;
            sleep(Duration::from_millis(200));
            lans.eth1[owner].port.unplug()?;
            let next = lans.cluster.agreed(&others, VIP_OF_LAN1)?;
            sleep(Duration::from_millis(200));
            let asked = asker.stop()?;
            assert_eq!(asked.answered_by(), [lans.mac(owner), lans.mac(next)]);
            lans.eth1[owner].port.plug()?;
            Ok((asked, ()))
        })
    });
}

#[test]
fn a_deleted_interface_leaves_its_vips_to_a_node_that_has_one() {
    lab::test(|lab| {
        let mut lans = TwoLans::new(lab)?;
        lans.start()?;
        let owner = lans.cluster.owner(VIP_OF_LAN1)?;
        let (asked, next) = lans.asked(|cluster| {
            cluster.nodes[owner].host.ip("link delete eth1")?;
            wait_until("another node owns the VIP", FAIL_OVER, || {
                Ok(cluster.owner(VIP_OF_LAN1)? != owner)
            })?;
            cluster.owner(VIP_OF_LAN1)
        })?;
        assert_eq!(asked.answered_by(), [lans.mac(owner), lans.mac(next)]);
        let outage = asked.outage();
        assert!(outage < FAIL_OVER, "{outage:?}");
        println!("outage: {outage:?}");
        let excluded = lans.cluster.nodes[next].explain(VIP_OF_LAN1)?.excluded;
        let name = lans.cluster.nodes[owner].host.name();
        assert!(excluded.contains_key(name), "{excluded:?}");
        Ok(())
    });
}

#[test]
fn an_agent_answers_probes_itself_where_the_program_cannot() {
    lab::test(|lab| {
        let mut lans = TwoLans::new(lab)?;
        let nodes = lans.cluster.nodes.iter();
        let foreign: Result<Vec<_>> = nodes.map(|node| node.host.occupy_xdp("eth0")).collect();
        let _foreign = foreign?;
        lans.start()?;
        let owner = lans.cluster.owner(VIP_OF_LAN1)?;
        let probes = lans.cluster.nodes[owner].status()?.probes;
        let reason = probes.and_then(|it| it.reason).unwrap_or_default();
        assert!(reason.contains("already runs an XDP program"), "{reason}");
        // And not by message, as where probes are blocked.
        for node in &lans.cluster.nodes {
            mute(&node.host, "7946")?;
        }
        let (asked, ()) = lans.asked(|_| {
            sleep(Duration::from_secs(2));
            Ok(())
        })?;
        asked.assert_all_answered(200, lans.mac(owner));
        for node in &lans.cluster.nodes {
            let heard = ["delete", "table", "inet", "mute"];
            node.host.command("nft").args(heard).run()?;
        }

        let others = lans.cluster.others(owner);
        let (asked, next) = lans.asked(|cluster| {
            cluster.nodes[owner].agent().kill()?;
            sleep(Duration::from_secs(1));
            cluster.agreed(&others, VIP_OF_LAN1)
        })?;
        assert_eq!(asked.answered_by(), [lans.mac(owner), lans.mac(next)]);
        Ok(())
    });
}

/// `node-c` is the best candidate.
#[test]
fn a_foreign_program_on_the_link_leaves_its_vips_to_the_next_node() {
    lab::test(|lab| {
        const FIRST: usize = 2;
        let mut cluster = Cluster::new(lab, 3, Mode::Generic, &[&VIPS])?;
        let foreign = cluster.nodes[FIRST].host.occupy_xdp("eth0")?;
        for node in &mut cluster.nodes {
            node.start()?;
        }
        let others = cluster.others(FIRST);
        wait_until("another node owns the VIP", FAIL_OVER, || {
            let owner = cluster.agreed(&others, VIP);
            Ok(owner.is_ok_and(|owner| owner != FIRST))
        })?;
        let owner = cluster.owner(VIP)?;
        assert_eq!(owner, 0, "the second in line");
        let why = "its program cannot answer on eth0: eth0 already runs an XDP program";
        for node in &cluster.nodes {
            let excluded = node.explain(VIP)?.excluded;
            let told = excluded.get("node-c").is_some_and(|it| it.starts_with(why));
            assert!(told, "{excluded:?}");
        }
        let (asked, ()) = asked(&mut cluster, VIP, |cluster| {
            drop(foreign);
            // The agent tries again every five seconds.
            wait_until("it may own VIPs again", 2 * FAIL_OVER, || {
                let candidates = cluster.nodes[owner].explain(VIP)?.candidates;
                Ok(candidates.iter().any(|it| it.node == "node-c"))
            })?;
            sleep(Duration::from_secs(1));
            Ok(())
        })?;
        asked.assert_all_answered(200, cluster.mac(owner));
        assert_eq!(cluster.owner(VIP)?, owner, "it takes nothing back");
        Ok(())
    });
}

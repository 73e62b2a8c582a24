//! deploy/ as a cluster runs it: pods with the arguments, environment, mounts, permissions and
//! probes of the manifests.

mod guides;
mod keys;
mod uninstall;

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Context as _, Result};
use speaker_tests::{
    asker::Asker,
    kube::{Family, Installation},
    lab::{self, Host},
};

const EVERY: Duration = Duration::from_millis(5);

/// The node that answers for a VIP, and has answered every request for some time.
fn answers(site: &Installation, vip: IpAddr) -> Result<&Host> {
    let asker = Asker::start(&site.client, vip, EVERY)?;
    thread::sleep(Duration::from_millis(500));
    let asked = asker.stop()?;
    let macs = asked.answered_by();
    let mut nodes = site.nodes.iter();
    let owner = nodes.find(|node| macs == [node.eth0.mac]);
    let owner = owner.with_context(|| format!("{vip} is answered by {macs:?}"))?;
    asked.assert_all_answered(50, owner.eth0.mac);
    Ok(owner)
}

/// What the guides tell users to check.
fn is_told(site: &Installation, vip: IpAddr) -> Result<()> {
    let owner = answers(site, vip)?;
    for agent in &site.agents {
        let explain = agent.exec("/speaker")?.arg("explain").arg(vip.to_string());
        let told = explain.run()?;
        let owned = format!("{vip} is owned by {}", owner.name());
        assert!(told.contains(&owned), "{told}");
    }
    Ok(())
}

#[test]
fn the_manifests_come_up_and_answer() {
    lab::test(|lab| {
        let site = Installation::start(lab, "", "speaker-system", Family::Ipv4)?;
        let vip = site.serve()?;
        is_told(&site, vip)?;
        keys::change_unnoticed(&site, vip)
    });
}

#[test]
fn the_metallb_overlay_works_on_ipv6_only_nodes_and_can_be_uninstalled() {
    lab::test(|lab| {
        let overlay = "overlays/metallb-system";
        let site = Installation::start(lab, overlay, "metallb-system", Family::Ipv6)?;
        let vip = site.serve()?;
        is_told(&site, vip)?;
        uninstall::leaves_nothing(site, vip)
    });
}

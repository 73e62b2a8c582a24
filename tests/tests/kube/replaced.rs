//! Controllers that are replaced, and an etcd that stalls.

use std::{
    net::{IpAddr, SocketAddr},
    thread::sleep,
    time::Duration,
};

use anyhow::Result;
use serde_json::json;
use speaker_tests::{
    asker::Asker,
    kube::{
        Backend, Site, Visitor, objects,
        site::{NAMESPACE, WEB},
    },
    lab::{self, Process},
    wait::wait_until,
};

use crate::{
    SOON,
    controller::{addresses, assigned, controller},
};

/// How often clients come.
const EVERY: Duration = Duration::from_millis(50);

#[test]
fn a_replaced_controller_and_a_frozen_etcd_only_delay_new_addresses() {
    lab::test(|lab| {
        let mut site = Site::started(lab, 2)?;
        let _proxies = site.proxies()?;
        let _backend = Backend::start(&site.nodes[0].host, 8080)?;
        let first = controller(&site, "first", 7472)?;
        site.kube.apply(&objects::service("web", &WEB))?;
        site.endpoints("web", &[0])?;
        let given = assigned(&site, "web")?;
        let vip = given[0];
        let owner = site.owner(vip)?;
        let to = SocketAddr::new(vip, 80);
        site.until_reached(to, SOON)?;

        let asker = Asker::start(&site.client, vip, EVERY)?;
        let visitor = Visitor::start(&site.client, to, EVERY, SOON)?;
        let _next = replacing_the_controller_loses_no_service(&site, first)?;
        while_etcd_is_frozen_services_wait_and_then_get_addresses(&mut site)?;
        let failed = visitor.stop();
        let failed = failed.failed();
        assert!(failed.is_empty(), "{failed:?}");
        asker
            .stop()?
            .assert_all_answered(100, site.nodes[owner].host.eth0.mac);
        assert_eq!(addresses(&site, "web")?, given);
        for (reason, events) in [("IPAllocated", 1), ("nodeAssigned", 1)] {
            let found = site.events("web", reason)?;
            assert_eq!(found.len(), events, "{found:?}");
        }
        site.announced_by("web", Some(owner))
    });
}

/// As a Deployment does: the next one is there before the last one goes.
fn replacing_the_controller_loses_no_service(site: &Site, mut first: Process) -> Result<Process> {
    let next = controller(site, "next", 7473)?;
    create(site, "before")?;
    let status = first.terminate(SOON)?;
    assert!(status.success(), "{status}");
    create(site, "after")?;
    let mut given = [assigned(site, "before")?, assigned(site, "after")?].concat();
    given.sort();
    // Those after the one of `web`.
    let expected: [IpAddr; 2] = ["10.0.0.1".parse()?, "10.0.0.2".parse()?];
    assert_eq!(given, expected);
    let lease = format!("lease speaker-controller --namespace={NAMESPACE}");
    let holder = site.kube.get(&lease)?["spec"]["holderIdentity"].clone();
    assert!(
        holder.as_str().is_some_and(|it| it.starts_with("next")),
        "{holder}"
    );
    Ok(next)
}

/// For half a minute, it runs only for a second now and then.
fn while_etcd_is_frozen_services_wait_and_then_get_addresses(site: &mut Site) -> Result<()> {
    let mut is_created = false;
    for round in 0..6 {
        site.kube.freeze_etcd()?;
        sleep(Duration::from_secs(4));
        site.kube.thaw_etcd()?;
        if round == 2 {
            // The API server may time out.
            is_created = create(site, "late").is_ok();
        }
        sleep(Duration::from_secs(1));
    }
    if !is_created {
        wait_until("the API server", SOON, || Ok(create(site, "late").is_ok()))?;
    }
    assigned(site, "late").map(drop)
}

fn create(site: &Site, name: &str) -> Result<()> {
    let mut service = objects::service(name, &WEB);
    service["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    site.kube.apply(&service)
}

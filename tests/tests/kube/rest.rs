//! What an idle cluster costs the API server.

use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, SystemTime},
};

use speaker_tests::{
    kube::{Site, objects, site::WEB},
    lab,
    wait::wait_until,
};

use crate::{
    SOON,
    controller::{assigned, controller},
};

/// Longer than a watch, and than the API server may be silent.
const REST: Duration = Duration::from_secs(65);

#[test]
fn an_idle_cluster_costs_only_watches_and_lease_renewals() {
    lab::test(|lab| {
        let site = Site::started(lab, 2)?;
        // The lowest addresses are those of hosts, and one of them is the API server's.
        site.apply_pool("lan", &["10.0.0.240/28", "fd00::240/124"])?;
        // With more addresses than its counters can tell.
        site.apply_pool("vast", &["fd01::/32"])?;
        let _controllers = [
            controller(&site, "first", 7472)?,
            controller(&site, "second", 7473)?,
        ];
        for service in ["web", "db", "mail"] {
            site.kube.apply(&objects::service(service, &WEB))?;
            site.endpoints(service, &[0, 1])?;
            let vips = assigned(&site, service)?;
            let owner = site.owner(vips[0])?;
            site.announced_by(service, Some(owner))?;
            wait_until("an event", SOON, || {
                Ok(!site.events(service, "nodeAssigned")?.is_empty())
            })?;
        }
        sleep(Duration::from_secs(5));
        let from = SystemTime::now();
        sleep(REST);
        let mut others: BTreeMap<String, usize> = BTreeMap::new();
        let mut watches = 0;
        for request in site.kube.requests()? {
            if request.at < from {
                continue;
            }
            match (&*request.verb, &*request.resource) {
                ("watch", _) => watches += 1,
                (_, "leases") => {}
                (verb, resource) => {
                    let what = format!("{} {verb} {resource}", request.account);
                    *others.entry(what).or_default() += 1;
                }
            }
        }
        assert!(others.is_empty(), "{others:#?}");
        // Of 2 agents and a leader, each of which ends at least once in that time.
        assert!(watches >= 2 * 8 + 3, "{watches} watches");
        Ok(())
    });
}

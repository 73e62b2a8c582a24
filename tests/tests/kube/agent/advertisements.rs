//! What advertisements select, and which are refused.

use std::{thread::sleep, time::Duration};

use serde_json::json;
use speaker_tests::{
    asker::Asker,
    kube::{
        Site, objects,
        site::{NAMESPACE, WEB, advertisement},
    },
    lab,
    wait::wait_until,
};

use super::V4;
use crate::SOON;

#[test]
fn changes_of_selectors_and_interfaces_take_effect_at_once() {
    lab::test(|lab| {
        let mut site = Site::new(lab, 2)?;
        for node in &mut site.nodes {
            node.host.extra_link("eth1", 0)?;
            node.spawn()?;
        }
        site.serve(&objects::service("web", &WEB), &[0, 1], &[V4])?;
        let owner = site.owner(V4)?;
        site.announced_by("web", Some(owner))?;

        let on = |interfaces: &[&str]| advertisement("all", json!({ "interfaces": interfaces }));
        let links_are = |names: &[&str]| {
            wait_until(&format!("an answer on {names:?}"), SOON, || {
                let announcers = site.announcers("web")?;
                Ok(announcers.len() == 1 && announcers[0].1 == names)
            })
        };
        site.kube.apply(&on(&["eth1"]))?;
        links_are(&["eth1"])?;
        site.kube.apply(&on(&["eth0", "eth1"]))?;
        links_are(&["eth0", "eth1"])?;
        site.kube.apply(&on(&["eth7"]))?;
        site.unanswered(V4)?;
        wait_until("an event that says why", SOON, || {
            let events = site.events("web", "announceFailed")?;
            Ok(events
                .iter()
                .any(|event| event.contains("no interface eth7")))
        })?;
        site.announced_by("web", None)?;

        let web = json!({ "serviceSelectors": [{ "matchLabels": { "tier": "web" } }] });
        site.kube.apply(&advertisement("all", web))?;
        wait_until("the Service not to be selected", SOON, || {
            let status = site.nodes[0].vip(V4)?;
            Ok(status
                .reason
                .is_some_and(|it| it.contains("selects Services")))
        })?;
        site.label("service web", &["tier=web"])?;
        site.owner(V4)?;
        site.label("service web", &["tier-"])?;
        site.announced_by("web", None)?;
        Ok(())
    });
}

#[test]
fn each_announce_failure_gets_one_event_with_its_reason() {
    lab::test(|lab| {
        let site = Site::started(lab, 1)?;
        site.serve(&objects::service("web", &WEB), &[0], &[V4])?;
        site.announced_by("web", Some(0))?;
        let failures = |expected: &[&str]| {
            wait_until(&format!("the failures {expected:?}"), SOON, || {
                let events = site.events("web", "announceFailed")?;
                let said = |text: &&str| events.iter().any(|it| it.contains(*text));
                Ok(events.len() == expected.len() && expected.iter().all(said))
            })
        };
        for interface in ["eth7", "eth8"] {
            let spec = json!({ "interfaces": [interface] });
            site.kube.apply(&advertisement("all", spec))?;
            site.announced_by("web", None)?;
        }
        failures(&["no interface eth7", "no interface eth8"])?;

        site.kube.apply(&advertisement("all", json!({})))?;
        site.announced_by("web", Some(0))?;
        let nowhere = json!({ "nodeSelectors": [{ "matchLabels": { "no": "node" } }] });
        let many = (10..50).map(|number| {
            let name = format!("an-advertisement-whose-name-is-rather-long-{number}");
            advertisement(&name, nowhere.clone())
        });
        site.kube.apply(&objects::list(many))?;
        let delete = format!("delete l2advertisement all --namespace={NAMESPACE}");
        site.kube.kubectl(delete.split(' ')).unheard().run()?;
        site.announced_by("web", None)?;
        failures(&["eth7", "eth8", "an-advertisement-whose-name"])?;
        // Longer than any retry waits.
        sleep(Duration::from_secs(7));
        let requests = site.kube.requests()?.into_iter();
        let codes: Vec<u16> = requests
            .filter(|it| it.resource == "events")
            .map(|it| it.code)
            .collect();
        // Two times it was announced.
        assert_eq!(codes, [201; 5]);
        Ok(())
    });
}

#[test]
fn an_invalid_object_is_refused_and_its_last_valid_version_stays_in_force() {
    lab::test(|lab| {
        let mut site = Site::started(lab, 2)?;
        site.serve(&objects::service("web", &WEB), &[0, 1], &[V4])?;
        let owner = site.owner(V4)?;
        for number in 0..2 {
            site.remembers(number, V4)?;
        }
        let asker = Asker::start(&site.client, V4, Duration::from_millis(10))?;
        let says = |site: &Site, result: &str, text: &str| {
            let what = format!("every node to say {result}");
            wait_until(&what, SOON, || {
                let list = site
                    .kube
                    .get(&format!("configurationstates --namespace={NAMESPACE}"))?;
                let items = list["items"].as_array().cloned().unwrap_or_default();
                let says = |item: &serde_json::Value| {
                    let summary = item["status"]["errorSummary"].as_str().unwrap_or_default();
                    item["status"]["result"] == result && summary.contains(text)
                };
                Ok(items.len() == 2 && items.iter().all(says))
            })
        };
        says(&site, "Valid", "")?;
        site.apply_pool("aaa", &["10.0.0.0/25"])?;
        says(&site, "Invalid", "overlaps")?;
        site.apply_pool("lan", &["10.0.0.9-10.0.0.1"])?;
        says(&site, "Invalid", "after the end")?;
        // Even for those that never saw the valid version since their start.
        for number in 0..2 {
            site.nodes[number].stop()?;
            site.nodes[number].start()?;
            assert_eq!(site.owner(V4)?, owner);
            let status = site.nodes[number].ask("status")?;
            for reason in ["aaa: 10.0.0.0/25 overlaps", "after the end"] {
                assert!(status.contains(reason), "{reason:?} is not in {status}");
            }
        }
        site.apply_pool("aaa", &["10.0.0.0/24"])?;
        site.apply_pool("lan", &["fd00::/8"])?;
        // The one that waited has them now.
        says(&site, "Valid", "")?;
        assert_eq!(site.owner(V4)?, owner);
        asker
            .stop()?
            .assert_all_answered(100, site.nodes[owner].host.eth0.mac);
        site.apply_pool("aaa", &["10.9.0.0/24"])?;
        site.announced_by("web", None)?;
        Ok(())
    });
}

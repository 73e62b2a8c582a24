//! Controllers that assign addresses to Services.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use speaker_tests::{
    kube::{
        Backend, Site, ask, objects,
        site::{NAMESPACE, WEB},
    },
    lab::{self, Process},
    wait::{wait_for, wait_until},
};

use crate::SOON;

/// A controller on the host of the control plane, with no more rights than deploy/ gives it.
pub(crate) fn controller(site: &Site, name: &str, port: u16) -> Result<Process> {
    controller_with(site, name, port, &["--no-webhooks"])
}

/// The same, with these arguments.
pub(crate) fn controller_with(
    site: &Site,
    name: &str,
    port: u16,
    arguments: &[&str],
) -> Result<Process> {
    let http = format!("127.0.0.1:{port}");
    let controller = site.controller(name, &["--http", &http])?;
    controller.args(arguments).spawn()
}

/// The addresses that a Service has.
pub(crate) fn addresses(site: &Site, service: &str) -> Result<Vec<IpAddr>> {
    let service = site
        .kube
        .get(&format!("service {service} --namespace=default"))?;
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    let parse = |it: &Value| Ok(it["ip"].as_str().context("an address")?.parse()?);
    ingress.into_iter().flatten().map(parse).collect()
}

/// Waits for the addresses of a Service.
pub(crate) fn assigned(site: &Site, service: &str) -> Result<Vec<IpAddr>> {
    wait_for(&format!("addresses of {service}"), SOON, || {
        let addresses = addresses(site, service)?;
        Ok((!addresses.is_empty()).then_some(addresses))
    })
}

/// The values of a series in the metrics of both controllers.
fn values(site: &Site, series: &str) -> Vec<u64> {
    let told = [7472, 7473].map(|port| {
        let to = ([127, 0, 0, 1], port).into();
        site.kube.host.run(|| ask(to, "/metrics", SOON))
    });
    let told: Vec<String> = told.into_iter().filter_map(Result::ok).collect();
    let lines = told.iter().flat_map(|it| it.lines());
    let value = |line: &str| line.strip_prefix(series)?.trim_start().parse().ok();
    lines.filter_map(value).collect()
}

/// How many addresses of the pool `lan` are in use, as the metrics of the leader say.
fn in_use(site: &Site) -> Option<u64> {
    let series = "metallb_allocator_addresses_in_use_total{pool=\"lan\"}";
    values(site, series).first().copied()
}

#[test]
fn an_assigned_address_is_answered_and_once_freed_goes_to_the_waiting_service() {
    lab::test(|lab| {
        let site = Site::started(lab, 2)?;
        let mut controllers = [
            controller(&site, "first", 7472)?,
            controller(&site, "second", 7473)?,
        ];
        let _proxies = site.proxies()?;
        let _backend = Backend::start(&site.nodes[0].host, 8080)?;
        site.apply_pool("lan", &["10.0.0.240-10.0.0.241", "fd00::240/124"])?;
        wait_until("an empty pool", SOON, || Ok(in_use(&site) == Some(0)))?;
        site.kube.apply(&objects::service("web", &WEB))?;
        site.endpoints("web", &[0])?;
        let given = assigned(&site, "web")?;
        let expected: [IpAddr; 2] = ["10.0.0.240".parse()?, "fd00::240".parse()?];
        assert_eq!(
            given, expected,
            "the lowest that are free, of both families"
        );
        wait_until("a pool in use", SOON, || Ok(in_use(&site) == Some(2)))?;
        // The other has no configuration, and must not cause an alert.
        for (series, expected) in [
            ("speaker_controller_leading", &[0, 1][..]),
            ("metallb_k8s_client_config_loaded_bool", &[1]),
            ("metallb_k8s_client_config_stale_bool", &[0]),
        ] {
            let mut values = values(&site, series);
            values.sort_unstable();
            assert_eq!(values, expected, "{series}");
        }
        for vip in expected {
            site.owner(vip)?;
            let to = SocketAddr::new(vip, 80);
            site.until_reached(to, SOON)?;
        }
        wait_until("an event", SOON, || {
            let events = site.events("web", "IPAllocated")?;
            Ok(events == [r#"Assigned IP ["10.0.0.240" "fd00::240"]"#])
        })?;

        // The pool has no room for a third, until the first is deleted.
        for name in ["more", "waits"] {
            let mut service = objects::service(name, &WEB);
            service["spec"]["ipFamilyPolicy"] = json!("SingleStack");
            site.kube.apply(&service)?;
        }
        wait_until("an event", SOON, || {
            let failed =
                |name| Ok::<_, anyhow::Error>(!site.events(name, "AllocationFailed")?.is_empty());
            Ok(failed("waits")? || failed("more")?)
        })?;
        let more = [addresses(&site, "more")?, addresses(&site, "waits")?].concat();
        assert_eq!(more, ["10.0.0.241".parse::<IpAddr>()?]);
        // The leader dies without notice.
        let lease = site
            .kube
            .get(&format!("lease speaker-controller --namespace={NAMESPACE}"))?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let leads = usize::from(holder.starts_with("second"));
        controllers[leads].kill()?;
        let delete = ["delete", "service", "web"];
        site.kube.kubectl(delete).unheard().run()?;
        let patience = Duration::from_secs(60);
        wait_until("the address of the one that is gone", patience, || {
            let of = |name| addresses(&site, name);
            let mut all = [of("more")?, of("waits")?].concat();
            all.sort();
            let both: [IpAddr; 2] = ["10.0.0.240".parse()?, "10.0.0.241".parse()?];
            Ok(all == both)
        })?;
        leaders_decide_by_what_etcd_holds(&site)
    });
}

/// Not by an API server's cache, which may lack what the leader before has written.
fn leaders_decide_by_what_etcd_holds(site: &Site) -> Result<()> {
    let requests = site.kube.requests()?;
    for kind in ["services", "namespaces", "ipaddresspools"] {
        let lists = requests.iter().filter(|it| {
            it.account == "speaker-controller" && it.verb == "list" && it.resource == kind
        });
        let lists: Vec<&str> = lists.map(|it| it.uri.as_str()).collect();
        assert!(lists.len() >= 2, "two have led: {lists:?}");
        let is_current = |uri: &&str| !uri.contains("resourceVersion=");
        assert!(lists.iter().all(is_current), "{lists:?}");
    }
    Ok(())
}

/// A pool with these fields beside its addresses.
fn pool(name: &str, addresses: &str, mut fields: Value) -> Value {
    fields["addresses"] = json!([addresses]);
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": fields,
    })
}

/// A Service for IPv4 with these annotations.
fn service(name: &str, annotations: &Value) -> Value {
    let mut service = objects::service(name, &WEB);
    service["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    service["metadata"]["annotations"] = annotations.clone();
    service
}

#[test]
fn pools_and_annotations_work_as_with_metallb() {
    lab::test(|lab| {
        let site = Site::started(lab, 2)?;
        let mut first = controller(&site, "first", 7472)?;
        let delete_pool = |name: &str| {
            let delete = format!("delete ipaddresspool {name} --namespace={NAMESPACE}");
            site.kube.kubectl(delete.split(' ')).unheard().run()
        };
        delete_pool("lan")?;
        let none = json!({});
        let is = |name: &str, expected: &[&str]| {
            wait_until(&format!("{name} to have {expected:?}"), SOON, || {
                let addresses = addresses(&site, name)?;
                let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                Ok(texts == expected)
            })
        };

        // Priorities come first, pools for another namespace do not count, and pools without
        // autoAssign are for Services that request them.
        let priority = |number: u8, namespace: &str| json!({ "serviceAllocation": { "priority": number, "namespaces": [namespace] } });
        site.kube.apply(&objects::list([
            pool("plain", "10.0.0.0/28", json!({})),
            pool("later", "10.0.1.0/28", priority(20, "default")),
            pool("sooner", "10.0.2.0/28", priority(10, "default")),
            pool("others", "10.0.3.0/28", priority(1, "shop")),
            pool(
                "asked",
                "10.0.4.0/28",
                json!({ "autoAssign": false, "avoidBuggyIPs": true }),
            ),
        ]))?;
        site.kube.apply(&service("web", &none))?;
        is("web", &["10.0.2.0"])?;
        let asks = json!({ "metallb.io/address-pool": "asked" });
        site.kube.apply(&service("asks", &asks))?;
        is("asks", &["10.0.4.1"])?;
        let wants = json!({ "metallb.universe.tf/loadBalancerIPs": "10.0.0.7" });
        site.kube.apply(&service("wants", &wants))?;
        is("wants", &["10.0.0.7"])?;
        wait_until("a word about the old annotation", SOON, || {
            let events = site.events("wants", "deprecatedAnnotation")?;
            Ok(events.iter().any(|it| it.contains("loadBalancerIPs")))
        })?;
        let mut foreign = service("foreign", &none);
        foreign["spec"]["loadBalancerClass"] = json!("example.com/other");
        site.kube.apply(&foreign)?;

        // Two Services with one key share an address, and the node that announces it.
        let key = json!({
            "metallb.io/allow-shared-ip": "key",
            "metallb.io/loadBalancerIPs": "10.0.0.9",
        });
        site.kube.apply(&service("shared-a", &key))?;
        let mut other = service("shared-b", &key);
        other["spec"]["ports"][0]["port"] = json!(81);
        other["spec"]["ports"][0]["name"] = json!("tcp-81");
        site.kube.apply(&other)?;
        is("shared-a", &["10.0.0.9"])?;
        is("shared-b", &["10.0.0.9"])?;
        for name in ["shared-a", "shared-b"] {
            site.endpoints(name, &[0])?;
        }
        let owner = site.owner("10.0.0.9".parse()?)?;
        site.announced_by("shared-a", Some(owner))?;
        site.announced_by("shared-b", Some(owner))?;

        // The counters belong to the controller, even if somebody else writes them.
        let counters = |expected: (i64, i64)| {
            wait_until("the counters", SOON, || {
                let pool = site
                    .kube
                    .get(&format!("ipaddresspool plain --namespace={NAMESPACE}"))?;
                let count = |name: &str| pool["status"][name].as_i64();
                let counts = (count("assignedIPv4"), count("availableIPv4"));
                Ok(counts == (Some(expected.0), Some(expected.1)))
            })
        };
        counters((2, 14))?;
        let wrong = json!({ "assignedIPv4": 9, "availableIPv4": 9 });
        let name = format!("ipaddresspool/plain --namespace={NAMESPACE}");
        site.kube.patch_status(&name, &wrong)?;
        counters((2, 14))?;

        // Another controller moves nothing.
        first.terminate(SOON)?;
        let _second = controller(&site, "second", 7473)?;
        wait_until("the next to lead", SOON, || {
            let lease = format!("lease speaker-controller --namespace={NAMESPACE}");
            let holder = site.kube.get(&lease)?["spec"]["holderIdentity"].clone();
            Ok(holder.as_str().is_some_and(|it| it.starts_with("second")))
        })?;
        for (name, has) in [
            ("web", "10.0.2.0"),
            ("asks", "10.0.4.1"),
            ("wants", "10.0.0.7"),
        ] {
            is(name, &[has])?;
        }
        // A deleted pool takes its addresses with it.
        delete_pool("sooner")?;
        is("web", &["10.0.1.0"])?;
        for name in ["later", "plain"] {
            delete_pool(name)?;
        }
        is("web", &[])?;
        is("wants", &[])?;
        assert!(addresses(&site, "foreign")?.is_empty(), "of another class");
        Ok(())
    });
}

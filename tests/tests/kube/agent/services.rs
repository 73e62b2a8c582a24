//! From a Service to an answer on the wire.

use std::net::SocketAddr;

use serde_json::json;
use speaker_tests::{
    kube::{Backend, Site, get, objects, site::WEB},
    lab,
    wait::wait_until,
};

use super::{V4, V6};
use crate::SOON;

#[test]
fn a_client_reaches_a_dual_stack_service_and_its_status_names_the_announcer() {
    lab::test(|lab| {
        let site = Site::started(lab, 3)?;
        let _proxies = site.proxies()?;
        let _backend = Backend::start(&site.nodes[2].host, 8080)?;
        let service = objects::service("web", &WEB);
        site.serve(&service, &[2], &[V4, V6])?;
        let owner = site.owner(V4)?;
        assert_eq!(site.owner(V6)?, owner, "a Service has one owner");
        for vip in [V4, V6] {
            let to = SocketAddr::new(vip, 80);
            site.until_reached(to, SOON)?;
            assert_eq!(get(&site.client, to, SOON)?.node, "node-c");
        }
        site.announced_by("web", Some(owner))?;
        assert_eq!(site.announcers("web")?[0].1, ["eth0"]);
        let name = site.nodes[owner].host.name();
        let expected = format!("announcing from node \"{name}\" with protocol \"layer2\"");
        wait_until("an event", SOON, || {
            Ok(!site.events("web", "nodeAssigned")?.is_empty())
        })?;
        assert_eq!(site.events("web", "nodeAssigned")?, [expected]);

        // Without endpoints it has no owner; with them it has one again.
        site.endpoints("web", &[])?;
        site.unanswered(V4)?;
        site.announced_by("web", None)?;
        site.endpoints("web", &[2])?;
        let owner = site.owner(V4)?;
        site.announced_by("web", Some(owner))?;

        // An address that is no longer a VIP has no owner.
        let cluster_ip = json!({ "spec": { "type": "ClusterIP" } }).to_string();
        let patch = ["patch", "service", "web", "--patch", &cluster_ip];
        site.kube.kubectl(patch).unheard().run()?;
        site.announced_by("web", None)?;
        assert!(site.nodes[owner].explain(V4).is_err());
        Ok(())
    });
}

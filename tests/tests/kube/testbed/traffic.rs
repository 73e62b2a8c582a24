//! From a client to a backend, by way of kube-proxy.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread::sleep,
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::json;
use speaker_tests::{
    kube::{Backend, Kube, Visitor, get, get_udp, objects},
    lab::{self, Host},
    wait::wait_until,
};

use super::{PORTS, slice};
use crate::SOON;

const VIP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 240));
const VIP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x240));

/// Makes the client believe that a VIP is at a node.
fn direct(client: &Host, node: &Host) -> Result<()> {
    let [a, b, c, d, e, f] = node.eth0.mac;
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    for vip in [VIP_V4, VIP_V6] {
        client.ip(&format!(
            "neighbor replace {vip} lladdr {mac} dev eth0 nud permanent"
        ))?;
    }
    Ok(())
}

#[test]
fn a_client_reaches_a_backend_through_the_proxies() {
    lab::test(|lab| {
        let kube = Kube::start(lab)?;
        let nodes = [lab.host("node-a")?, lab.host("node-b")?];
        let [near, far] = &nodes;
        let client = lab.host("client")?;
        for node in &nodes {
            kube.join(node, &[])?;
        }
        let _proxies = [kube.proxy(near, "iptables")?, kube.proxy(far, "iptables")?];
        let _backend = Backend::start(far, 8080)?;
        direct(&client, near)?;

        let mut service = objects::service("web", &PORTS);
        let slices = [slice("web", far, false), slice("web", far, true)];
        kube.apply(&objects::list([
            service.clone(),
            slices[0].clone(),
            slices[1].clone(),
        ]))?;
        kube.ingress("default/web", &[VIP_V4, VIP_V6])?;
        for vip in [VIP_V4, VIP_V6] {
            let to = SocketAddr::new(vip, 80);
            answered(&client, to)?;
            let http = get(&client, to, SOON)?;
            let udp = get_udp(&client, to, SOON)?;
            let stands_between: IpAddr = match vip.is_ipv4() {
                true => near.eth0.ipv4.into(),
                false => near.eth0.ipv6.into(),
            };
            for reply in [http, udp] {
                assert_eq!(reply.node, "node-b");
                assert_eq!(
                    reply.client, stands_between,
                    "policy Cluster hides the client"
                );
            }
        }

        service["spec"]["externalTrafficPolicy"] = json!("Local");
        kube.apply(&service)?;
        direct(&client, far)?;
        let to = SocketAddr::new(VIP_V4, 80);
        let own: IpAddr = client.eth0.ipv4.into();
        wait_until("policy Local shows the client", SOON, || {
            Ok(get(&client, to, SOON).is_ok_and(|reply| reply.client == own))
        })?;
        let visitor = Visitor::start(
            &client,
            to,
            Duration::from_millis(20),
            Duration::from_millis(500),
        )?;
        sleep(Duration::from_millis(200));
        direct(&client, near)?;
        sleep(Duration::from_secs(1));
        direct(&client, far)?;
        sleep(Duration::from_millis(200));
        let visits = visitor.stop();
        assert_eq!(visits.nodes(), ["node-b"]);
        let gap = visits.longest_gap();
        ensure!(
            (900..1_500).contains(&gap.as_millis()),
            "{gap:?} without an endpoint here"
        );
        Ok(())
    });
}

fn answered(client: &Host, to: SocketAddr) -> Result<()> {
    wait_until("an answer", SOON, || {
        Ok(get(client, to, Duration::from_secs(1)).is_ok())
    })
}

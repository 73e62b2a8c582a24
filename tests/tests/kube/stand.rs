//! The stand itself: what other tests take for granted of it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use speaker_tests::{
    kube::{Backend, Identity, Kube, Visitor, get, get_udp, objects, objects::Endpoint},
    lab::{self, Host},
    wait::wait_until,
};

use crate::SOON;

const VIP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 240));
const VIP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x240));
const PORTS: [objects::Port<'_>; 2] = [("TCP", 80, 8080), ("UDP", 80, 8080)];

#[test]
fn objects_are_stored_as_they_are_written() {
    lab::test(|lab| {
        let begin = Instant::now();
        let kube = Kube::start(lab)?;
        eprintln!("the control plane took {:?}", begin.elapsed());

        let mut service = objects::service("web", &PORTS);
        service["metadata"]["namespace"] = json!("shop");
        service["spec"]["loadBalancerClass"] = json!("example.com/l2");
        service["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "web-1",
                "namespace": "shop",
                "labels": { "kubernetes.io/service-name": "web" },
            },
            "addressType": "IPv6",
            "endpoints": [{
                "addresses": ["fd00::1"],
                "nodeName": "node-a",
                "conditions": { "ready": false, "serving": true, "terminating": true },
            }],
            "ports": [{ "name": "tcp-80", "protocol": "TCP", "port": 8080 }],
        });
        let objects = [objects::namespace("shop"), service, slice.clone()];
        kube.apply(&objects::list(objects))?;
        let node = lab.host("node-a")?;
        kube.join(&node, &[("zone", "north")])?;

        let spec = &kube.get("service web --namespace=shop")?["spec"];
        assert_eq!(spec["loadBalancerClass"], "example.com/l2");
        assert_eq!(spec["allocateLoadBalancerNodePorts"], false);
        assert_eq!(spec["ipFamilies"], json!(["IPv4", "IPv6"]));
        let cluster_ips = spec["clusterIPs"].as_array().context("clusterIPs")?;
        assert_eq!(cluster_ips.len(), 2, "{cluster_ips:?}");

        let found = kube.get("endpointslices.v1.discovery.k8s.io web-1 --namespace=shop")?;
        assert_eq!(found["endpoints"], slice["endpoints"]);

        let status =
            json!({ "loadBalancer": { "ingress": [{ "ip": "10.0.0.240", "ipMode": "VIP" }] } });
        kube.patch_status("service/web --namespace=shop", &status)?;
        let found = kube.get("service web --namespace=shop")?;
        assert_eq!(found["status"]["loadBalancer"], status["loadBalancer"]);

        let node = kube.get("node node-a")?;
        assert_eq!(node["metadata"]["labels"]["zone"], "north");
        assert_eq!(node["status"]["conditions"][0]["type"], "Ready");

        let unknown = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "odd" },
            "spec": { "ports": [{ "port": 80 }], "colour": "red" },
        });
        let refused = kube.apply(&unknown).err().context("it was taken")?;
        assert!(format!("{refused:#}").contains("colour"), "{refused:#}");
        Ok(())
    });
}

/// Waits until a line comes from `kubectl get --watch` that has this in it.
fn seen(watch: &lab::Process, text: &str) -> Result<()> {
    watch.wait_for_line(text, SOON)?;
    Ok(())
}

fn slice(service: &str, node: &Host, is_ipv6: bool) -> Value {
    objects::endpoint_slice(service, &[Endpoint::on(node, is_ipv6)], &PORTS)
}

#[test]
fn watches_see_changes_and_what_was_stored_outlives_the_api_server() {
    lab::test(|lab| {
        let mut kube = Kube::start(lab)?;
        let node = lab.host("node-a")?;
        let watch = ["get", "endpointslices", "--watch", "--output=name"];
        let watch = kube.kubectl(watch).spawn()?;
        kube.apply(&slice("web", &node, false))?;
        seen(&watch, "web-ipv4")?;
        kube.apply(&slice("web", &node, true))?;
        seen(&watch, "web-ipv6")?;

        let before = kube.get("endpointslices")?;
        kube.kill_api()?;
        assert!(kube.get("endpointslices").is_err(), "nobody is there");
        kube.start_api()?;
        assert_eq!(kube.get("endpointslices")?["items"], before["items"]);
        Ok(())
    });
}

#[test]
fn who_has_no_rights_is_refused() {
    lab::test(|lab| {
        let kube = Kube::start(lab)?;
        let read = |identity| -> Result<(bool, String)> {
            let output = kube.kubectl_as(identity, ["get", "services"])?.output()?;
            Ok((output.status.success(), output.stderr))
        };
        let user = Identity::User("ann", "readers");
        let account = Identity::ServiceAccount("shop", "robot");
        kube.apply(&objects::namespace("shop"))?;
        kube.apply(&account_named("robot"))?;
        for identity in [user, account] {
            let (read, said) = read(identity)?;
            assert!(
                !read && said.contains("cannot list resource \"services\""),
                "{said}"
            );
        }

        kube.apply(&may_view("Group", "readers"))?;
        kube.apply(&may_view("Group", "system:serviceaccounts:shop"))?;
        for identity in [user, account, Identity::Admin] {
            wait_until("rights", SOON, || Ok(read(identity)?.0))?;
        }
        let write = kube
            .kubectl_as(user, ["create", "namespace", "theirs"])?
            .output()?;
        assert!(
            write
                .stderr
                .contains("cannot create resource \"namespaces\""),
            "{}",
            write.stderr
        );
        Ok(())
    });
}

fn account_named(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": "shop" },
    })
}

fn may_view(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": format!("{name}-view").replace(':', "-") },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name }],
    })
}

#[test]
fn a_host_finds_what_a_pod_finds() {
    lab::test(|lab| {
        let kube = Kube::start(lab)?;
        let node = lab.host("node-a")?;
        kube.apply(&objects::namespace("shop"))?;
        kube.apply(&account_named("robot"))?;
        let environment = kube.make_pod(&node, "shop", "robot")?;
        let script = "
            cd /var/run/secrets/kubernetes.io/serviceaccount
            curl --silent --cacert ca.crt --header \"Authorization: Bearer $(cat token)\" \
                https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/$(cat namespace)/pods";
        let mut asked = node.command("sh").args(["-c", script]);
        for (name, value) in environment {
            asked = asked.env(name, value);
        }
        let said = asked.run()?;
        assert!(said.contains("system:serviceaccount:shop:robot"), "{said}");
        Ok(())
    });
}

/// Has the client take a VIP to be at a node.
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
        let begin = Instant::now();
        let _proxies = [kube.proxy(near)?, kube.proxy(far)?];
        eprintln!("two proxies took {:?}", begin.elapsed());
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
                eprintln!("{vip}: {reply:?}");
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

#[test]
fn connections_to_the_api_server_can_be_cut_for_one_node() {
    lab::test(|lab| {
        let mut kube = Kube::start(lab)?;
        let nodes = [lab.host("node-a")?, lab.host("node-b")?];
        let api = kube.address();
        let reaches = |node: &Host| {
            let address = std::net::TcpStream::connect_timeout;
            node.run(|| address(&api, Duration::from_millis(500)).is_ok())
        };
        assert!(nodes.iter().all(reaches));
        kube.cut(&nodes[0])?;
        assert!(!reaches(&nodes[0]) && reaches(&nodes[1]));
        nodes[0].ping(nodes[1].eth0.ipv4, SOON)?;
        kube.restore(&nodes[0])?;
        assert!(nodes.iter().all(reaches));

        let write = |name| {
            let create = kube.kubectl(["create", "namespace", name, "--request-timeout=1s"]);
            Ok::<bool, anyhow::Error>(create.output()?.status.success())
        };
        assert!(write("first")?);
        Ok(())
    });
}

//! The control plane's parts fail, one at a time.

use std::{net::TcpStream, time::Duration};

use anyhow::Result;
use speaker_tests::{
    kube::Kube,
    lab::{self, Host},
    wait::wait_until,
};

use super::slice;
use crate::SOON;

#[test]
fn watches_see_changes_and_objects_survive_a_restart_of_the_api_server() {
    lab::test(|lab| {
        let mut kube = Kube::start(lab)?;
        let node = lab.host("node-a")?;
        let watch = ["get", "endpointslices", "--watch", "--output=name"];
        let watch = kube.kubectl(watch).spawn()?;
        kube.apply(&slice("web", &node, false))?;
        watch.wait_for_line("web-ipv4", SOON)?;
        kube.apply(&slice("web", &node, true))?;
        watch.wait_for_line("web-ipv6", SOON)?;

        let before = kube.get("endpointslices")?;
        kube.kill_api()?;
        assert!(kube.get("endpointslices").is_err(), "nobody is there");
        kube.start_api()?;
        assert_eq!(kube.get("endpointslices")?["items"], before["items"]);
        Ok(())
    });
}

#[test]
fn the_api_server_can_be_slow_or_out_of_reach() {
    lab::test(|lab| {
        let mut kube = Kube::start(lab)?;
        let writes = |kube: &Kube, name| -> Result<bool> {
            let annotate = ["annotate", "--overwrite", "namespace", "default"];
            let annotate = kube.kubectl(annotate).arg(format!("turn={name}"));
            let output = annotate.arg("--request-timeout=1s").output()?;
            Ok(output.status.success())
        };
        assert!(writes(&kube, "first")?);
        kube.freeze_etcd()?;
        assert!(!writes(&kube, "second")?);
        kube.thaw_etcd()?;
        wait_until("etcd", SOON, || writes(&kube, "third"))?;
        kube.freeze_api()?;
        assert!(!writes(&kube, "fourth")?);
        kube.thaw_api()?;
        wait_until("the API server", SOON, || writes(&kube, "fifth"))?;

        let nodes = [lab.host("node-a")?, lab.host("node-b")?];
        let api = kube.address();
        let reaches = |node: &Host| {
            let limit = Duration::from_millis(500);
            node.run(|| TcpStream::connect_timeout(&api, limit).is_ok())
        };
        assert!(nodes.iter().all(reaches));
        kube.cut(&nodes[0])?;
        assert!(!reaches(&nodes[0]) && reaches(&nodes[1]));
        nodes[0].ping(nodes[1].eth0.ipv4, SOON)?;
        kube.restore(&nodes[0])?;
        assert!(nodes.iter().all(reaches));
        Ok(())
    });
}

//! The control plane's parts fail, one at a time.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::Result;
use speaker_tests::{kube::Kube, lab, wait::wait_until};

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
fn the_api_server_can_be_slow_and_connections_to_it_dead() {
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

        let node = lab.host("node-a")?;
        let api = kube.address();
        let connect = || node.run(|| TcpStream::connect(api));
        let mut old = connect()?;
        kube.sever(&node)?;
        assert!(!is_answered(&mut old)?);
        assert!(is_answered(&mut connect()?)?);
        Ok(())
    });
}

/// Whether the API server answers a request on this connection: that it wants another protocol.
fn is_answered(connection: &mut TcpStream) -> Result<bool> {
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    connection.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    Ok(connection.read(&mut [0; 64]).is_ok_and(|length| length > 0))
}

//! A node without peers: it owns every VIP that it can.

use std::time::Duration;

use speaker_tests::{
    agent::{Mode, Node},
    lab, wait,
};

use crate::{VIPS, answer, wait_until};

/// The node checks again every ten seconds whether a VIP is free.
const CHECKED_AGAIN: Duration = Duration::from_secs(20);

#[test]
fn a_vip_used_by_another_host_does_not_keep_the_node_from_answering_for_others() {
    lab::test(|lab| {
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let (client, foreign) = (lab.host("client")?, lab.host("foreign")?);
        let [used, free] = VIPS;
        foreign.ip(&format!("address add {used} dev eth0"))?;
        node.serve("used", &[used])?;
        node.serve("free", &[free])?;
        node.start_with(["--probe-before-claim"])?;
        let mac = Some(node.host.eth0.mac);
        wait_until("the free one is answered", || {
            Ok(answer(&client, &client.eth0, free)? == mac)
        })?;
        let state = node.state(used)?;
        assert_eq!(state, "another host on the network answers for it");

        foreign.ip(&format!("address del {used} dev eth0"))?;
        wait::wait_until("the other one is answered", CHECKED_AGAIN, || {
            Ok(answer(&client, &client.eth0, used)? == mac)
        })
    });
}

#[test]
fn a_drained_node_is_ready_after_a_restart_and_answers_once_undrained() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let client = lab.host("client")?;
        let drained = node.speaker("drain")?.output()?;
        assert!(drained.status.success(), "{drained:?}");
        let told = format!("nobody answers for {} and 1 more now", VIPS[0]);
        assert!(drained.stderr.contains(&told), "{drained:?}");
        node.stop()?;
        node.start()?;
        assert_eq!(answer(&client, &client.eth0, VIPS[0])?, None);
        node.ask("undrain")?;
        let mac = Some(node.host.eth0.mac);
        wait_until("it is answered", || {
            Ok(answer(&client, &client.eth0, VIPS[0])? == mac)
        })
    });
}

//! The clock of the lease.

use std::{thread, time::Duration};

use speaker_tests::{
    agent::{LeaseState, Mode, Node},
    asker::Asker,
    lab::{self, speaker_program},
};

use crate::{SOON, VIPS, answer, wait_until};

/// How long the kernel answers without an agent, and what a busy machine may add.
const GRACE: Duration = Duration::from_secs(3);
const SLACK: Duration = Duration::from_millis(500);

/// `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` differ, as on a host that was suspended. In a namespace
/// only the agent can see that; `tests/object.rs` looks at the clock that the program reads.
#[test]
fn the_lease_runs_on_the_clock_that_counts_suspended_time() {
    lab::test(|lab| {
        let node = Node::new(lab, "node-a", Mode::Generic)?;
        node.serve("web", &VIPS)?;
        node.host.command("mkdir").arg("/run/lab").run()?;
        // A day: a deadline by the wrong clock would be as far ahead.
        let elsewhere = "--time --monotonic 86400 --fork --kill-child";
        let unshare = node.host.command("unshare");
        let mut agent = unshare
            .args(elsewhere.split_whitespace())
            .arg(speaker_program()?)
            .args(["agent", "--node-name", "node-a", "--xdp-mode", "generic"])
            .args(["--state-dir", "/run/lab/state"])
            .args(&node.source)
            .spawn()?;
        agent.wait_for_line("ready", SOON)?;
        let client = lab.host("client")?;
        wait_until("the VIP is answered", || {
            Ok(answer(&client, &client.eth0, VIPS[0])?.is_some())
        })?;
        let lease = node.status()?.lease;
        assert_eq!(lease.state, LeaseState::Valid);
        let most = GRACE.as_millis() as i64;
        let left = lease.agent_left_ms.unwrap_or_default();
        assert!((1..=most).contains(&left), "{lease:?}");

        agent.kill()?;
        thread::sleep(GRACE + SLACK);
        let asker = Asker::start(&client, VIPS[0], Duration::from_millis(5))?;
        thread::sleep(Duration::from_millis(200));
        asker.stop()?.assert_none_answered(10);
        Ok(())
    });
}

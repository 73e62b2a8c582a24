//! The death of the agent is a non-event: what is answered while it is gone, and after it is back.

use std::{
    fs,
    net::IpAddr,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use speaker_common::layout::LAYOUT_VERSION;
use speaker_tests::{
    agent::{HTTP, LeaseState, Mode, Node},
    asker::{Asked, Asker},
    lab::{self, Lab, speaker_program},
};

use crate::{SOON, VIP_V4, VIP_V6, VIPS, answer, in_each_mode, neighbor, send_to, wait_until};

/// How long the kernel keeps answering without an agent, and how old the lease may be when the
/// agent dies: it is renewed every half second.
const GRACE: Duration = Duration::from_secs(3);
const AT_LEAST: Duration = Duration::from_millis(2_500);

/// How often clients ask.
const EVERY: Duration = Duration::from_millis(5);

/// What takes seconds takes less than this, even on a busy machine.
const A_WHILE: Duration = Duration::from_secs(60);

/// For a clock that ticks between the events and their timestamps.
const SLACK: Duration = Duration::from_millis(100);

in_each_mode! {
    an_agent_that_is_killed_and_started_again_leaves_no_gap,
    a_change_of_the_program_leaves_no_gap_and_the_traced_build_logs,
    maps_of_another_layout_are_replaced_without_a_gap,
}

/// Even though the node's own kernel has the address: another node may answer by then.
#[test]
fn after_kill_9_the_kernel_answers_until_the_lease_lapses() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Native, &VIPS)?;
        let client = lab.host("client")?;
        node.host.ip(&format!("address add {VIP_V4}/32 dev lo"))?;
        node.host.ip(&format!("address add {VIP_V6}/128 dev lo"))?;
        let askers = VIPS.map(|vip| Asker::start(&client, vip, EVERY));
        thread::sleep(Duration::from_millis(200));
        node.agent().kill()?;
        let killed = SystemTime::now();
        thread::sleep(GRACE + Duration::from_secs(1));

        for asker in askers {
            let asked = asker?.stop()?;
            let (first, end) = (asked.0[0].at, killed + GRACE + Duration::from_secs(1));
            let before = asked.between(first, killed + AT_LEAST - SLACK);
            before.assert_all_answered(200, node.host.eth0.mac);
            let after = asked.between(killed + GRACE + SLACK, end);
            after.assert_none_answered(50);
        }
        let status = node.status()?;
        assert_eq!(status.node, None, "who tells?");
        assert_eq!(status.lease.state, LeaseState::Over, "{:?}", status.lease);
        assert!(status.vips[0].counts[0].refused > 50, "{:?}", status.vips);

        node.start()?;
        for vip in VIPS {
            send_to(&client, vip)?;
            wait_until("it is answered again", || {
                let known = neighbor(&client, vip)?;
                Ok(known.is_some_and(|(state, _)| state == "REACHABLE"))
            })?;
            wait_until("its return is told, as it was away", || {
                Ok(node.vip(vip)?.places[0].announced > 0)
            })?;
        }
        Ok(())
    });
}

fn an_agent_that_is_killed_and_started_again_leaves_no_gap(lab: &Lab, mode: Mode) -> Result<()> {
    let mut node = Node::serving(lab, mode, &VIPS)?;
    without_a_gap(lab, &mut node, |node| {
        node.agent().kill()?;
        node.start()?;
        // And beyond the deadline of the killed one.
        thread::sleep(GRACE);
        ensure!(node.status()?.node.is_some());
        Ok(())
    })
}

fn a_change_of_the_program_leaves_no_gap_and_the_traced_build_logs(
    lab: &Lab,
    mode: Mode,
) -> Result<()> {
    let mut node = Node::serving(lab, mode, &VIPS)?;
    without_a_gap(lab, &mut node, |node| {
        let mut last = program_id(node)?;
        let mut check = |node: &mut Node, logs: bool| {
            // Lines written earlier arrive a little later.
            wait_until("the program logs, or not", || {
                let before = node.log(": answered").len();
                thread::sleep(Duration::from_millis(100));
                Ok((node.log(": answered").len() > before) == logs)
            })?;
            let id = program_id(node)?;
            assert_ne!(id, last, "the program is still the same");
            last = id;
            anyhow::Ok(())
        };
        for level in ["debug", "off"] {
            node.stop()?;
            node.start_with(["--ebpf-log-level", level])?;
            check(node, level != "off")?;
        }
        for level in ["debug", "off"] {
            node.speaker("ebpf-log")?.arg(level).run()?;
            check(node, level != "off")?;
        }
        Ok(())
    })
}

/// The kernel's id of the program on the node's link.
fn program_id(node: &Node) -> Result<String> {
    let link = node.host.ip("-details link show dev eth0")?;
    let mut words = link.split_whitespace().skip_while(|it| *it != "prog/xdp");
    let id = words.nth(2).map(str::to_owned);
    id.with_context(|| format!("eth0 has no program: {link}"))
}

/// As another version would.
fn maps_of_another_layout_are_replaced_without_a_gap(lab: &Lab, mode: Mode) -> Result<()> {
    let mut node = Node::serving(lab, mode, &VIPS)?;
    without_a_gap(lab, &mut node, |node| {
        node.stop()?;
        let pins = "/sys/fs/bpf/speaker";
        let maps = format!("v{LAYOUT_VERSION}");
        let rename = [format!("{pins}/{maps}"), format!("{pins}/v0")];
        node.host.command("mv").args(rename).run()?;
        node.start()?;
        assert_eq!(node.log("new maps").len(), 1);
        let left = node.host.command("ls").arg(pins).run()?;
        assert_eq!(
            left.split_whitespace().collect::<Vec<_>>(),
            ["links", &maps]
        );
        Ok(())
    })
}

#[test]
fn failed_removal_of_earlier_pins_is_reported_once_and_retried() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        node.stop()?;
        let old = "/sys/fs/bpf/speaker/v0";
        node.host.command("mkdir").arg(old).run()?;
        let mount = ["-t", "tmpfs", "tmpfs", old];
        node.host.command("mount").args(mount).run()?;
        node.spawn_with(HTTP)?;
        let told = "not ready: cannot remove what an earlier agent left: cannot remove";
        node.agent().wait_for_line(told, SOON)?;
        // Two more attempts.
        thread::sleep(Duration::from_secs(11));
        assert_eq!(node.log(told).len(), 1);
        assert!(node.log("INFO ready").is_empty());
        let probed = node.get("/readyz")?;
        assert!(probed.starts_with("HTTP/1.1 503 "), "{probed}");
        let client = lab.host("client")?;
        assert!(answer(&client, &client.eth0, VIPS[0])?.is_some());

        node.host.command("umount").arg(old).run()?;
        node.agent().wait_for_line("INFO ready", 2 * SOON)?;
        let probed = node.get("/readyz")?;
        assert!(probed.starts_with("HTTP/1.1 200 "), "{probed}");
        Ok(())
    });
}

/// Even if it has hardly started, as when two roll-outs follow each other.
#[test]
fn a_clean_stop_leaves_a_minute_for_the_next_agent() {
    lab::test(|lab| {
        const SOCKET: &str = "/run/lab/state/agent.sock";
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        without_a_gap(lab, &mut node, |node| {
            node.stop()?;
            assert_leaves_a_minute(node)?;
            thread::sleep(GRACE + SLACK);

            node.host.run(|| fs::remove_file(SOCKET))?;
            node.spawn()?;
            // An early step of the start.
            let end = Instant::now() + A_WHILE;
            node.host.run(|| {
                while !fs::exists(SOCKET)? {
                    ensure!(Instant::now() < end, "it does not start");
                    thread::sleep(Duration::from_micros(100));
                }
                Ok(())
            })?;
            node.stop()?;
            assert_leaves_a_minute(node)
        })
    });
}

#[test]
fn a_start_that_fails_leaves_the_minute_for_the_one_that_does_not() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        node.stop()?;
        let mut failing = node.host.agent(["--kubeconfig", "/run/nowhere"])?;
        assert_eq!(failing.wait(SOON)?.code(), Some(1));
        let said = failing.stderr().join("\n");
        let expected = "cannot read /run/nowhere (--kubeconfig)";
        assert!(said.contains(expected), "{said}");
        assert_leaves_a_minute(&node)
    });
}

fn assert_leaves_a_minute(node: &Node) -> Result<()> {
    let lease = node.status()?.lease;
    let left = lease.agent_left_ms;
    assert!(
        left.is_some_and(|ms| (55_000..=60_000).contains(&ms)),
        "{lease:?}"
    );
    assert_eq!(lease.peers_left_ms, None, "it is alone");
    Ok(())
}

/// A pipe holds 64 KiB, some hundred lines.
#[test]
fn an_agent_with_an_unread_log_keeps_running() {
    lab::test(|lab| {
        let node = Node::new(lab, "node-a", Mode::Generic)?;
        let client = lab.host("client")?;
        let vips: Vec<IpAddr> = (0..2_000_u16)
            .map(|n| IpAddr::from([10, 1, n.to_be_bytes()[0], n.to_be_bytes()[1]]))
            .collect();
        for vip in &vips {
            node.serve(&format!("web-{vip}"), &[*vip])?;
        }
        let speaker = speaker_program()?;
        let script = "\"$0\" agent --node-name node-a --manifests \"$1\" 2>&1 | sleep 1000";
        let shell = node.host.command("sh").args(["-c", script]);
        let shell = shell.arg(speaker).arg(node.manifests.path());
        let _agent = shell.env("SPEAKER_STATE_DIR", "/run/lab").spawn()?;
        let answered = |vip| -> Result<bool> { Ok(answer(&client, &client.eth0, vip)?.is_some()) };
        let last = *vips.last().expect("there are many");
        let end = Instant::now() + A_WHILE;
        while !answered(last)? {
            ensure!(Instant::now() < end, "{last} is not answered");
        }
        thread::sleep(GRACE + SLACK);
        assert!(answered(last)?);
        Ok(())
    });
}

#[test]
fn a_frozen_agents_kernel_answers_until_the_deadline_and_the_agent_recovers() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        without_a_gap(lab, &mut node, |node| {
            node.agent().freeze()?;
            thread::sleep(Duration::from_secs(1));
            node.agent().thaw()
        })?;

        let client = lab.host("another-client")?;
        let asker = Asker::start(&client, VIPS[0], EVERY)?;
        let frozen = SystemTime::now();
        node.agent().freeze()?;
        thread::sleep(Duration::from_secs(5));
        let thawed = SystemTime::now();
        node.agent().thaw()?;
        thread::sleep(Duration::from_millis(1_500));
        let asked = asker.stop()?;
        let mac = node.host.eth0.mac;
        asked
            .between(frozen, frozen + AT_LEAST - SLACK)
            .assert_all_answered(100, mac);
        asked
            .between(frozen + GRACE + SLACK, thawed)
            .assert_none_answered(100);
        asked
            .between(thawed + Duration::from_secs(1), SystemTime::now())
            .assert_all_answered(20, mac);
        Ok(())
    });
}

#[test]
fn a_second_agent_on_a_node_is_refused_and_changes_nothing() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        without_a_gap(lab, &mut node, |node| {
            let manifests = node.manifests.path().display().to_string();
            let mut second = node.host.agent(["--manifests", &manifests])?;
            let status = second.wait(SOON)?;
            assert_eq!(status.code(), Some(1));
            let said = second.stderr().join("\n");
            for part in ["an agent, pid ", "runs on this node", "stop it first"] {
                assert!(said.contains(part), "{part:?} is not in {said}");
            }
            ensure!(node.status()?.node.is_some(), "the first one still tells");
            Ok(())
        })
    });
}

#[test]
fn detach_removes_everything_and_is_refused_while_an_agent_runs() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let client = lab.host("client")?;
        let refused = node.speaker("detach")?.output()?;
        assert_eq!(refused.status.code(), Some(1));
        assert!(refused.stderr.contains("stop it first"), "{refused:?}");

        node.stop()?;
        let said = node.speaker("detach")?.run()?;
        assert!(said.contains("detached from eth0"), "{said}");
        let pins = node.host.command("ls").arg("/sys/fs/bpf").run()?;
        assert!(!pins.contains("speaker"), "{pins}");
        let attached = node.host.command("bpftool").arg("net").run()?;
        assert!(!attached.contains("eth0"), "{attached}");
        let asker = Asker::start(&client, VIPS[0], EVERY)?;
        thread::sleep(Duration::from_millis(200));
        asker.stop()?.assert_none_answered(10);

        let again = node.speaker("detach")?.run()?;
        assert!(again.contains("nothing to detach"), "{again}");
        node.start()?;
        assert_eq!(node.state(VIPS[0])?, "answering");
        Ok(())
    });
}

#[test]
fn a_restart_with_another_interface_releases_the_old_one() {
    lab::test(|lab| {
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let _eth1 = node.host.extra_link("eth1", 1)?;
        node.serve("web", &VIPS)?;
        let runs_on = |node: &Node| -> Result<Vec<String>> {
            let links = ["eth0", "eth1"].map(str::to_owned).into_iter();
            let mut on = Vec::new();
            for link in links {
                let shown = node.host.ip(&format!("link show dev {link}"))?;
                if shown.contains("prog/xdp") {
                    on.push(link);
                }
            }
            Ok(on)
        };
        node.start_with(["--interface", "eth0"])?;
        assert_eq!(runs_on(&node)?, ["eth0"]);
        node.stop()?;
        node.start_with(["--interface", "eth1"])?;
        assert_eq!(runs_on(&node)?, ["eth1"]);
        assert_eq!(node.vip(VIPS[0])?.places[0].link, "eth1");
        Ok(())
    });
}

/// Whether both VIPs were answered all the time, while something happened.
fn without_a_gap(
    lab: &Lab,
    node: &mut Node,
    happens: impl FnOnce(&mut Node) -> Result<()>,
) -> Result<()> {
    let client = lab.host("client")?;
    let askers = VIPS.map(|vip| Asker::start(&client, vip, EVERY));
    thread::sleep(SLACK);
    let happened = happens(node);
    thread::sleep(SLACK);
    let asked: Vec<Asked> = askers
        .into_iter()
        .map(|asker| asker?.stop())
        .collect::<Result<_>>()?;
    happened?;
    for asked in asked {
        asked.assert_all_answered(20, node.host.eth0.mac);
    }
    Ok(())
}

//! Nothing is left when the process that holds a lab ends.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use speaker_tests::lab::{self, Direction};

use super::{SOON, half, network_of, processes, processes_in, wait_until};

/// Runs as a separate process: a lab with everything in it, until it is killed.
#[test]
#[ignore = "the other half of kill_9_leaves_nothing"]
fn hold_a_lab() {
    lab::test(|lab| {
        let (node, client) = (lab.host("node")?, lab.host("client")?);
        node.eth0.port.enable_native_xdp()?;
        client.eth0.port.delay(Duration::from_millis(1))?;
        client.eth0.port.lose(0.01, Direction::ToHost)?;
        let _capture = node.capture("eth0")?;
        let agent = node.agent(["--manifests", "/nowhere"])?;
        agent.wait_for_line(
            "agent --node-name node --state-dir /run/lab/state --manifests /nowhere",
            SOON,
        )?;
        println!("holding {}", node.init());
        thread::sleep(Duration::from_secs(600));
        bail!("nobody came to kill this")
    });
}

#[test]
fn kill_9_leaves_nothing() {
    lab::test(|lab| {
        let directory = tempfile::tempdir()?;
        let agent = directory.path().join("speaker");
        // An agent with children that leave its process group and session, as daemons do.
        let script = "#!/bin/sh\nsetsid sleep 1003 &\necho \"$@\"\nsetsid sleep 1004\n";
        fs::write(&agent, script)?;
        fs::set_permissions(&agent, PermissionsExt::from_mode(0o755))?;

        let mut holder = half("leftovers::hold_a_lab")
            .env("SPEAKER_BIN", &agent)
            .stdout(Stdio::piped())
            .spawn()?;
        let told = BufReader::new(holder.stdout.take().context("no pipe")?)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("holding ")?.1.to_owned()));
        let init: u32 = told.context("the holder failed")?.parse()?;

        let networks: BTreeSet<_> = children_of(holder.id())
            .into_iter()
            .filter_map(network_of)
            .collect();
        assert_eq!(networks.len(), 3, "two hosts and a switch");
        wait_until(
            "three inits, an agent and its two daemons are there",
            || processes_in(&networks).len() == 6,
        )?;
        assert_eq!(programs_of(holder.id()), 2, "a pass and a lossy program");
        // An interface whose other end is in the node goes when the node's network does.
        let watcher = lab.host("watcher")?;
        watcher.run(|| join_to(init))?;

        holder.kill()?;
        holder.wait()?;
        wait_until("no process is left", || processes_in(&networks).is_empty())?;
        wait_until("no network namespace is left", || {
            watcher.ip("link show dev tell").is_err()
        })?;
        wait_until("no BPF program is left", || programs_of(holder.id()) == 0)
    });
}

/// Joins the calling thread's network namespace to that of a process.
fn join_to(process: u32) -> Result<()> {
    // By hand: a host's own `ip` would look the process up among those of its host.
    let status = Command::new("ip")
        .args([
            "link", "add", "tell", "type", "veth", "peer", "name", "tale",
        ])
        .args(["netns", &process.to_string()])
        .status()?;
    ensure!(status.success(), "ip failed");
    Ok(())
}

fn children_of(parent: u32) -> Vec<u32> {
    let line = format!("\nPPid:\t{parent}\n");
    let is_child = |id: &u32| {
        fs::read_to_string(format!("/proc/{id}/status")).is_ok_and(|status| status.contains(&line))
    };
    processes().into_iter().filter(is_child).collect()
}

/// How many BPF programs the labs of a process have in the kernel.
fn programs_of(process: u32) -> usize {
    let name = format!("lab_{process}");
    aya::programs::loaded_programs()
        // One that disappears while it is listed is not left behind.
        .filter_map(Result::ok)
        .filter(|program| program.name_as_str() == Some(&name))
        .count()
}

//! The lab does what it promises: wires and faults, frames, processes, and leaving nothing behind.

mod faults;
mod frames;
mod hosts;
mod leftovers;
mod processes;
mod skips;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

/// What should happen takes less.
const SOON: Duration = Duration::from_secs(2);

/// What is not to happen would have within this.
const MEANWHILE: Duration = Duration::from_millis(200);

/// A frame of an EtherType for experiments (IEEE 802, 9.2.3), as short as Ethernet allows.
fn frame(destination: [u8; 6], source: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let mut frame = [&destination[..], &source, &[0x88, 0xb5], payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A test of this program, in a separate process.
fn half(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("a test knows its file"));
    command.args([test, "--exact", "--ignored", "--nocapture"]);
    command
}

/// All processes of the machine.
fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is there");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The network namespace of a process that still exists.
fn network_of(process: u32) -> Option<PathBuf> {
    let process = Path::new("/proc").join(process.to_string());
    fs::read_link(process.join("ns/net")).ok()
}

/// The processes that are in one of these network namespaces.
fn processes_in(networks: &BTreeSet<PathBuf>) -> Vec<u32> {
    let all = processes().into_iter();
    all.filter(|&id| network_of(id).is_some_and(|network| networks.contains(&network)))
        .collect()
}

fn wait_until(what: &str, mut so: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + 5 * SOON;
    while !so() {
        ensure!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

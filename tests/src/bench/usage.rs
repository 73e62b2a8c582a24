//! The resources that a process uses.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

use crate::lab::Process;

/// Ticks of `/proc/PID/stat` in a second, on every architecture that this runs on.
const TICKS: u64 = 100;

/// A process's memory and CPU time at some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Resident memory, in MiB.
    pub(super) resident: f64,
    /// CPU time of all its threads, past ones included.
    pub(super) cpu: Duration,
    pub(super) descriptors: usize,
    pub(super) threads: usize,
}

impl Usage {
    pub(super) fn of(process: &Process) -> Result<Self> {
        let id = process.id();
        let path = |file| format!("/proc/{id}/{file}");
        let read = |file| fs::read_to_string(path(file)).with_context(|| path(file));
        let status = read("status")?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .context("no VmRSS in the status of a process")?;
        let stat = read("stat")?;
        // The second field is a name in parentheses, which may contain anything.
        let (_, fields) = stat.rsplit_once(')').context("no name of a process")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        let count = |file| -> Result<usize> {
            Ok(fs::read_dir(path(file))
                .with_context(|| path(file))?
                .count())
        };
        Ok(Self {
            resident: kib.parse::<f64>()? / 1024.0,
            cpu: Duration::from_secs(ticks) / TICKS as u32,
            descriptors: count("fd")?,
            threads: count("task")?,
        })
    }
}

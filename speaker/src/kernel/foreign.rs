//! The owner of an XDP program on an interface.

use std::{
    fmt::{self, Display, Formatter},
    fs,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread,
};

use aya::programs::loaded_programs;

use super::sys;

/// An XDP program that is not ours, and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The kernel's id of it.
    pub id: u32,
    /// Its name.
    pub name: Option<String>,
    /// Where it, or its link, is pinned.
    pub pins: Vec<PathBuf>,
    /// The processes that hold it, or its link, open: name and id.
    pub processes: Vec<(String, u32)>,
}

/// The search for a program's owner. It examines every open file of every process, which can take
/// seconds, so it runs on a thread of its own, once per program.
pub(super) struct Search {
    seen: Foreign,
    found: Arc<OnceLock<Foreign>>,
}

impl Search {
    /// Starts to search below this BPF file system and in `/proc`.
    pub(super) fn start(id: u32, bpffs: &Path) -> Self {
        let seen = Foreign::named(id);
        let search = Self {
            seen: seen.clone(),
            found: Arc::default(),
        };
        let (found, bpffs) = (Arc::clone(&search.found), bpffs.to_owned());
        let look = move || drop(found.set(seen.traced(&bpffs)));
        // If there can be no thread, the name has to do.
        let _ = thread::Builder::new().spawn(look);
        search
    }

    /// The kernel's id of the program.
    pub(super) fn id(&self) -> u32 {
        self.seen.id
    }

    /// What has been found so far; at first only its name.
    pub(super) fn so_far(&self) -> Foreign {
        self.found.get().unwrap_or(&self.seen).clone()
    }
}

/// How deep below the BPF file system pins are searched for.
const DEPTH: usize = 5;

impl Foreign {
    fn named(id: u32) -> Self {
        let name = loaded_programs()
            .filter_map(Result::ok)
            .find(|program| program.id() == id)
            .and_then(|program| program.name_as_str().map(str::to_owned));
        Self {
            id,
            name,
            pins: Vec::new(),
            processes: Vec::new(),
        }
    }

    /// Adds its pins and the processes that hold it, as far as these may be read.
    fn traced(mut self, bpffs: &Path) -> Self {
        find_pins(bpffs, self.id, DEPTH, &mut self.pins);
        self.pins.sort_unstable();
        self.processes = holders(self.id);
        self
    }
}

impl Display for Foreign {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "program {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " \"{name}\"")?;
        }
        for pin in &self.pins {
            write!(f, ", pinned at {}", pin.display())?;
        }
        for (name, process) in &self.processes {
            write!(f, ", held by {name} (pid {process})")?;
        }
        Ok(())
    }
}

fn find_pins(directory: &Path, id: u32, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => find_pins(&path, id, depth - 1, found),
            Ok(kind) if kind.is_file() && is_pin_of(&path, id) => found.push(path),
            _ => {}
        }
    }
}

fn is_pin_of(path: &Path, id: u32) -> bool {
    let Ok(object) = sys::open_pin(path) else {
        return false;
    };
    let info = format!("/proc/self/fdinfo/{}", object.as_raw_fd());
    fs::read_to_string(info).is_ok_and(|info| is_of(&info, id))
}

fn holders(id: u32) -> Vec<(String, u32)> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| {
            let process = entry.ok()?;
            let pid = process.file_name().to_str()?.parse().ok()?;
            let holds = fs::read_dir(process.path().join("fdinfo"))
                .ok()?
                .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
                .any(|info| is_of(&info, id));
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            holds.then(|| (name.trim().to_owned(), pid))
        })
        .collect()
}

/// Whether the kernel's description of an open file is that of the program or of its link: both
/// have a line `prog_id:` with the id.
fn is_of(fdinfo: &str, id: u32) -> bool {
    fdinfo
        .lines()
        .filter_map(|line| line.strip_prefix("prog_id:"))
        .any(|found| found.trim().parse() == Ok(id))
}

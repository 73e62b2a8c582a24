//! `speaker detach`.

use anyhow::{Context as _, Result};
use clap::Args;

use super::{
    Bpffs, StateDir,
    output::{count, print},
};
use crate::{
    kernel::{self, Removed},
    state,
};

/// Detach the program from all interfaces and remove its pins
///
/// For a node that no longer serves VIPs. Refused while an agent runs, as it would attach the
/// program again.
#[derive(Debug, Args)]
pub(super) struct Detach {
    #[command(flatten)]
    bpffs: Bpffs,

    #[command(flatten)]
    state_dir: StateDir,

    /// Also remove the agent's files from its state directory
    #[arg(long)]
    remove_state: bool,
}

impl Detach {
    pub(super) fn run(self) -> Result<()> {
        let Removed {
            links,
            layouts,
            groups,
        } = kernel::detach_all(&self.bpffs.path)?;
        if links.is_empty() && layouts.is_empty() {
            let bpffs = self.bpffs.path.display();
            print(&format!(
                "nothing to detach: nothing is pinned under {bpffs}\n"
            ))?;
        }
        for (index, name) in links {
            match name {
                Some(name) => print(&format!("detached from {name}\n"))?,
                None => print(&format!(
                    "detached from interface {index}, which no longer exists\n"
                ))?,
            }
        }
        if groups > 0 {
            print(&format!("left {}\n", count(groups as u64, "IPv6 group")))?;
        }
        for layout in layouts {
            print(&format!("removed the maps of layout {layout}\n"))?;
        }
        if self.remove_state {
            let directory = &self.state_dir.path;
            let path = directory.display();
            let failed = || format!("cannot remove the agent's files from {path}");
            if state::remove(directory).with_context(failed)? {
                print(&format!("removed the agent's files from {path}\n"))?;
            }
        }
        Ok(())
    }
}

//! `speaker detach`.

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Places, output::print};
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
    places: Places,

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
        } = kernel::detach_all(&self.places.bpffs)?;
        if links.is_empty() && layouts.is_empty() {
            print(&format!(
                "nothing to do: nothing is pinned under {}\n",
                self.places.bpffs.display()
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
        match groups {
            0 => {}
            1 => println!("left 1 IPv6 group"),
            groups => println!("left {groups} IPv6 groups"),
        }
        for layout in layouts {
            print(&format!("removed the maps of layout {layout}\n"))?;
        }
        if self.remove_state {
            let directory = &self.places.state_dir;
            let failed = || {
                format!(
                    "cannot remove the agent's files from {}",
                    directory.display()
                )
            };
            if state::remove(directory).with_context(failed)? {
                print(&format!(
                    "removed the agent's state in {}\n",
                    directory.display()
                ))?;
            }
        }
        Ok(())
    }
}

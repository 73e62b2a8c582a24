//! `speaker detach`.

use anyhow::Result;
use clap::Args;

use super::Places;
use crate::kernel;

/// Take the program off all interfaces and remove every pin
///
/// For a node that is to serve no VIPs any more. Refused while an agent runs, which would only put
/// everything back.
#[derive(Debug, Args)]
pub(super) struct Detach {
    #[command(flatten)]
    places: Places,
}

impl Detach {
    pub(super) fn run(self) -> Result<()> {
        let removed = kernel::detach_all(&self.places.bpffs)?;
        println!("{removed}");
        Ok(())
    }
}

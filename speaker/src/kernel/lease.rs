//! The agent's side of the kernel-held lease.

use std::{path::Path, time::Duration};

use aya::maps::{Array, MapData};
use speaker_common::layout;

use super::{
    clock,
    maps::{MapsError, open},
};

/// Renews the lease: a value of its own, for a thread of its own, that nothing else keeps
/// waiting. The program answers for as long as it is renewed.
pub struct Lease {
    map: Array<MapData, [u8; size_of::<layout::Lease>()]>,
}

impl Lease {
    pub(super) const MAP: &'static str = "lease";

    pub(super) fn open(directory: &Path) -> Result<Self, MapsError> {
        Ok(Self {
            map: open(directory, Self::MAP)?,
        })
    }

    /// From now on, the agent counts as alive for this long: one call into the kernel, which
    /// waits for nothing. Returns the deadline in nanoseconds of `CLOCK_BOOTTIME`.
    pub fn renew(&mut self, lasts: Duration) -> Result<u64, MapsError> {
        let lasts = u64::try_from(lasts.as_nanos()).unwrap_or(u64::MAX);
        let lease = layout::Lease {
            agent_deadline_ns: clock::now().saturating_add(lasts),
        };
        let bytes: [u8; size_of::<layout::Lease>()] = zerocopy::transmute!(lease);
        self.map
            .set(0, bytes, 0)
            .map_err(|source| MapsError::kernel(Self::MAP, "written", source))?;
        Ok(lease.agent_deadline_ns)
    }
}

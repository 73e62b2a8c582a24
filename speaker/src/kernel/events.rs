//! The program's events: conflicts, DAD probes, and, for watchers, every frame.

use std::{io, path::Path};

use aya::maps::{MapData, MapError, RingBuf};
use speaker_common::layout::Event;
use thiserror::Error;
use zerocopy::TryFromBytes as _;

use super::{
    typed::{MapsError, open},
    wait::Readable,
};

/// An event cannot be read.
#[derive(Debug, Error)]
pub enum EventError {
    /// The ring itself fails.
    #[error("cannot wait for events of the XDP program")]
    Ring(#[from] io::Error),
    /// A record of the ring is not an event of this layout version; the next one may be.
    #[error("the XDP program sent an invalid event of {length} bytes")]
    Meaningless {
        /// How many.
        length: usize,
    },
}

/// The events, each delivered once: two readers share them between them.
pub struct Events {
    ring: RingBuf<MapData>,
    readable: Readable,
}

impl Events {
    pub(super) fn open(directory: &Path) -> Result<Self, MapsError> {
        const MAP: &str = "events";
        let ring: RingBuf<MapData> = open(directory, MAP)?;
        let readable = Readable::new(&ring)
            .map_err(MapError::IoError)
            .map_err(MapsError::kernel(MAP, "waited for"))?;
        Ok(Self { ring, readable })
    }

    /// The next event, as soon as there is one. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// After [`EventError::Meaningless`], the next call continues after that record.
    pub async fn next(&mut self) -> Result<Event, EventError> {
        loop {
            if let Some(record) = self.ring.next() {
                return Event::try_read_from_bytes(&record).map_err(|_| EventError::Meaningless {
                    length: record.len(),
                });
            }
            self.readable.more().await?;
        }
    }
}

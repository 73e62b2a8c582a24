//! Converts the headers of `network-types` from and to bytes.

use wincode::{SchemaRead, SchemaWrite, config::DefaultConfig};

/// Reads the header at `offset`; `None` if the frame is too short.
pub(crate) fn load<T>(frame: &[u8], offset: usize) -> Option<T>
where
    T: for<'a> SchemaRead<'a, DefaultConfig, Dst = T>,
{
    wincode::deserialize(frame.get(offset..)?).ok()
}

/// The bytes of a header.
pub(crate) fn bytes<T, const LENGTH: usize>(header: &T) -> [u8; LENGTH]
where
    T: SchemaWrite<DefaultConfig, Src = T>,
{
    let bytes = wincode::serialize(header).expect("a header has no part that could fail");
    bytes.try_into().expect("the header has this length")
}

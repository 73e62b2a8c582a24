//! How the responder reads and writes a frame, in the kernel and on the host.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::layout::SNAPSHOT_BYTES;

/// A header in a frame: any bytes are valid, there is no padding, and it may be unaligned.
pub trait Header: Copy + FromBytes + IntoBytes + Immutable {}

impl<T: Copy + FromBytes + IntoBytes + Immutable> Header for T {}

/// The longest frame, in bytes, that is resized. A longer one may span several buffers, of which
/// only the first is visible; drivers that split frames put more than this into the first.
pub const RESIZABLE: usize = 1 << 10;

/// A frame, starting with its Ethernet header.
///
/// Every access is checked against the end of the frame; offsets are in bytes.
pub trait Frame {
    /// The frame's length in bytes.
    fn length(&self) -> usize;

    /// Reads the header at `offset`; `None` if it exceeds the frame.
    fn load<T: Header>(&self, offset: usize) -> Option<T>;

    /// Writes the header at `offset`; `None`, without a write, if it exceeds the frame.
    fn store<T: Header>(&mut self, offset: usize, header: T) -> Option<()>;

    /// Resizes the frame to `length` bytes. Added bytes are undefined. `None` if there is no room,
    /// or if the frame is longer than [`RESIZABLE`]: of several buffers, the kernel resizes the
    /// last.
    fn resize(&mut self, length: usize) -> Option<()>;
}

/// Copies the first bytes of a frame in pairs. Zeros follow after its last pair.
#[inline(always)]
pub fn snapshot(frame: &impl Frame, into: &mut [u8; SNAPSHOT_BYTES]) {
    *into = [0; SNAPSHOT_BYTES];
    // Whole words first, and nothing after the end of the frame: each check adds a branch for the
    // verifier to follow.
    let mut at = 0;
    for word in into.as_chunks_mut::<8>().0 {
        let Some(bytes) = frame.load(at) else {
            for pair in word.as_chunks_mut::<2>().0 {
                let Some(bytes) = frame.load(at) else { return };
                *pair = bytes;
                at += 2;
            }
            return;
        };
        *word = bytes;
        at += 8;
    }
}

/// A frame in ordinary memory, for tests, tools and the decoder of samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes<const CAPACITY: usize> {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl<const CAPACITY: usize> Bytes<CAPACITY> {
    /// A frame with these bytes; `None` if they do not fit.
    pub fn new(frame: &[u8]) -> Option<Self> {
        let mut bytes = [0; CAPACITY];
        bytes.get_mut(..frame.len())?.copy_from_slice(frame);
        Some(Self {
            bytes,
            length: frame.len(),
        })
    }

    /// The present bytes of the frame.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<const CAPACITY: usize> Frame for Bytes<CAPACITY> {
    fn length(&self) -> usize {
        self.length
    }

    fn load<T: Header>(&self, offset: usize) -> Option<T> {
        let rest = self.as_slice().get(offset..)?;
        Some(T::read_from_prefix(rest).ok()?.0)
    }

    fn store<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        let rest = self.bytes[..self.length].get_mut(offset..)?;
        header.write_to_prefix(rest).ok()
    }

    fn resize(&mut self, length: usize) -> Option<()> {
        // Added bytes are set to a pattern: if it appears in a reply, a byte was not written.
        const UNWRITTEN: u8 = 0xa5;
        if self.length > RESIZABLE {
            return None;
        }
        self.bytes.get_mut(..length)?;
        if length > self.length {
            self.bytes[self.length..length].fill(UNWRITTEN);
        }
        self.length = length;
        Some(())
    }
}

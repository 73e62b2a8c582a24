//! How the responder reads and writes a frame, in the kernel and on the host.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::layout::SNAPSHOT_BYTES;

/// A header as it lies in a frame: any bytes make one, and it has no padding. Where it lies is not
/// aligned.
pub trait Header: Copy + FromBytes + IntoBytes + Immutable {}

impl<T: Copy + FromBytes + IntoBytes + Immutable> Header for T {}

/// In bytes: a longer frame may lie in several buffers, of which only the first is seen. Drivers
/// that split frames fill the first one further than this.
pub const RESIZABLE: usize = 1 << 10;

/// A frame that starts with its Ethernet header.
///
/// Every access is checked against the end of the frame; offsets are in bytes.
pub trait Frame {
    /// The frame's length in bytes.
    fn length(&self) -> usize;

    /// The header at `offset`, or `None` where the frame ends before it does.
    fn load<T: Header>(&self, offset: usize) -> Option<T>;

    /// Writes the header at `offset`; `None`, and nothing written, past the end.
    fn store<T: Header>(&mut self, offset: usize, header: T) -> Option<()>;

    /// Makes the frame `length` bytes long, keeping what it begins with; the rest is undefined.
    /// `None` where there is no room, and above [`RESIZABLE`]: of a frame in several buffers, it is
    /// the last one whose end the kernel moves.
    fn resize(&mut self, length: usize) -> Option<()>;
}

/// Copies the first bytes of a frame, two by two; behind its last pair, zeros follow.
#[inline(always)]
pub fn snapshot(frame: &impl Frame, into: &mut [u8; SNAPSHOT_BYTES]) {
    *into = [0; SNAPSHOT_BYTES];
    // Words first, and nothing more once the end is reached: each check is a fork of the ways
    // that the verifier follows.
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

/// A frame in ordinary memory: what tests, tools and the decoder of samples read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes<const CAPACITY: usize> {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl<const CAPACITY: usize> Bytes<CAPACITY> {
    /// The frame's bytes, or `None` where they do not fit.
    pub fn new(frame: &[u8]) -> Option<Self> {
        let mut bytes = [0; CAPACITY];
        bytes.get_mut(..frame.len())?.copy_from_slice(frame);
        Some(Self {
            bytes,
            length: frame.len(),
        })
    }

    /// The frame as it is now.
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
        // Bytes that the frame did not have are set to a pattern: a test that finds it in a reply
        // has found a byte that nobody wrote.
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

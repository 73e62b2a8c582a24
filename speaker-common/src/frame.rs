//! How the responder reads and writes a frame, in the kernel and on the host.

use core::mem::MaybeUninit;

use network_types::{arp::ArpHdr, eth::EthHdr, ip::Ipv6Hdr, vlan::VlanHdr};

use crate::wire::nd;

/// A header that any bytes make valid and that has no padding.
///
/// # Safety
///
/// Every bit pattern is a value of the type, it has no padding bytes, its size is even and its
/// alignment at most two.
pub unsafe trait Header: Copy {}

// SAFETY: `repr(C)` structs of byte arrays and `u16`s at even offsets, of even size.
unsafe impl Header for EthHdr {}
// SAFETY: as above.
unsafe impl Header for VlanHdr {}
// SAFETY: as above.
unsafe impl Header for ArpHdr {}
// SAFETY: as above.
unsafe impl Header for Ipv6Hdr {}
// SAFETY: as above.
unsafe impl Header for nd::Message {}
// SAFETY: as above.
unsafe impl Header for nd::LinkLayerOption {}
// SAFETY: an array of bytes, aligned to one; the four arrays used have an even size.
unsafe impl Header for [u8; 2] {}
// SAFETY: as above.
unsafe impl Header for [u8; 8] {}
// SAFETY: as above.
unsafe impl Header for [u8; 12] {}

/// A header as it lies in a frame, whose fields all start at even offsets: the alignment lets the
/// BPF back end load half-words where it would otherwise load single bytes.
#[repr(C, align(2))]
#[derive(Clone, Copy)]
pub struct Aligned<T>(pub T);

/// A frame that starts with its Ethernet header.
///
/// Every access is checked against the end of the frame; offsets are in bytes and even.
pub trait Frame {
    /// The header at `offset`, or `None` where the frame ends before it does.
    fn load<T: Header>(&self, offset: usize) -> Option<T>;

    /// Writes the header at `offset`; `None`, and nothing written, past the end.
    fn store<T: Header>(&mut self, offset: usize, header: T) -> Option<()>;

    /// Makes the frame `length` bytes long, keeping what it begins with; the rest is undefined.
    /// `None` where there is no room.
    fn resize(&mut self, length: usize) -> Option<()>;
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
    fn load<T: Header>(&self, offset: usize) -> Option<T> {
        let source = self
            .as_slice()
            .get(offset..offset.checked_add(size_of::<T>())?)?;
        let mut header = MaybeUninit::<T>::uninit();
        // SAFETY: `source` is `size_of::<T>()` bytes long, and any bytes make a `Header`.
        unsafe {
            core::ptr::copy_nonoverlapping(
                source.as_ptr(),
                header.as_mut_ptr().cast(),
                source.len(),
            );
            Some(header.assume_init())
        }
    }

    fn store<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        let end = offset.checked_add(size_of::<T>())?;
        let target = self.bytes[..self.length].get_mut(offset..end)?;
        // SAFETY: `target` is `size_of::<T>()` bytes long, and a `Header` has no padding.
        unsafe {
            core::ptr::copy_nonoverlapping(
                core::ptr::from_ref(&header).cast(),
                target.as_mut_ptr(),
                target.len(),
            );
        }
        Some(())
    }

    fn resize(&mut self, length: usize) -> Option<()> {
        // Bytes that the frame did not have are set to a pattern: a test that finds it in a reply
        // has found a byte that nobody wrote.
        const UNWRITTEN: u8 = 0xa5;
        self.bytes.get_mut(..length)?;
        if length > self.length {
            self.bytes[self.length..length].fill(UNWRITTEN);
        }
        self.length = length;
        Some(())
    }
}

//! The Internet checksum (RFC 1071), also over a pseudo-header (RFC 8200 §8.1, RFC 768).

use core::ops::Add;

use super::{UDP, nd};

/// A ones' complement sum in progress, over bytes in network order.
///
/// Words are added in memory order, two at a time: in either byte order the sum is the same except
/// for the order of its own bytes (RFC 1071 §2 B), and the carries of the upper half are folded in
/// at the end (§2 C).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum over the pseudo-header, without addresses, of an ICMPv6 message of `length` bytes.
    #[inline(always)]
    pub const fn icmpv6(length: u16) -> Self {
        Self::pseudo_header(nd::NEXT_HEADER, length)
    }

    /// The sum over the pseudo-header, without addresses, of a UDP datagram over IPv4 or IPv6.
    #[inline(always)]
    pub const fn udp(length: u16) -> Self {
        Self::pseudo_header(UDP, length)
    }

    #[inline(always)]
    const fn pseudo_header(next_header: u8, length: u16) -> Self {
        Self(length.to_be() as u64 + (next_header as u16).to_be() as u64)
    }

    /// The sum over `bytes`, whose number is a multiple of four.
    #[inline(always)]
    pub const fn of<const N: usize>(bytes: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(4), "the sum is over 32-bit words") };
        let (words, _) = bytes.as_chunks::<4>();
        let mut sum = 0;
        let mut at = 0;
        while at < words.len() {
            sum += u32::from_ne_bytes(words[at]) as u64;
            at += 1;
        }
        Self(sum)
    }

    /// The checksum to send, in network order. Of a received message, including its checksum, it is
    /// zero if the checksum is correct.
    #[inline(always)]
    pub const fn finish(self) -> [u8; 2] {
        // A message has fewer than 2^14 words of less than 2^32: three folds leave no carry.
        let folded = (self.0 & 0xffff) + (self.0 >> 16 & 0xffff) + (self.0 >> 32);
        let folded = (folded & 0xffff) + (folded >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        (!(folded as u16)).to_ne_bytes()
    }
}

impl Add for Sum {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1071_section_3_example() {
        let sum = Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish(), (!0xddf2_u16).to_be_bytes());
    }

    #[test]
    fn a_message_with_its_checksum_sums_to_zero() {
        let addresses = Sum::of(&[0xfe; 16]) + Sum::of(&[0x42; 16]);
        let body = *b"\x87\0\0\0abcd";
        let checksum = (Sum::icmpv6(8) + addresses + Sum::of(&body)).finish();
        let mut sent = body;
        sent[2..4].copy_from_slice(&checksum);
        let received = Sum::icmpv6(8) + addresses + Sum::of(&sent);
        assert_eq!(received.finish(), [0, 0]);
    }

    #[test]
    fn all_carries_are_folded_in() {
        let most = Sum::of(&[0xff; 1 << 10]);
        let mut sum = Sum::icmpv6(u16::MAX);
        for _ in 0..64 {
            sum = sum + most;
        }
        // Adding 0xffff changes nothing in ones' complement.
        assert_eq!(sum.finish(), Sum::icmpv6(u16::MAX).finish());
    }
}

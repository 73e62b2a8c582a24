//! The Internet checksum (RFC 1071) over an IPv6 pseudo-header (RFC 8200 §8.1).

/// A ones' complement sum in progress, over bytes in network order.
#[derive(Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Starts with the pseudo-header of an ICMPv6 message of `length` bytes.
    #[inline(always)]
    pub fn icmpv6(source: &[u8; 16], destination: &[u8; 16], length: u16) -> Self {
        const NEXT_HEADER_ICMPV6: u16 = 58;
        Self(u64::from(length.to_be()) + u64::from(NEXT_HEADER_ICMPV6.to_be()))
            .add(source)
            .add(destination)
    }

    /// Adds `bytes`, an even number of them.
    ///
    /// The words are added as they lie in memory: the sum is the same in either byte order, but
    /// for the order of its own bytes (RFC 1071 §2 B).
    #[inline(always)]
    #[must_use]
    pub fn add<const N: usize>(mut self, bytes: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(2), "the sum is over 16-bit words") };
        let mut at = 0;
        while at < N {
            self.0 += u64::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
            at += 2;
        }
        self
    }

    /// The checksum to send, in network order. Summing what arrived, checksum included, gives
    /// zero where it is right.
    #[inline(always)]
    pub fn finish(self) -> [u8; 2] {
        // A message has at most 2^15 words of 2^16 each: two folds leave no carry.
        let folded = (self.0 & 0xffff) + (self.0 >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        (!(folded as u16)).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1071_section_3_example() {
        let sum = Sum::default().add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish(), (!0xddf2_u16).to_be_bytes());
    }

    #[test]
    fn a_message_with_its_checksum_sums_to_zero() {
        let (source, destination) = ([0xfe; 16], [0x42; 16]);
        let body = *b"\x87\0\0\0abcd";
        let checksum = Sum::icmpv6(&source, &destination, 8).add(&body).finish();
        let mut sent = body;
        sent[2..4].copy_from_slice(&checksum);
        let received = Sum::icmpv6(&source, &destination, 8).add(&sent);
        assert_eq!(received.finish(), [0, 0]);
    }
}

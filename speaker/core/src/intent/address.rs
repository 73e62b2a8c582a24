//! Address ranges, as pools list them.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};
use serde::{Deserialize, Serialize};

/// Consecutive addresses of one family, both ends included.
///
/// The text is a CIDR prefix or `start-end`, with or without spaces around the ends. A prefix may
/// have host bits: `10.0.0.5/24` is `10.0.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither a CIDR prefix nor a range.
    #[error(
        "{0:?} is neither a CIDR prefix such as 10.0.0.0/24 nor a range such as 10.0.0.10-10.0.0.20"
    )]
    Format(String),
    /// A single address without a prefix length.
    #[error("{0} is a single address: write {0}/{len}", len = if .0.is_ipv4() { 32 } else { 128 })]
    NoPrefix(IpAddr),
    /// One end of a range is not an address.
    #[error("{text:?}, the {end} of the range, is not an IP address")]
    NotAnAddress {
        /// The text in its place.
        text: String,
        /// Which end: `start` or `end`.
        end: &'static str,
    },
    /// One end is IPv4, the other IPv6.
    #[error("{first} and {last} are of different families: write one range for each family")]
    Families {
        /// The start.
        first: IpAddr,
        /// The end.
        last: IpAddr,
    },
    /// The ends are the wrong way round.
    #[error("the start {first} is after the end {last}: swap them")]
    StartAfterEnd {
        /// The start.
        first: IpAddr,
        /// The end.
        last: IpAddr,
    },
    /// A prefix of IPv4 addresses in IPv6 notation, which no VIP is ever in.
    #[error("{0} is an IPv4-mapped IPv6 prefix: write the IPv4 prefix")]
    Mapped(IpNet),
}

impl AddressRange {
    /// The lowest address.
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address.
    pub const fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        // An IPv4 address orders before any IPv6 address: no need to compare families.
        self.first <= other.last && other.first <= self.last
    }
}

impl FromStr for AddressRange {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.split_once('-') {
            Some((first, last)) => range(address(first, "start")?, address(last, "end")?),
            None => prefix(text.trim()),
        }
    }
}

impl fmt::Display for AddressRange {
    /// As a CIDR prefix if the range is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut prefixes = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                IpSubnets::from(Ipv4Subnets::new(first, last, 0))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                IpSubnets::from(Ipv6Subnets::new(first, last, 0))
            }
            _ => unreachable!("the ends of a range are of one family"),
        };
        match (prefixes.next(), prefixes.next()) {
            (Some(prefix), None) => prefix.fmt(f),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

fn prefix(text: &str) -> Result<AddressRange, AddressError> {
    if let Ok(address) = text.parse() {
        return Err(AddressError::NoPrefix(address));
    }
    let prefix: IpNet = text
        .parse()
        .map_err(|_| AddressError::Format(text.to_owned()))?;
    if prefix.addr().to_canonical() != prefix.addr() {
        return Err(AddressError::Mapped(prefix));
    }
    Ok(AddressRange {
        first: prefix.network(),
        last: prefix.broadcast(),
    })
}

fn range(first: IpAddr, last: IpAddr) -> Result<AddressRange, AddressError> {
    if first.is_ipv4() != last.is_ipv4() {
        return Err(AddressError::Families { first, last });
    }
    if first > last {
        return Err(AddressError::StartAfterEnd { first, last });
    }
    Ok(AddressRange { first, last })
}

fn address(text: &str, end: &'static str) -> Result<IpAddr, AddressError> {
    let text = text.trim();
    let address: IpAddr = text.parse().map_err(|_| AddressError::NotAnAddress {
        text: text.to_owned(),
        end,
    })?;
    Ok(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let found = match text.parse::<AddressRange>() {
            Ok(range) => range.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expect, "{text:?}");
    }

    #[test]
    fn a_prefix_or_a_range_of_either_family() {
        check("10.0.0.0/24", "10.0.0.0/24");
        check(" 10.0.0.9/24 ", "10.0.0.0/24");
        check("10.0.0.7/32", "10.0.0.7/32");
        check("10.0.0.7-10.0.0.7", "10.0.0.7/32");
        check("10.0.0.0 - 10.0.0.255", "10.0.0.0/24");
        check("10.0.0.10-10.0.1.20", "10.0.0.10-10.0.1.20");
        check("fd00::/64", "fd00::/64");
        check("fd00::10-fd00::1f", "fd00::10/124");
        check("fd00::10-fd00::20", "fd00::10-fd00::20");
        check("::ffff:10.0.0.1-10.0.0.4", "10.0.0.1-10.0.0.4");
        check("0.0.0.0/0", "0.0.0.0/0");
        check("::/0", "::/0");
    }

    #[test]
    fn an_invalid_range_is_refused_with_the_remedy() {
        check(
            "lan",
            r#""lan" is neither a CIDR prefix such as 10.0.0.0/24 nor a range such as 10.0.0.10-10.0.0.20"#,
        );
        check(
            "10.0.0.0/33",
            r#""10.0.0.0/33" is neither a CIDR prefix such as 10.0.0.0/24 nor a range such as 10.0.0.10-10.0.0.20"#,
        );
        check(
            "10.0.0.1",
            "10.0.0.1 is a single address: write 10.0.0.1/32",
        );
        check("fd00::1", "fd00::1 is a single address: write fd00::1/128");
        check(
            "10.0.0.1-",
            r#""", the end of the range, is not an IP address"#,
        );
        check(
            "10.0.0.0/24-10.0.1.0/24",
            r#""10.0.0.0/24", the start of the range, is not an IP address"#,
        );
        check(
            "10.0.0.9-10.0.0.1",
            "the start 10.0.0.9 is after the end 10.0.0.1: swap them",
        );
        check(
            "10.0.0.1-fd00::1",
            "10.0.0.1 and fd00::1 are of different families: write one range for each family",
        );
        check(
            "::ffff:10.0.0.0/120",
            "::ffff:10.0.0.0/120 is an IPv4-mapped IPv6 prefix: write the IPv4 prefix",
        );
    }

    proptest! {
        #[test]
        fn a_range_survives_a_round_trip_through_text(first: u32, length in 0..5_000_u32) {
            let range = AddressRange {
                first: IpAddr::from(first.to_be_bytes()),
                last: IpAddr::from(first.saturating_add(length).to_be_bytes()),
            };
            prop_assert_eq!(range.to_string().parse(), Ok(range));
        }
    }
}

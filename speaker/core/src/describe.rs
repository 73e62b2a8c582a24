//! Frames as text, for people who know tcpdump.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use network_types::{arp::ArpHdr, eth::EthHdr, ip::Ipv6Hdr};
use speaker_common::{
    frame::Bytes,
    layout::{SNAPSHOT_BYTES, Vlan},
    respond,
    wire::{Mac, arp, ether_type, nd},
};
use zerocopy::FromBytes as _;

use crate::headers::load;

/// The content of a handled frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The Ethernet source.
    pub from: Mac,
    /// The VLAN tags.
    pub vlan: Vlan,
    /// The message.
    pub message: Message,
}

/// The message in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An ARP request.
    ArpRequest {
        /// The requested address.
        target: Ipv4Addr,
        /// The sender's address; unspecified in a probe.
        sender: Ipv4Addr,
        /// The sender's hardware address.
        mac: Mac,
    },
    /// An ARP reply.
    ArpReply {
        /// The sender's address.
        sender: Ipv4Addr,
        /// The sender's hardware address.
        mac: Mac,
    },
    /// A Neighbor Solicitation.
    Solicitation {
        /// The requested address.
        target: Ipv6Addr,
        /// The source; unspecified in duplicate address detection.
        source: Ipv6Addr,
    },
    /// A Neighbor Advertisement.
    Advertisement {
        /// The advertised address.
        target: Ipv6Addr,
        /// The destination.
        destination: Ipv6Addr,
        /// The link-layer address, if the first option holds it.
        mac: Option<Mac>,
    },
    /// Anything else, or a truncated frame.
    Other,
}

impl Description {
    /// Reads the first bytes of a frame. `None` if there is no complete Ethernet header.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let frame = &frame[..frame.len().min(SNAPSHOT_BYTES)];
        let ethernet: EthHdr = load(frame, 0)?;
        let (ether_type, at, vlan) = respond::payload(&Bytes::<SNAPSHOT_BYTES>::new(frame)?)?;
        let message = match ether_type {
            ether_type::ARP => arp_message(frame, at),
            ether_type::IPV6 => nd_message(frame, at),
            _ => None,
        };
        Some(Self {
            from: ethernet.src_addr,
            vlan,
            message: message.unwrap_or(Message::Other),
        })
    }
}

impl Description {
    /// The address that the sender claims, and the MAC it claims it for.
    pub fn claim(&self) -> Option<(IpAddr, Mac)> {
        match self.message {
            Message::ArpRequest { sender, mac, .. } | Message::ArpReply { sender, mac } => {
                Some((sender.into(), mac))
            }
            // Duplicate address detection, or a host that asks from the address itself. Any other
            // solicitation asks for another host's address.
            Message::Solicitation { target, source } => {
                let claims = source.is_unspecified() || source == target;
                claims.then(|| (target.into(), self.from))
            }
            Message::Advertisement { target, mac, .. } => {
                Some((target.into(), mac.unwrap_or(self.from)))
            }
            Message::Other => None,
        }
    }
}

fn arp_message(frame: &[u8], at: usize) -> Option<Message> {
    let header: ArpHdr = load(frame, at)?;
    match *frame.get(at..)?.first_chunk()? {
        arp::HEAD_REQUEST => Some(Message::ArpRequest {
            target: header.tpa.into(),
            sender: header.spa.into(),
            mac: header.sha,
        }),
        arp::HEAD_REPLY => Some(Message::ArpReply {
            sender: header.spa.into(),
            mac: header.sha,
        }),
        _ => None,
    }
}

fn nd_message(frame: &[u8], at: usize) -> Option<Message> {
    let ip: Ipv6Hdr = load(frame, at)?;
    let rest = frame.get(at + Ipv6Hdr::LEN..)?;
    let (message, options) = nd::Message::read_from_prefix(rest).ok()?;
    let target = message.target.into();
    match (ip.next_hdr, message.kind) {
        (nd::NEXT_HEADER, nd::SOLICITATION) => Some(Message::Solicitation {
            target,
            source: ip.src_addr.into(),
        }),
        (nd::NEXT_HEADER, nd::ADVERTISEMENT) => {
            let option = nd::LinkLayerOption::read_from_prefix(options).ok();
            Some(Message::Advertisement {
                target,
                destination: ip.dst_addr.into(),
                mac: option
                    .map(|(option, _)| option)
                    .filter(|option| option.kind == nd::OPTION_TARGET)
                    .map(|option| option.mac),
            })
        }
        _ => None,
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ArpRequest {
                target,
                sender,
                mac,
            } if sender.is_unspecified() => {
                write!(f, "ARP probe for {target} by {}", mac_text(mac))
            }
            Self::ArpRequest {
                target,
                sender,
                mac,
            } if sender == target => {
                write!(f, "ARP announcement {sender} is-at {}", mac_text(mac))
            }
            Self::ArpRequest {
                target,
                sender,
                mac,
            } => write!(f, "ARP who-has {target} tell {sender} ({})", mac_text(mac)),
            Self::ArpReply { sender, mac } => {
                write!(f, "ARP reply {sender} is-at {}", mac_text(mac))
            }
            Self::Solicitation { target, source } if source.is_unspecified() => {
                write!(f, "DAD probe for {target}")
            }
            Self::Solicitation { target, source } => {
                write!(f, "NS who-has {target} tell {source}")
            }
            Self::Advertisement {
                target,
                destination,
                mac,
            } => {
                write!(f, "NA {target}")?;
                if let Some(mac) = mac {
                    write!(f, " is-at {}", mac_text(mac))?;
                }
                write!(f, " to {destination}")
            }
            Self::Other => f.write_str("other"),
        }
    }
}

/// A MAC as text: six pairs of hexadecimal digits, separated by colons.
pub fn mac_text(mac: &Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use speaker_common::testing;

    use super::*;

    fn check(frame: &str, expect: &str) {
        let bytes: Vec<u8> = frame
            .split_ascii_whitespace()
            .flat_map(|word| (0..word.len()).step_by(2).map(move |at| &word[at..at + 2]))
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect();
        let description = Description::of(&bytes).unwrap();
        assert_eq!(description.message.to_string(), expect);
    }

    #[test]
    fn arp_in_words() {
        let head = "ffffffffffff 020000000001 0806 0001 0800 06 04";
        check(
            &format!("{head} 0001 020000000001 0a000009 000000000000 0a000005"),
            "ARP who-has 10.0.0.5 tell 10.0.0.9 (02:00:00:00:00:01)",
        );
        check(
            &format!("{head} 0001 020000000001 00000000 000000000000 0a000005"),
            "ARP probe for 10.0.0.5 by 02:00:00:00:00:01",
        );
        check(
            &format!("{head} 0001 020000000001 0a000005 000000000000 0a000005"),
            "ARP announcement 10.0.0.5 is-at 02:00:00:00:00:01",
        );
        check(
            &format!("{head} 0002 020000000001 0a000005 020000000009 0a000009"),
            "ARP reply 10.0.0.5 is-at 02:00:00:00:00:01",
        );
    }

    #[test]
    fn neighbor_discovery_in_words_behind_a_tag() {
        let head = "3333ff000005 020000000001 8100 0064 86dd 60000000 0020 3a ff";
        let vip = "fd000000000000000000000000000005";
        let host = "fd000000000000000000000000000009";
        check(
            &format!("{head} {host} ff0200000000000000000001ff000005 87000000 00000000 {vip}"),
            "NS who-has fd00::5 tell fd00::9",
        );
        check(
            &format!("{head} {vip} {host} 88000000 60000000 {vip} 0201 020000000005"),
            "NA fd00::5 is-at 02:00:00:00:00:05 to fd00::9",
        );
    }

    /// What the program reports as a claim, the agent can name: the VIP and the claimant.
    #[test]
    fn every_claim_reported_by_the_program_is_understood() {
        let mut claims = Vec::new();
        macro_rules! run {
            ($($rule:ident,)+) => {$(
                let mut node = testing::Node::new();
                testing::rows::$rule(&mut node);
                claims.extend(node.claims());
            )+};
        }
        speaker_common::wire_rows!(run);
        assert!(claims.len() > 10, "{claims:?}");
        for event in claims {
            let frame = &event.frame[..SNAPSHOT_BYTES.min(usize::from(event.length))];
            let description = Description::of(frame).unwrap();
            assert!(description.claim().is_some(), "{description:?}");
        }
    }

    #[test]
    fn a_truncated_frame_is_other() {
        check("ffffffffffff 020000000001 0806 0001", "other");
    }
}

//! The reasons by which frames are counted: the index of the `reasons` map.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a frame that looked like a request was passed to the node's own kernel, or another
        /// reason to count it. The number is the index in the `reasons` map.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All reasons in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// A short text for people, and the label in the metric.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

reasons! {
    /// The frame arrived on a link that is not in `links`.
    UnknownLink = "unknown-link",
    /// Sent to another host's MAC, and seen through promiscuous mode.
    OtherHost = "other-host",
    /// The Ethernet source is a group address (IEEE 802.3 §3.2.3 forbids it).
    GroupSource = "group-source",
    /// The frame ends within the ARP header.
    ArpTruncated = "arp-truncated",
    /// Not the ARP of IPv4 over Ethernet: hardware type, protocol type or address length.
    ArpFormat = "arp-format",
    /// Neither a request nor a reply.
    ArpOperation = "arp-operation",
    /// Not IP version 6 (RFC 8200 §3).
    NdVersion = "nd-version",
    /// Hop limit other than 255: crossed a router (RFC 4861 §7.1.1).
    NdHopLimit = "nd-hop-limit",
    /// ICMPv6 code other than 0.
    NdCode = "nd-code",
    /// Shorter than 24 bytes, or longer than the frame.
    NdLength = "nd-length",
    /// More options than are read ([`MAX_OPTION_UNITS`](super::MAX_OPTION_UNITS)).
    NdTooLong = "nd-too-long",
    /// An option of length zero, one that runs past the end, or a link-layer address that is not
    /// six bytes long.
    NdOption = "nd-option",
    /// The target is a multicast address.
    NdTarget = "nd-target",
    /// The source is a multicast address; or it is unspecified, and there is a source link-layer
    /// address option, or the destination is no solicited-node group.
    NdSource = "nd-source",
    /// Extension headers before ICMPv6, left to the kernel.
    NdExtension = "nd-extension-header",
    /// The checksum is wrong.
    NdChecksum = "nd-checksum",
    /// The driver leaves no room for a reply that is longer than the request, or the request may
    /// lie in several buffers ([`RESIZABLE`](crate::frame::RESIZABLE)).
    NoRoom = "no-room",
    /// Answered, but the sender's hardware address in the message is not the Ethernet source.
    SenderDiffers = "sender-differs",
    /// A liveness probe, answered.
    ProbeAnswered = "probe-answered",
    /// A liveness probe that hands a time back, and has no reply.
    ProbeRenewed = "probe-renewed",
    /// A datagram at the port of probes and of their length, with a tag that no key makes: another
    /// cluster's probe, or none. Left to the agent's socket.
    ProbeForeign = "probe-foreign",
    /// An event was lost because the ring was full.
    EventLost = "event-lost",
}

impl Reason {
    /// The reason with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

//! Why a frame was not answered, and what else is counted: the index into the `reasons` map.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a frame that looked like a request was left to the node's own kernel, or what else
        /// is worth counting. The number is the index into the `reasons` map.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// A short text for people, and the label of the metric.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

reasons! {
    /// The frame came in on a link that the agent has not (or no longer) entered.
    UnknownLink = "unknown-link",
    /// Unicast to another host's MAC: seen through promiscuous mode.
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
    /// The target is a group.
    NdTarget = "nd-target",
    /// The source is a group, or unspecified with a source link-layer address option or with a
    /// destination other than a solicited-node group.
    NdSource = "nd-source",
    /// Extension headers before ICMPv6: left to the kernel.
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
    /// A liveness probe that hands a time back and wants no answer.
    ProbeRenewed = "probe-renewed",
    /// At the port of probes and as long as one, but with a tag that none of the keys gives: another
    /// cluster's, or no probe. Left to the agent's socket.
    ProbeForeign = "probe-foreign",
    /// The event ring was full: an event was lost.
    EventLost = "event-lost",
}

impl Reason {
    /// The reason with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

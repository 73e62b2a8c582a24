//! What `speaker watch` shows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::hex;

/// A line of the watch stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WatchLine {
    /// The program has handled a frame.
    Frame(FrameRecord),
    /// There were more frames than could be shown.
    Lost {
        /// How many were left out.
        lost: u64,
    },
}

/// A frame that the program has handled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrameRecord {
    /// The time, in nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The interface on which it arrived.
    pub interface: String,
    /// Its outcome.
    pub event: FrameEvent,
    /// The reason, if it was rejected.
    pub reason: Option<String>,
    /// The frame's length on the wire.
    pub length: u16,
    /// Its first bytes.
    #[serde(with = "hex")]
    pub frame: Vec<u8>,
}

/// The outcome of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameEvent {
    /// A request for a VIP, answered.
    Answered,
    /// A request for a VIP that another node owns, dropped.
    Suppressed,
    /// A request for a VIP, dropped because the lease was not valid.
    Refused,
    /// Not answered, for the reason in the record.
    Rejected,
    /// A reply that the program sent.
    Reply,
    /// Another MAC claims a VIP.
    Claimed,
    /// Another host probed whether a VIP is free, and was answered.
    Probed,
}

impl fmt::Display for FrameEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Answered => "answered",
            Self::Suppressed => "suppressed",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Reply => "reply",
            Self::Claimed => "claimed",
            Self::Probed => "probed",
        })
    }
}

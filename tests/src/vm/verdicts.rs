//! The rules of the wire, on the loaded program: all of them, by name.

use speaker_common::testing::rows;

use super::{ALL, Check, Subject};

macro_rules! checks {
    ($($rule:ident,)+) => {
        &[$(Check {
            name: concat!("rule ", stringify!($rule)),
            since: ALL,
            subject: Subject::Program(rows::$rule),
        }),+]
    };
}

/// A check for each rule.
pub(super) const RULES: &[Check] = speaker_common::wire_rows!(checks);

//! Rules of the wire, on the loaded program.

use std::panic::catch_unwind;

use anyhow::{Result, anyhow};
use speaker_common::testing::rows;

use crate::program::{Program, object};

pub(super) fn arp_request() -> Result<()> {
    holds(rows::arp_request_is_answered_unicast)
}

pub(super) fn neighbor_solicitation() -> Result<()> {
    holds(rows::ns_without_an_option_is_answered)
}

pub(super) fn duplicate_detection() -> Result<()> {
    holds(rows::ns_for_duplicate_detection_is_answered_to_all_nodes)
}

pub(super) fn somebody_else() -> Result<()> {
    holds(rows::arp_request_for_another_address_passes)
}

/// Whether a rule holds: it panics where it does not, and says why on standard error.
fn holds(rule: fn(&mut Program)) -> Result<()> {
    let mut program = Program::load(object::SPEAKER)?;
    catch_unwind(move || rule(&mut program)).map_err(|_| anyhow!("the rule does not hold"))
}

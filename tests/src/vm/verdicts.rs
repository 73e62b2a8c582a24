//! Rules of the wire, on the loaded program.

use anyhow::Result;
use speaker_common::testing::rows;

use crate::{
    lab::Lab,
    program::{Program, object},
};

pub(super) fn arp_request(_: &Lab) -> Result<()> {
    holds(rows::arp_request_is_answered_unicast)
}

pub(super) fn neighbor_solicitation(_: &Lab) -> Result<()> {
    holds(rows::ns_without_an_option_is_answered)
}

pub(super) fn duplicate_detection(_: &Lab) -> Result<()> {
    holds(rows::ns_for_duplicate_detection_is_answered_to_all_nodes)
}

pub(super) fn somebody_else(_: &Lab) -> Result<()> {
    holds(rows::arp_request_for_another_address_passes)
}

/// A rule panics where it does not hold.
fn holds(rule: fn(&mut Program)) -> Result<()> {
    rule(&mut Program::load(object::SPEAKER)?);
    Ok(())
}

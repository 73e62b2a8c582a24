//! All wire rules by name, on the loaded program.

use std::cell::RefCell;

use speaker_common::testing::rows;

use super::{ALL, Check, Subject};
use crate::program::{Program, object};

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

thread_local! {
    /// Loaded once: in a virtual machine, the verifier takes longer than all rules together.
    static PROGRAM: RefCell<Program> = RefCell::new(
        Program::load(object::SPEAKER).expect("the kernel takes the program"),
    );
}

/// Tests a rule, which panics if it does not hold, on the program with empty maps.
pub(super) fn holds(rule: fn(&mut Program)) {
    PROGRAM.with_borrow_mut(|program| {
        program.clear().expect("maps can be cleared");
        rule(program);
    });
}

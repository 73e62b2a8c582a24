//! The tests of `speaker` and `xtask`, which do not depend on the lab, include this file too.

use std::env;

/// Whether this runs in continuous integration, where lack of privilege is a failure.
pub(super) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false")
}

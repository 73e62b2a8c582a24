//! Releases of Linux.

use std::fmt;

use anyhow::{Context as _, Result};
use nix::sys::utsname::uname;

/// The first two numbers of a release, such as 5.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    /// That of the running kernel.
    pub fn running() -> Result<Self> {
        let uname = uname()?;
        let name = uname.release().to_string_lossy();
        Self::read(&name).with_context(|| format!("a kernel of release {name}"))
    }

    fn read(name: &str) -> Option<Self> {
        let mut numbers = name.split(|it: char| !it.is_ascii_digit());
        let mut next = || numbers.next()?.parse().ok();
        Some(Self(next()?, next()?))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor) = self;
        write!(f, "Linux {major}.{minor}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_number() {
        let debian = Release::read("5.10.0-32-cloud-amd64");
        assert_eq!(debian, Some(Release(5, 10)));
        assert_eq!(Release::read("7.3-rc1"), Some(Release(7, 3)));
        assert_eq!(Release::read("unknown"), None);
        assert!(Release(5, 10) > Release(5, 4));
    }
}

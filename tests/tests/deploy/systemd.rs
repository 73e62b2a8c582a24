//! The unit for hosts without Kubernetes.

use std::fs;

use anyhow::{Context as _, Result};

use crate::objects::repository;

const UNIT: &str = "deploy/systemd/speaker.service";

/// The value of a setting in a section of the unit.
fn values(section: &str, setting: &str) -> Result<Vec<String>> {
    let unit = fs::read_to_string(repository().join(UNIT)).context(UNIT)?;
    let head = format!("[{section}]");
    let lines = unit.lines().skip_while(|line| *line != head).skip(1);
    Ok(lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='))
        .map(str::to_owned)
        .collect())
}

/// What keeps an agent from starting, such as a missing address, may last longer than systemd's
/// patience.
#[test]
fn systemd_restarts_the_agent_however_often_it_fails() -> Result<()> {
    assert_eq!(values("Service", "Restart")?, ["always"]);
    assert_eq!(values("Unit", "StartLimitIntervalSec")?, ["0"]);
    Ok(())
}

#[test]
fn the_agent_starts_after_the_network_is_online() -> Result<()> {
    for setting in ["Wants", "After"] {
        assert_eq!(values("Unit", setting)?, ["network-online.target"]);
    }
    Ok(())
}

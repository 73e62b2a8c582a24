//! docs/compatibility.md promises nothing that no test shows.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use speaker_tests::lab::speaker_program;

use crate::objects::repository;

/// `file.rs::function`, between backticks.
fn tests_of(cell: &str) -> Vec<(&str, &str)> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|it| it.split_once("::"))
        .filter(|(file, _)| file.ends_with(".rs"))
        .collect()
}

#[test]
fn every_behaviour_has_a_test_that_exists() -> Result<()> {
    let text = fs::read_to_string(repository().join("docs/compatibility.md"))?;
    let mut sources: BTreeMap<&str, String> = BTreeMap::new();
    let mut rows = 0;
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let [behaviour, here, tests] = cells[..] else {
            anyhow::bail!("{row:?} has {} cells", cells.len());
        };
        if behaviour.trim() == "behaviour" {
            continue;
        }
        rows += 1;
        ensure!(!here.trim().is_empty(), "{behaviour}: what is done?");
        let tests = tests_of(tests);
        ensure!(!tests.is_empty(), "{behaviour}: no test");
        for (file, name) in tests {
            if !sources.contains_key(file) {
                let source = fs::read_to_string(repository().join(file));
                sources.insert(file, source.with_context(|| file.to_owned())?);
            }
            // The compiler refuses tests that are defined but not run.
            let is_there = sources[file].contains(&format!("fn {name}("));
            ensure!(is_there, "{behaviour}: {file} has no {name}");
        }
    }
    ensure!(rows > 60, "{rows} rows");
    Ok(())
}

#[test]
fn the_flags_of_metallb_are_there() -> Result<()> {
    let help = |command: &str| -> Result<String> {
        let program = speaker_program()?;
        let help = std::process::Command::new(program)
            .args([command, "--help"])
            .output()?;
        Ok(String::from_utf8(help.stdout)?)
    };
    let agent = [
        "--node-name",
        "METALLB_NODE_NAME",
        "--namespace",
        "--lb-class",
        "--ignore-exclude-lb",
        "--log-level",
    ];
    let controller = ["--namespace", "--lb-class", "--log-level"];
    for (command, names) in [("agent", &agent[..]), ("controller", &controller)] {
        let help = help(command)?;
        for name in names {
            ensure!(
                help.contains(name),
                "speaker {command} has no {name}: {help}"
            );
        }
    }
    Ok(())
}

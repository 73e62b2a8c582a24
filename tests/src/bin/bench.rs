//! Runs the benchmarks, prints a table, and writes JSON.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use speaker_tests::bench::{GROUPS, Report, Section};

#[derive(Parser)]
struct Options {
    /// Where to write the results as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only this group; may be given more than once.
    #[arg(long, value_parser = GROUPS.iter().map(|group| group.name).collect::<Vec<_>>())]
    group: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut report = Report::default();
    for group in GROUPS {
        if options.group.is_empty() || options.group.iter().any(|name| name == group.name) {
            report.groups.push(Section {
                name: group.name,
                title: group.title,
                rows: (group.run)()?,
            });
        }
    }
    print!("{report}");
    if let Some(path) = &options.out {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

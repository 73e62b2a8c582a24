//! Runs the benchmarks, prints a table, and writes JSON. Fails if a machine-independent limit is
//! broken.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use speaker_tests::bench::{GROUPS, Report, Section, Settings};

#[derive(Parser)]
struct Options {
    /// Where to write the results as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only this group; repeatable. `scale` and `soak` run only if named.
    #[arg(long, value_parser = GROUPS.iter().map(|group| group.name).collect::<Vec<_>>())]
    group: Vec<String>,
    /// How long the group `busy` goes on, such as `90s` or `1h`.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    busy: Duration,
    /// How long the group `soak` goes on, such as `90s` or `1h`.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    soak: Duration,
    /// How many Services the group `scale` has.
    #[arg(long, value_name = "COUNT", default_value_t = 5_000)]
    services: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let settings = Settings {
        busy: options.busy,
        soak: options.soak,
        services: options.services,
    };
    let mut report = Report::default();
    for group in GROUPS {
        let is_named = options.group.iter().any(|name| name == group.name);
        if is_named || options.group.is_empty() && !group.on_request {
            report.groups.push(Section {
                name: group.name,
                title: group.title,
                rows: (group.run)(&settings)?,
            });
        }
    }
    print!("{report}");
    if let Some(path) = &options.out {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    let broken: Vec<String> = report
        .broken()
        .map(|row| format!("{}: {:.1} {}", row.case, row.value, row.unit))
        .collect();
    ensure!(
        broken.is_empty(),
        "limits are broken (see the table):\n{}",
        broken.join("\n")
    );
    Ok(())
}

//! The checks of another kernel: `cargo xtask kernels` boots one and runs this in it.

use std::{env, os::unix::process::parent_id, process::ExitCode, time::Instant};

use anyhow::{Result, bail};
use speaker_tests::vm;

fn main() -> Result<ExitCode> {
    if parent_id() != 1 {
        bail!("the checks change the machine's network: run `cargo xtask kernels`");
    }
    let names: Vec<String> = env::args().skip(1).collect();
    let chosen = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));

    let (mut passed, mut failed) = (0, 0);
    for (name, check) in vm::checks() {
        if !chosen(name) {
            continue;
        }
        let start = Instant::now();
        let result = check();
        let seconds = start.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                passed += 1;
                println!("ok {name}, {seconds:.1} s");
            }
            Err(error) => {
                failed += 1;
                println!("FAILED {name}, {seconds:.1} s: {error:#}");
            }
        }
    }
    // The line that is looked for.
    println!("vm: {passed} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

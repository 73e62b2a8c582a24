//! The checks on another kernel: `cargo xtask kernels` boots one and runs this in it.

use std::{
    env,
    os::unix::process::parent_id,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use speaker_common::lease::INERT_AFTER_NS;
use speaker_tests::vm::{self, Check, Outcome, Release};

fn main() -> Result<ExitCode> {
    if parent_id() != 1 {
        bail!("the checks change the machine's network: run `cargo xtask kernels`");
    }
    let names: Vec<String> = env::args().skip(1).collect();
    let chosen = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));

    // Some rules depend on events long ago. This takes no time: the machine's clock skips it.
    thread::sleep(Duration::from_nanos(INERT_AFTER_NS));

    let running = Release::running()?;
    let (mut passed, mut failed) = (0, 0);
    for check in vm::checks() {
        let Check { name, since, .. } = check;
        if !chosen(name) {
            continue;
        }
        if running < *since {
            println!("left out {name}: it is for {since} and later");
            continue;
        }
        let start = Instant::now();
        let outcome = check.run();
        let seconds = start.elapsed().as_secs_f32();
        match outcome {
            Outcome::Held => {
                passed += 1;
                println!("ok {name}, {seconds:.1} s");
            }
            Outcome::Failed => {
                failed += 1;
                println!("FAILED {name}, {seconds:.1} s");
            }
            Outcome::LeftOut => println!("left out {name}: there is no Kubernetes"),
        }
    }
    // The line that the caller looks for.
    println!("vm: {passed} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

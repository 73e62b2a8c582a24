//! LoadBalancer addresses for bare-metal Kubernetes, answered in the network driver.

use std::process::ExitCode;

fn main() -> ExitCode {
    speaker::cli::run()
}

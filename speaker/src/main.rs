//! LoadBalancer addresses for bare-metal Kubernetes, answered in the network driver.

use std::process::ExitCode;

use speaker::cli::{self, note};

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("error: {error}"));
            for cause in error.chain().skip(1) {
                note(&format!("  because: {cause}"));
            }
            ExitCode::FAILURE
        }
    }
}

//! LoadBalancer addresses for bare-metal Kubernetes, answered in the network driver.

use std::process::ExitCode;

fn main() -> ExitCode {
    match speaker::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

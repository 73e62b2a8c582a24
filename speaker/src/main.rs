//! LoadBalancer addresses for bare-metal Kubernetes, answered in the network driver.

fn main() -> anyhow::Result<()> {
    speaker::cli::run()
}

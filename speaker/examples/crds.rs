//! Prints the definitions of the custom resources as a JSON list: `cargo xtask crds` keeps
//! deploy/ current with it.

use anyhow::Result;
use kube::CustomResourceExt as _;
use speaker::kubernetes::{ConfigurationState, IPAddressPool, L2Advertisement, ServiceL2Status};

fn main() -> Result<()> {
    let definitions = [
        ConfigurationState::crd(),
        IPAddressPool::crd(),
        L2Advertisement::crd(),
        ServiceL2Status::crd(),
    ];
    for definition in &definitions {
        println!("---");
        print!("{}", serde_saphyr::to_string(definition)?);
    }
    Ok(())
}

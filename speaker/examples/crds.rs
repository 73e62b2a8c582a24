//! Prints the definitions of the custom resources: a JSON object from file name to YAML.
//! `cargo xtask crds` makes files of it.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::{CustomResourceExt as _, ResourceExt as _};
use speaker::kubernetes::{ConfigurationState, IPAddressPool, L2Advertisement, ServiceL2Status};

fn main() -> Result<()> {
    let definitions = [
        ConfigurationState::crd(),
        IPAddressPool::crd(),
        L2Advertisement::crd(),
        ServiceL2Status::crd(),
    ];
    let mut files = BTreeMap::new();
    for definition in &definitions {
        let name = definition.name_any();
        files.insert(format!("{name}.yaml"), serde_saphyr::to_string(definition)?);
    }
    println!("{}", serde_json::to_string(&files)?);
    Ok(())
}

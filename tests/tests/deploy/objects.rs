//! Manifests as objects.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use speaker_tests::lab::{self, Missing};

/// Runs a test with the programs that read deploy/ as users' programs do; if they are missing, it
/// is skipped loudly.
pub(crate) fn test(body: impl FnOnce() -> Result<()>) {
    lab::conclude(body());
}

/// The repository.
pub(crate) fn repository() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.join("..")
}

/// The objects in a file of the repository.
pub(crate) fn read(path: &str) -> Result<Vec<Value>> {
    let path = repository().join(path);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    parse(&text)
}

/// What `kubectl apply -k` of a directory of the repository would apply.
pub(crate) fn kustomize(directory: impl AsRef<Path>) -> Result<Vec<Value>> {
    parse(&run(
        "kustomize",
        &["build".as_ref(), &repository().join(directory)],
    )?)
}

/// What `helm install speaker --namespace speaker-system` would apply, with these values.
pub(crate) fn chart(values: &Value) -> Result<Vec<Value>> {
    let chart = repository().join("deploy/chart/speaker");
    let values = values.to_string();
    parse(&run(
        "render-chart",
        &[
            chart.as_ref(),
            "speaker".as_ref(),
            "speaker-system".as_ref(),
            values.as_ref(),
        ],
    )?)
}

/// Objects by kind, namespace and name.
pub(crate) fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let text = |object: &Value, pointer| {
        let found = object.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let mut named = BTreeMap::new();
    for object in objects {
        let name = ["/kind", "/metadata/namespace", "/metadata/name"].map(|it| text(&object, it));
        let twice = named.insert(name.join(" "), object);
        assert!(twice.is_none(), "there are two of {name:?}");
    }
    named
}

/// Runs one of the programs that `cargo xtask test` provides, and returns its output.
pub(crate) fn run(program: &str, arguments: &[&Path]) -> Result<String> {
    let provided = env::var_os("SPEAKER_DEPLOY_TOOLS")
        .map(|tools| PathBuf::from(tools).join("usr/bin").join(program));
    let output = Command::new(provided.as_deref().unwrap_or(program.as_ref()))
        .args(arguments)
        .output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!(Missing::Program(program.to_owned()))
        }
        output => output.with_context(|| program.to_owned())?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{program} {arguments:?}: {}\n{said}", output.status);
    }
    String::from_utf8(output.stdout).context("its output")
}

fn parse(text: &str) -> Result<Vec<Value>> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(text)?;
    objects.retain(|it| !it.is_null());
    objects.iter_mut().for_each(round);
    Ok(objects)
}

/// Some programs write 100 for 100.0.
fn round(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|it| it.fract() == 0.0) {
                *value = Value::from(whole as i64);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(round),
        Value::Object(fields) => fields.values_mut().for_each(round),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

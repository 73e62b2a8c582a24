//! Interprets a container's manifest.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::text;

/// The environment of a container, variables and fields resolved.
pub(super) fn environment(container: &Value, pod: &Value) -> Result<Vec<(String, String)>> {
    let mut environment = Vec::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let value = match variable.get("valueFrom") {
            Some(from) => field(pod, text(&from["fieldRef"]["fieldPath"])?)?,
            None => expand(text(&variable["value"])?, &environment),
        };
        environment.push((text(&variable["name"])?.to_owned(), value));
    }
    Ok(environment)
}

/// The arguments of a container.
pub(super) fn arguments(
    container: &Value,
    environment: &[(String, String)],
) -> Result<Vec<String>> {
    let arguments = container["args"].as_array().into_iter().flatten();
    arguments
        .map(|it| Ok(expand(text(it)?, environment)))
        .collect()
}

/// A port of a container, by number or by name.
pub(super) fn port(container: &Value, port: &Value) -> Result<u16> {
    let number = match port {
        Value::String(name) => {
            let ports = container["ports"].as_array().context("no ports")?;
            let named = ports.iter().find(|it| it["name"] == **name);
            &named.with_context(|| format!("no port is called {name}"))?["containerPort"]
        }
        number => number,
    };
    let number = number.as_u64().context("no number of a port")?;
    Ok(number.try_into()?)
}

/// A field of the pod, in the words of the downward API.
fn field(pod: &Value, path: &str) -> Result<String> {
    let known = [
        "metadata.name",
        "metadata.namespace",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.podIP",
    ];
    if !known.contains(&path) {
        bail!("no field {path:?} can be had");
    }
    let pointer = format!("/{}", path.replace('.', "/"));
    Ok(text(pod.pointer(&pointer).unwrap_or(&Value::Null))?.to_owned())
}

/// Resolves `$(NAME)` for variables defined before; others stay as they are.
fn expand(text: &str, environment: &[(String, String)]) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded += before;
        let reference = after.strip_prefix('(').and_then(|it| it.split_once(')'));
        let known = reference.and_then(|(name, after)| {
            let mut defined = environment.iter().rev();
            let (_, value) = defined.find(|(known, _)| known == name)?;
            Some((value, after))
        });
        match known {
            Some((value, after)) => {
                expanded += value;
                rest = after;
            }
            None => {
                expanded.push('$');
                rest = after.strip_prefix('$').unwrap_or(after);
            }
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_must_be_defined_before_use() {
        let environment = [("IP".to_owned(), "fd00::1".to_owned())];
        let check = |text: &str, expect: &str| assert_eq!(expand(text, &environment), expect);
        check("[$(IP)]:7472", "[fd00::1]:7472");
        check("$(IP)$(IP)", "fd00::1fd00::1");
        check("$(OTHER)", "$(OTHER)");
        check("$$(IP)", "$(IP)");
        check("a $ b $(IP", "a $ b $(IP");
    }

    #[test]
    fn ports_have_numbers_or_names() {
        let container = json!({ "ports": [{ "name": "http", "containerPort": 7472 }] });
        assert_eq!(port(&container, &json!("http")).unwrap(), 7472);
        assert_eq!(port(&container, &json!(99)).unwrap(), 99);
        assert!(port(&container, &json!("https")).is_err());
    }
}

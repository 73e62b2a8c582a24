//! Alerts and dashboard.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::objects::{read, repository, run, test};

const TESTS: &str = "deploy/monitoring/alerts_test.yaml";

#[test]
fn alerts_fire_when_they_should() {
    test(|| {
        let directory = tempfile::tempdir()?;
        // JSON is YAML.
        let rules = directory.path().join("alerts.rules.yaml");
        fs::write(&rules, alerts()?.to_string())?;
        let tests = directory.path().join("alerts_test.yaml");
        fs::copy(repository().join(TESTS), &tests)?;
        run("promtool", &["check".as_ref(), "rules".as_ref(), &rules])?;
        run("promtool", &["test".as_ref(), "rules".as_ref(), &tests])?;
        Ok(())
    });
}

#[test]
fn each_alert_is_tested() -> Result<()> {
    let tests = read(TESTS)?[0].to_string();
    let groups = alerts()?;
    let rules = groups["groups"][0]["rules"]
        .as_array()
        .context("no rules")?;
    assert!(!rules.is_empty());
    for rule in rules {
        let name = rule["alert"].as_str().context("no name")?;
        let labels = format!(r#""alertname":"{name}""#);
        assert!(tests.contains(&labels), "{name} is not tested in {TESTS}");
    }
    Ok(())
}

/// For a Prometheus without the operator.
fn alerts() -> Result<Value> {
    let objects = read("deploy/monitoring/alerts.yaml")?;
    Ok(objects[0]["spec"].clone())
}

/// The programs' own tests check that they expose what it asks for.
#[test]
fn each_panel_of_the_dashboard_asks_for_something_and_fits_in() -> Result<()> {
    let text = fs::read_to_string(repository().join("deploy/monitoring/dashboard.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    assert!(!panels.is_empty());
    for panel in panels {
        let name = &panel["title"];
        let targets = panel["targets"].as_array().context("no queries")?;
        assert!(!targets.is_empty(), "{name}");
        assert!(targets.iter().all(|it| it["expr"].is_string()), "{name}");
        let place = &panel["gridPos"];
        assert!(
            place["x"].as_u64() < Some(24) && place["w"].as_u64() <= Some(24),
            "{name}"
        );
    }
    Ok(())
}

//! Saying whether the configuration is accepted.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client, Resource as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::MANAGER;
use crate::kubernetes::{
    Condition, ConditionStatus, ConfigurationResult, ConfigurationState, ConfigurationStateStatus,
};

/// The `ConfigurationState` of an agent, or of the controllers.
pub(crate) struct State {
    states: Api<ConfigurationState>,
    name: String,
    labels: BTreeMap<&'static str, String>,
    /// MetalLB's name for what reads the configuration.
    condition: &'static str,
}

impl State {
    /// The one of a node's agent.
    pub(super) fn of_agent(client: Client, namespace: &str, node: &str) -> Self {
        Self {
            states: Api::namespaced(client, namespace),
            name: format!("speaker-{node}"),
            labels: BTreeMap::from([
                (ConfigurationState::COMPONENT_LABEL, "speaker".to_owned()),
                (ConfigurationState::NODE_LABEL, node.to_owned()),
            ]),
            condition: "configReconcilerValid",
        }
    }

    /// The one of all controllers: whoever leads writes it.
    pub(crate) fn of_controller(client: Client, namespace: &str) -> Self {
        let component = "controller".to_owned();
        Self {
            states: Api::namespaced(client, namespace),
            name: component.clone(),
            labels: BTreeMap::from([(ConfigurationState::COMPONENT_LABEL, component)]),
            condition: "poolReconcilerValid",
        }
    }

    /// Says what of the configuration is refused.
    ///
    /// # Errors
    ///
    /// The API server cannot be reached, or refuses it.
    pub(crate) async fn write(&self, refused: &[String]) -> Result<()> {
        let object = json!({
            "apiVersion": ConfigurationState::api_version(&()),
            "kind": ConfigurationState::kind(&()),
            "metadata": { "name": self.name, "labels": self.labels },
        });
        let apply = PatchParams::apply(MANAGER).force();
        let written = self
            .states
            .patch(&self.name, &apply, &Patch::Apply(object))
            .await?;
        let said = written.status.unwrap_or_default();
        let status = status(self.condition, refused, &said, Timestamp::now());
        if status == said {
            return Ok(());
        }
        let ConfigurationStateStatus {
            result,
            error_summary,
            conditions,
        } = status;
        // Absent rather than empty: the merge takes it out where it was there.
        let error_summary = Some(error_summary).filter(|it| !it.is_empty());
        let patch = Patch::Merge(json!({ "status": {
            "result": result,
            "errorSummary": error_summary,
            "conditions": conditions,
        }}));
        self.states
            .patch_status(&self.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }
}

/// What is to be said after this has been said.
fn status(
    condition: &str,
    refused: &[String],
    said: &ConfigurationStateStatus,
    now: Timestamp,
) -> ConfigurationStateStatus {
    let (result, status, reason) = if refused.is_empty() {
        (ConfigurationResult::Valid, ConditionStatus::True, "Valid")
    } else {
        let invalid = ConfigurationResult::Invalid;
        (invalid, ConditionStatus::False, "Invalid")
    };
    let error_summary = refused.join("\n");
    let before = said.conditions.iter().find(|it| it.r#type == condition);
    let last_transition_time = match before {
        Some(before) if before.status == status => before.last_transition_time.clone(),
        // The API knows whole seconds.
        _ => Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
    };
    let condition = Condition {
        r#type: condition.to_owned(),
        status,
        observed_generation: None,
        last_transition_time,
        reason: reason.to_owned(),
        message: match refused.is_empty() {
            true => "all of it is in force".to_owned(),
            false => error_summary.clone(),
        },
    };
    ConfigurationStateStatus {
        result,
        error_summary,
        conditions: vec![condition],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_verdict_has_the_time_since_when_it_holds() {
        let refused = |text: &str| vec![text.to_owned()];
        let nothing = ConfigurationStateStatus::default();
        let valid = status("valid", &[], &nothing, at(1));
        assert_eq!(valid.result, ConfigurationResult::Valid);
        assert_eq!(valid.error_summary, "");
        assert_eq!(status("valid", &[], &valid, at(2)), valid);

        let invalid = status("valid", &refused("overlaps"), &valid, at(3));
        assert_eq!(invalid.result, ConfigurationResult::Invalid);
        assert_eq!(invalid.conditions[0].last_transition_time, Time(at(3)));
        let other = status("valid", &refused("no addresses"), &invalid, at(4));
        assert_eq!(other.error_summary, "no addresses");
        assert_eq!(other.conditions[0].message, "no addresses");
        assert_eq!(other.conditions[0].last_transition_time, Time(at(3)));
        let healed = status("valid", &[], &other, at(5));
        assert_eq!(healed.conditions[0].last_transition_time, Time(at(5)));
        assert_eq!(healed.error_summary, "");
    }
}

//! Reporting whether the configuration is accepted.

use std::collections::BTreeMap;

use anyhow::Result;
use futures::{Stream, StreamExt as _};
use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{MANAGER, names::node_label};
use crate::kubernetes::{
    Condition, ConditionStatus, ConfigurationResult, ConfigurationState, ConfigurationStateStatus,
    watch,
};

/// The longest message of a condition, by the API's conventions.
const LONGEST_MESSAGE: usize = 32_768;

/// A verdict on the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Judgement {
    /// What is refused, one line for each; empty if nothing is.
    pub refused: String,
    /// The uid of the reporting node, with which the report goes.
    pub node: Option<String>,
}

impl Judgement {
    /// The verdict that only this is refused.
    pub(crate) fn new(refused: impl IntoIterator<Item = String>, node: Option<String>) -> Self {
        let refused: Vec<_> = refused.into_iter().collect();
        Self {
            refused: refused.join("\n"),
            node,
        }
    }
}

/// What a `ConfigurationState` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Said {
    /// Not read yet.
    #[default]
    Unknown,
    /// Nothing, or something that no agent or controller of ours wrote.
    Nothing,
    /// This verdict, as written here.
    This(Judgement),
    /// It is MetalLB's, which would undo every change: it is left alone until the pod that owns it
    /// is gone.
    Foreign,
}

impl Said {
    /// Whether this must be written.
    pub(crate) fn lacks(&self, judgement: &Judgement) -> bool {
        match self {
            Self::Nothing => true,
            Self::This(said) => said != judgement,
            Self::Unknown | Self::Foreign => false,
        }
    }
}

/// The `ConfigurationState` of an agent, or of the controllers.
pub(crate) struct State {
    states: Api<ConfigurationState>,
    name: String,
    /// The node that owns it.
    node: Option<String>,
    labels: BTreeMap<&'static str, String>,
    /// MetalLB's name for the part that reads the configuration.
    condition: &'static str,
}

impl State {
    /// The one of a node's agent.
    pub(super) fn of_agent(client: Client, namespace: &str, node: &str) -> Self {
        Self {
            states: Api::namespaced(client, namespace),
            name: format!("speaker-{node}"),
            node: Some(node.to_owned()),
            labels: BTreeMap::from([
                (ConfigurationState::COMPONENT_LABEL, "speaker".to_owned()),
                (ConfigurationState::NODE_LABEL, node_label(node)),
            ]),
            condition: "configReconcilerValid",
        }
    }

    /// The one of all controllers, written by the leader.
    pub(crate) fn of_controller(client: Client, namespace: &str) -> Self {
        let component = "controller".to_owned();
        Self {
            states: Api::namespaced(client, namespace),
            name: component.clone(),
            node: None,
            labels: BTreeMap::from([(ConfigurationState::COMPONENT_LABEL, component)]),
            condition: "poolReconcilerValid",
        }
    }

    /// Its content, whenever that changes.
    pub(crate) fn watch(&self) -> impl Stream<Item = Said> + Send + use<> {
        let until_then = "nobody is told whether the configuration is accepted";
        let (labels, condition) = (self.labels.clone(), self.condition);
        let states = watch::object(self.states.clone(), &self.name, until_then);
        states.map(move |state| match state {
            Some(state) => said(&state, &labels, condition),
            None => Said::Nothing,
        })
    }

    /// Writes a verdict.
    ///
    /// # Errors
    ///
    /// The API server cannot be reached, or refuses it.
    pub(crate) async fn write(&self, judgement: &Judgement) -> Result<()> {
        let owners = self.owners(judgement);
        let object = json!({
            "apiVersion": ConfigurationState::api_version(&()),
            "kind": ConfigurationState::kind(&()),
            "metadata": {
                "name": self.name,
                "labels": self.labels,
                "ownerReferences": owners,
            },
        });
        let apply = PatchParams::apply(MANAGER).force();
        let written = self
            .states
            .patch(&self.name, &apply, &Patch::Apply(object))
            .await?;
        if written.owner_references() != owners {
            // The owner is an earlier node of this name, which the apply does not replace.
            let patch = Patch::Merge(json!({ "metadata": { "ownerReferences": owners } }));
            self.states
                .patch(&self.name, &PatchParams::default(), &patch)
                .await?;
        }
        let said = written.status.unwrap_or_default();
        let status = status(self.condition, &judgement.refused, &said, Timestamp::now());
        if status == said {
            return Ok(());
        }
        let ConfigurationStateStatus {
            result,
            error_summary,
            conditions,
        } = status;
        // Null, so that the merge removes it.
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

    fn owners(&self, judgement: &Judgement) -> Vec<OwnerReference> {
        let owner = self.node.as_ref().zip(judgement.node.as_ref());
        let owner = owner.map(|(name, uid)| OwnerReference {
            api_version: Node::api_version(&()).into_owned(),
            kind: Node::kind(&()).into_owned(),
            name: name.clone(),
            uid: uid.clone(),
            ..OwnerReference::default()
        });
        owner.into_iter().collect()
    }
}

fn said(
    object: &ConfigurationState,
    labels: &BTreeMap<&'static str, String>,
    condition: &str,
) -> Said {
    let owners = object.owner_references();
    if owners.iter().any(|owner| owner.kind != Node::kind(&())) {
        return Said::Foreign;
    }
    let said = object.status.clone().unwrap_or_default();
    let refused = &said.error_summary;
    let is_ours = labels
        .iter()
        .all(|(key, value)| object.labels().get(*key) == Some(value))
        && owners.len() <= 1
        && status(condition, refused, &said, Timestamp::UNIX_EPOCH) == said;
    if !is_ours {
        return Said::Nothing;
    }
    Said::This(Judgement {
        refused: refused.clone(),
        node: owners.first().map(|owner| owner.uid.clone()),
    })
}

/// The report that follows this one.
fn status(
    condition: &str,
    refused: &str,
    said: &ConfigurationStateStatus,
    now: Timestamp,
) -> ConfigurationStateStatus {
    let (result, status, reason) = if refused.is_empty() {
        (ConfigurationResult::Valid, ConditionStatus::True, "Valid")
    } else {
        let invalid = ConfigurationResult::Invalid;
        (invalid, ConditionStatus::False, "Invalid")
    };
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
            true => "the whole configuration is in force".to_owned(),
            false => refused[..refused.floor_char_boundary(LONGEST_MESSAGE)].to_owned(),
        },
    };
    ConfigurationStateStatus {
        result,
        error_summary: refused.to_owned(),
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
    fn a_verdict_has_the_time_of_its_last_change() {
        let nothing = ConfigurationStateStatus::default();
        let valid = status("valid", "", &nothing, at(1));
        assert_eq!(valid.result, ConfigurationResult::Valid);
        assert_eq!(valid.error_summary, "");
        assert_eq!(status("valid", "", &valid, at(2)), valid);

        let invalid = status("valid", "overlaps", &valid, at(3));
        assert_eq!(invalid.result, ConfigurationResult::Invalid);
        assert_eq!(invalid.conditions[0].last_transition_time, Time(at(3)));
        let other = status("valid", "no addresses", &invalid, at(4));
        assert_eq!(other.error_summary, "no addresses");
        assert_eq!(other.conditions[0].message, "no addresses");
        assert_eq!(other.conditions[0].last_transition_time, Time(at(3)));
        let healed = status("valid", "", &other, at(5));
        assert_eq!(healed.conditions[0].last_transition_time, Time(at(5)));
        assert_eq!(healed.error_summary, "");
    }

    #[test]
    fn a_condition_tells_no_more_than_fits() {
        let refused = "x".to_owned() + &"ü".repeat(LONGEST_MESSAGE);
        let invalid = status("valid", &refused, &Default::default(), at(1));
        assert_eq!(invalid.conditions[0].message.len(), LONGEST_MESSAGE - 1);
        assert_eq!(invalid.error_summary, refused);
    }

    /// The content of an object that was written here and then changed.
    #[track_caller]
    fn check(change: fn(&mut ConfigurationState), expect: &Said) {
        let labels = BTreeMap::from([("component", "speaker".to_owned())]);
        let mut object = ConfigurationState::new("speaker-n1", Default::default());
        let of = labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.clone()));
        object.metadata.labels = Some(of.collect());
        object.metadata.owner_references = Some(vec![owner("Node", "u-1")]);
        let nothing = ConfigurationStateStatus::default();
        object.status = Some(status("valid", "overlaps", &nothing, at(1)));
        change(&mut object);
        assert_eq!(said(&object, &labels, "valid"), *expect);
    }

    fn owner(kind: &str, uid: &str) -> OwnerReference {
        OwnerReference {
            kind: kind.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }
    }

    #[test]
    fn foreign_changes_are_undone_except_metallbs() {
        let this = Judgement {
            refused: "overlaps".to_owned(),
            node: Some("u-1".to_owned()),
        };
        check(|_| {}, &Said::This(this));
        check(|it| it.status = None, &Said::Nothing);
        check(|it| it.metadata.labels = None, &Said::Nothing);
        let result = |it: &mut ConfigurationState| {
            it.status.as_mut().unwrap().result = ConfigurationResult::Valid;
        };
        check(result, &Said::Nothing);
        let pod = |it: &mut ConfigurationState| {
            it.owner_references_mut().push(owner("Pod", "u-2"));
        };
        check(pod, &Said::Foreign);
        let two_nodes = |it: &mut ConfigurationState| {
            it.owner_references_mut().push(owner("Node", "u-2"));
        };
        check(two_nodes, &Said::Nothing);
    }
}

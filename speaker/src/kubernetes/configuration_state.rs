//! `ConfigurationState`, metallb.io/v1beta1.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands beside the metadata of a `ConfigurationState`: only its status.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "ConfigurationState",
    namespaced,
    no_spec,
    status = "ConfigurationStateStatus",
    derive = "PartialEq",
    doc = "Says whether the controller, or the agent of a node, accepts the configuration.",
    printcolumn = r#"{"name": "Result", "type": "string", "jsonPath": ".status.result"}"#,
    printcolumn = r#"{"name": "ErrorSummary", "type": "string", "jsonPath": ".status.errorSummary"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
pub struct ConfigurationStateBody {}

/// Whether the configuration is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationStateStatus {
    /// Whether all of it is valid. Where it is not, the last valid one stays in force.
    #[serde(default)]
    pub result: ConfigurationResult,
    /// What is wrong, for people to read; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error_summary: String,
    /// The result of each part that reads configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
}

/// What became of a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConfigurationResult {
    /// It is in force.
    Valid,
    /// It is refused.
    Invalid,
    /// Nobody has looked at it yet.
    #[default]
    Unknown,
}

// Not the type of k8s-openapi, for the same reason as the selector's.

/// One aspect of an object's state, as the API's conventions have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect, in CamelCase.
    pub r#type: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The object's generation that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status changed last.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub last_transition_time: Time,
    /// Why it changed, in one word for programs.
    #[schemars(length(min = 1))]
    pub reason: String,
    /// Why it changed, for people; may be empty.
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl ConfigurationState {
    /// The label that says whose state it is: `controller` or `speaker`.
    pub const COMPONENT_LABEL: &str = "metallb.io/component-type";
    /// The label with the name of a speaker's node.
    pub const NODE_LABEL: &str = "metallb.io/node-name";
}

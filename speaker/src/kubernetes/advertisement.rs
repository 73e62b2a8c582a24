//! `L2Advertisement`, metallb.io/v1beta1.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LabelSelector;

/// What stands beside the metadata of an `L2Advertisement`.
///
/// The most common one, which announces all pools everywhere, has no `spec` at all. kube's own
/// `spec` can not be absent, so this takes its place.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "L2Advertisement",
    namespaced,
    no_spec,
    status = "L2AdvertisementStatus",
    derive = "PartialEq",
    doc = "Announces the addresses of pools on layer 2.",
    printcolumn = r#"{"name": "IPAddressPools", "type": "string", "jsonPath": ".spec.ipAddressPools"}"#,
    printcolumn = r#"{"name": "IPAddressPool Selectors", "type": "string", "jsonPath": ".spec.ipAddressPoolSelectors"}"#,
    printcolumn = r#"{"name": "Interfaces", "type": "string", "jsonPath": ".spec.interfaces"}"#,
    printcolumn = r#"{"name": "Node Selectors", "type": "string", "jsonPath": ".spec.nodeSelectors", "priority": 10}"#
)]
pub struct L2AdvertisementBody {
    /// What is announced where.
    #[serde(default, skip_serializing_if = "L2AdvertisementSpec::is_empty")]
    pub spec: L2AdvertisementSpec,
}

/// What is announced where. Left empty: all pools, by all nodes, on all interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct L2AdvertisementSpec {
    /// Pools whose addresses are announced, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pools: Vec<String>,
    /// Pools whose addresses are announced, by labels, in addition to the named ones. With none
    /// named or selected, those of all pools are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that may announce: those that any of these selects; all where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,
    /// Interfaces that are announced on, by name; all where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// Services whose addresses are announced: those that any of these selects; all where there
    /// are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,
    /// Nodes that should rather announce than others: the weights of all that select a node add up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_node_selectors: Vec<PreferredNodeSelector>,
}

impl L2AdvertisementSpec {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A preference for some nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreferredNodeSelector {
    /// How much they are preferred, from 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    /// Which nodes.
    pub preference: LabelSelector,
}

/// Nothing is told about an `L2Advertisement`; who announces is told of each Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct L2AdvertisementStatus {}

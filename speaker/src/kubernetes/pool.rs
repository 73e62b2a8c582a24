//! `IPAddressPool`, metallb.io/v1beta1.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LabelSelector;

/// Addresses for Services, and which Services may have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "IPAddressPool",
    namespaced,
    status = "IPAddressPoolStatus",
    derive = "PartialEq",
    doc = "A pool of IP addresses that Services of type LoadBalancer are given addresses from.",
    printcolumn = r#"{"name": "Auto Assign", "type": "boolean", "jsonPath": ".spec.autoAssign"}"#,
    printcolumn = r#"{"name": "Avoid Buggy IPs", "type": "boolean", "jsonPath": ".spec.avoidBuggyIPs"}"#,
    printcolumn = r#"{"name": "Addresses", "type": "string", "jsonPath": ".spec.addresses"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolSpec {
    /// The addresses, as CIDR prefixes (10.0.0.0/24) or ranges (10.0.0.10-10.0.0.20) of either
    /// family. No address may be in two pools.
    pub addresses: Vec<String>,
    /// Whether Services that do not ask for this pool may get addresses from it.
    #[serde(default = "yes")]
    pub auto_assign: bool,
    /// Whether to leave out IPv4 addresses that end in .0 or .255, which some old devices drop.
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,
    /// The Services that this pool is for. They get addresses from it before pools without such a
    /// rule are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,
}

/// The Services that a pool is for. If nothing is listed or selected, it is for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAllocation {
    /// Of several pools for a Service, the one with the lowest number is used first. 0 means no
    /// priority, and comes last.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i64,
    /// Namespaces whose Services the pool is for, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Namespaces whose Services the pool is for, by labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services that the pool is for, by labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,
}

/// How much of a pool is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// Pools that have not been counted yet have an empty status.
#[serde(default)]
pub struct IPAddressPoolStatus {
    /// IPv4 addresses in use.
    #[serde(rename = "assignedIPv4")]
    pub assigned_ipv4: i64,
    /// IPv6 addresses in use.
    #[serde(rename = "assignedIPv6")]
    pub assigned_ipv6: i64,
    /// Free IPv4 addresses.
    #[serde(rename = "availableIPv4")]
    pub available_ipv4: i64,
    /// Free IPv6 addresses.
    #[serde(rename = "availableIPv6")]
    pub available_ipv6: i64,
}

const fn yes() -> bool {
    true
}

const fn is_zero(number: &i64) -> bool {
    *number == 0
}

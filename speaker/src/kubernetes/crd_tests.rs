//! The definitions for the API server.

use expect_test::{Expect, expect};
use kube::CustomResourceExt;
use serde_json::Value;

use super::{ConfigurationState, IPAddressPool, L2Advertisement, ServiceL2Status};

/// Names and columns, then one line for each field: its type, and whether it is required.
#[track_caller]
fn check<T: CustomResourceExt>(expect: Expect) {
    let crd = serde_json::to_value(T::crd()).unwrap();
    let version = &crd["spec"]["versions"][0];
    let mut lines = vec![format!(
        "{} {} {}, status {}",
        crd["metadata"]["name"], version["name"], crd["spec"]["scope"], version["subresources"]
    )];
    for column in version["additionalPrinterColumns"].as_array().unwrap() {
        let priority = column
            .get("priority")
            .map(|it| format!(" {it}"))
            .unwrap_or_default();
        lines.push(format!(
            "column {} {} {}{priority}",
            column["name"], column["type"], column["jsonPath"]
        ));
    }
    fields("", &version["schema"]["openAPIV3Schema"], &mut lines);
    expect.assert_eq(&(lines.join("\n") + "\n"));
}

fn fields(path: &str, schema: &Value, lines: &mut Vec<String>) {
    let known = ["type", "properties", "required", "items", "description"];
    for (name, value) in schema.as_object().unwrap() {
        if !known.contains(&name.as_str()) {
            lines.push(format!("{path} {name}={value}"));
        }
    }
    if schema["type"] == "array" {
        return fields(&format!("{path}[]"), &schema["items"], lines);
    }
    lines.push(format!("{path} {}", schema["type"].as_str().unwrap()));
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = schema["required"]
            .as_array()
            .is_some_and(|it| it.contains(&name[..].into()));
        assert!(field["description"].is_string(), "{path}.{name}");
        fields(
            &format!("{path}.{name}{}", if is_required { "!" } else { "" }),
            field,
            lines,
        );
    }
}

#[test]
fn ip_address_pool() {
    check::<IPAddressPool>(expect![[r#"
        "ipaddresspools.metallb.io" "v1beta1" "Namespaced", status {"status":{}}
        column "Auto Assign" "boolean" ".spec.autoAssign"
        column "Avoid Buggy IPs" "boolean" ".spec.avoidBuggyIPs"
        column "Addresses" "string" ".spec.addresses"
         title="IPAddressPool"
         object
        .spec! object
        .spec!.addresses![] string
        .spec!.autoAssign default=true
        .spec!.autoAssign boolean
        .spec!.avoidBuggyIPs default=false
        .spec!.avoidBuggyIPs boolean
        .spec!.serviceAllocation nullable=true
        .spec!.serviceAllocation object
        .spec!.serviceAllocation.namespaceSelectors[] object
        .spec!.serviceAllocation.namespaceSelectors[].matchExpressions[] object
        .spec!.serviceAllocation.namespaceSelectors[].matchExpressions[].key! string
        .spec!.serviceAllocation.namespaceSelectors[].matchExpressions[].operator! string
        .spec!.serviceAllocation.namespaceSelectors[].matchExpressions[].values[] string
        .spec!.serviceAllocation.namespaceSelectors[].matchLabels additionalProperties={"type":"string"}
        .spec!.serviceAllocation.namespaceSelectors[].matchLabels object
        .spec!.serviceAllocation.namespaces[] string
        .spec!.serviceAllocation.priority format="int64"
        .spec!.serviceAllocation.priority integer
        .spec!.serviceAllocation.serviceSelectors[] object
        .spec!.serviceAllocation.serviceSelectors[].matchExpressions[] object
        .spec!.serviceAllocation.serviceSelectors[].matchExpressions[].key! string
        .spec!.serviceAllocation.serviceSelectors[].matchExpressions[].operator! string
        .spec!.serviceAllocation.serviceSelectors[].matchExpressions[].values[] string
        .spec!.serviceAllocation.serviceSelectors[].matchLabels additionalProperties={"type":"string"}
        .spec!.serviceAllocation.serviceSelectors[].matchLabels object
        .status nullable=true
        .status object
        .status.assignedIPv4 default=0
        .status.assignedIPv4 format="int64"
        .status.assignedIPv4 integer
        .status.assignedIPv6 default=0
        .status.assignedIPv6 format="int64"
        .status.assignedIPv6 integer
        .status.availableIPv4 default=0
        .status.availableIPv4 format="int64"
        .status.availableIPv4 integer
        .status.availableIPv6 default=0
        .status.availableIPv6 format="int64"
        .status.availableIPv6 integer
    "#]]);
}

#[test]
fn l2_advertisement() {
    check::<L2Advertisement>(expect![[r#"
        "l2advertisements.metallb.io" "v1beta1" "Namespaced", status {"status":{}}
        column "IPAddressPools" "string" ".spec.ipAddressPools"
        column "IPAddressPool Selectors" "string" ".spec.ipAddressPoolSelectors"
        column "Interfaces" "string" ".spec.interfaces"
        column "Node Selectors" "string" ".spec.nodeSelectors" 10
         title="L2Advertisement"
         object
        .spec object
        .spec.interfaces[] string
        .spec.ipAddressPoolSelectors[] object
        .spec.ipAddressPoolSelectors[].matchExpressions[] object
        .spec.ipAddressPoolSelectors[].matchExpressions[].key! string
        .spec.ipAddressPoolSelectors[].matchExpressions[].operator! string
        .spec.ipAddressPoolSelectors[].matchExpressions[].values[] string
        .spec.ipAddressPoolSelectors[].matchLabels additionalProperties={"type":"string"}
        .spec.ipAddressPoolSelectors[].matchLabels object
        .spec.ipAddressPools[] string
        .spec.nodeSelectors[] object
        .spec.nodeSelectors[].matchExpressions[] object
        .spec.nodeSelectors[].matchExpressions[].key! string
        .spec.nodeSelectors[].matchExpressions[].operator! string
        .spec.nodeSelectors[].matchExpressions[].values[] string
        .spec.nodeSelectors[].matchLabels additionalProperties={"type":"string"}
        .spec.nodeSelectors[].matchLabels object
        .spec.preferredNodeSelectors[] object
        .spec.preferredNodeSelectors[].preference! object
        .spec.preferredNodeSelectors[].preference!.matchExpressions[] object
        .spec.preferredNodeSelectors[].preference!.matchExpressions[].key! string
        .spec.preferredNodeSelectors[].preference!.matchExpressions[].operator! string
        .spec.preferredNodeSelectors[].preference!.matchExpressions[].values[] string
        .spec.preferredNodeSelectors[].preference!.matchLabels additionalProperties={"type":"string"}
        .spec.preferredNodeSelectors[].preference!.matchLabels object
        .spec.preferredNodeSelectors[].weight! format="int32"
        .spec.preferredNodeSelectors[].weight! maximum=100.0
        .spec.preferredNodeSelectors[].weight! minimum=1.0
        .spec.preferredNodeSelectors[].weight! integer
        .spec.serviceSelectors[] object
        .spec.serviceSelectors[].matchExpressions[] object
        .spec.serviceSelectors[].matchExpressions[].key! string
        .spec.serviceSelectors[].matchExpressions[].operator! string
        .spec.serviceSelectors[].matchExpressions[].values[] string
        .spec.serviceSelectors[].matchLabels additionalProperties={"type":"string"}
        .spec.serviceSelectors[].matchLabels object
        .status nullable=true
        .status object
    "#]]);
}

#[test]
fn service_l2_status() {
    check::<ServiceL2Status>(expect![[r#"
        "servicel2statuses.metallb.io" "v1beta1" "Namespaced", status {"status":{}}
        column "Allocated Node" "string" ".status.node"
        column "Service Name" "string" ".status.serviceName"
        column "Service Namespace" "string" ".status.serviceNamespace"
         title="ServiceL2Status"
         object
        .spec default={}
        .spec object
        .status nullable=true
        .status object
        .status.interfaces[] object
        .status.interfaces[].name string
        .status.node string
        .status.serviceName string
        .status.serviceNamespace string
    "#]]);
}

#[test]
fn configuration_state() {
    check::<ConfigurationState>(expect![[r#"
        "configurationstates.metallb.io" "v1beta1" "Namespaced", status {"status":{}}
        column "Result" "string" ".status.result"
        column "ErrorSummary" "string" ".status.errorSummary"
        column "Age" "date" ".metadata.creationTimestamp"
         title="ConfigurationState"
         object
        .status nullable=true
        .status object
        .status.conditions x-kubernetes-list-map-keys=["type"]
        .status.conditions x-kubernetes-list-type="map"
        .status.conditions[] object
        .status.conditions[].lastTransitionTime! format="date-time"
        .status.conditions[].lastTransitionTime! string
        .status.conditions[].message! string
        .status.conditions[].observedGeneration format="int64"
        .status.conditions[].observedGeneration nullable=true
        .status.conditions[].observedGeneration integer
        .status.conditions[].reason! minLength=1
        .status.conditions[].reason! string
        .status.conditions[].status! enum=["True","False","Unknown"]
        .status.conditions[].status! string
        .status.conditions[].type! string
        .status.errorSummary string
        .status.result default="Unknown"
        .status.result enum=["Valid","Invalid","Unknown"]
        .status.result string
    "#]]);
}

use expect_test::{Expect, expect};

use super::*;

/// The objects of a file with their lines, the notes on it, or the error.
#[track_caller]
fn check(text: &str, expect: Expect) {
    let found = match read(text) {
        Ok(Contents { objects, notes }) => {
            let objects = objects
                .iter()
                .map(|(line, object)| format!("{line}: {}\n", object.key()));
            let notes = notes.iter().map(|(line, note)| {
                let level = if note.is_warning() { "warning" } else { "note" };
                format!("{line}: {level}: {note}\n")
            });
            objects.chain(notes).collect()
        }
        Err(Rejected { line, reason }) => match line {
            Some(line) => format!("{line}: error: {reason}\n"),
            None => format!("error: {reason}\n"),
        },
    };
    expect.assert_eq(&found);
}

#[test]
fn a_stream_of_documents() {
    check(
        "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata:
  name: lan
  namespace: lb
spec:
  addresses:
  - 192.168.7.10-192.168.7.40
---
# All of it, everywhere.
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata:
  name: all
  namespace: lb
---
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    metallb.io/loadBalancerIPs: 192.168.7.12
spec:
  type: LoadBalancer
  selector: {app: web}
  somethingNew: true
  ports:
  - port: 80
    targetPort: http
",
        expect![[r#"
            1: IPAddressPool lb/lan
            11: L2Advertisement lb/all
            17: Service default/web
        "#]],
    );
}

#[test]
fn a_list_and_json() {
    check(
        r#"{
  "apiVersion": "v1",
  "kind": "List",
  "items": [
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
      "spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {}}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b", "creationTimestamp": null},
      "spec": {"type": "LoadBalancer"}}
  ]
}"#,
        expect![[r#"
            1: Service default/a
            1: Service default/b
        "#]],
    );
    check(
        "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
- apiVersion: metallb.io/v1beta1
  kind: IPAddressPool
  metadata: {name: lan}
  spec:
    addresses:
    - 10.0.0.0/24
    - 10.0.1
",
        expect![[r#"
            12: error: IPAddressPool default/lan: spec.addresses[1]: "10.0.1" is neither a CIDR prefix such as 10.0.0.0/24 nor a range such as 10.0.0.10-10.0.0.20
        "#]],
    );
}

#[test]
fn irrelevant_objects_are_noted() {
    check(
        "\
apiVersion: v1
kind: ConfigMap
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: router, namespace: lb}
---
apiVersion: metallb.io/v1beta1
kind: ServiceL2Status
metadata: {name: l2-1, namespace: lb}
---
apiVersion: v1
kind: Service
metadata: {name: inside}
spec: {type: ClusterIP}
---
apiVersion: v1
kind: Service
metadata:
  name: old
  annotations: {metallb.universe.tf/loadBalancerIPs: 10.0.0.1}
spec: {type: LoadBalancer}
",
        expect![[r#"
            21: Service default/old
            1: note: ConfigMap of v1 is ignored: it does not affect VIPs
            4: note: Deployment of apps/v1 is ignored: it does not affect VIPs
            8: warning: BGPPeer lb/router has no effect: VIPs are announced on layer 2 only
            12: note: ServiceL2Status of metallb.io/v1beta1 is ignored: it does not affect VIPs
            21: warning: Service default/old: the annotation metallb.universe.tf/loadBalancerIPs is deprecated: use metallb.io/loadBalancerIPs
        "#]],
    );
}

#[test]
fn an_empty_file_has_no_objects() {
    check("", expect![""]);
    check("# later\n---\n", expect![""]);
}

#[test]
fn non_objects_are_refused() {
    check(
        "a: [\n",
        expect![[r#"
        1: error: not YAML: unclosed bracket '[' at line 1, column 4
    "#]],
    );
    check(
        "just text\n",
        expect![[r#"
        1: error: not a Kubernetes object: the document has no fields
    "#]],
    );
    check(
        "- apiVersion: v1\n",
        expect![[r#"
        1: error: not a Kubernetes object: the document has no fields
    "#]],
    );
    check(
        "metadata: {}\nkind: Service\n",
        expect![[r#"
        1: error: not a Kubernetes object: it has no apiVersion
    "#]],
    );
    check(
        "apiVersion: v1\n",
        expect![[r#"
        1: error: not a Kubernetes object: it has no kind
    "#]],
    );
    check(
        "apiVersion: v1\nkind: Service\nmetadata: {}\n",
        expect![[r#"
        3: error: Service: metadata.name: missing: give the object a name
    "#]],
    );
    check(
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: a}\n",
        expect![[r#"
            3: error: Service: metadata.name: missing: give the object a name
        "#]],
    );
    check(
        "apiVersion: v2\nkind: Service\nmetadata: {name: a}\n",
        expect![[r#"
            1: error: Service with apiVersion v2 is unknown: use v1
        "#]],
    );
    check(
        "\n\napiVersion: metallb.io/v1\nkind: IPAddressPool\nmetadata: {name: a}\n",
        expect![[r#"
            3: error: IPAddressPool with apiVersion metallb.io/v1 is unknown: use metallb.io/v1beta1
        "#]],
    );
    check(
        "apiVersion: metallb/v1beta1\nkind: L2Advertisement\nmetadata: {name: a}\n",
        expect![[r#"
            1: error: L2Advertisement with apiVersion metallb/v1beta1 is unknown: use metallb.io/v1beta1
        "#]],
    );
    // A former kind, and a misspelt one.
    check(
        "apiVersion: metallb.io/v1beta1\nkind: AddressPool\nmetadata: {name: a}\n",
        expect![[r#"
            2: error: metallb.io has no kind AddressPool: pools are of kind IPAddressPool, advertisements of kind L2Advertisement
        "#]],
    );
    check(
        "kind: IpAddressPool\napiVersion: metallb.io/v1beta1\nmetadata: {name: a}\n",
        expect![[r#"
            1: error: metallb.io has no kind IpAddressPool: pools are of kind IPAddressPool, advertisements of kind L2Advertisement
        "#]],
    );
}

#[test]
fn fields_of_the_wrong_type_are_refused() {
    check(
        "\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  ports:
  - port: eighty
",
        expect![[r#"
            7: error: Service default/web: spec.ports[0].port: invalid type: string "eighty", expected i32
        "#]],
    );
    check(
        "\
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    metallb.io/loadBalancerIPs:
    - 10.0.0.1
",
        expect![[r#"
            6: error: Service default/web: metadata.annotations[metallb.io/loadBalancerIPs]: invalid type: sequence, expected a string
        "#]],
    );
    check(
        "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
",
        expect![[r#"
            1: error: IPAddressPool default/lan: spec: missing field `addresses`
        "#]],
    );
    check(
        "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec:
  addresses: 10.0.0.0/24
",
        expect![[r#"
            5: error: IPAddressPool default/lan: spec.addresses: invalid type: string "10.0.0.0/24", expected a sequence
        "#]],
    );
    check(
        "\
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all}
spec:
  nodeSelectors:
  - matchLabels:
      zone: 1
",
        expect![[r#"
            7: error: L2Advertisement default/all: spec.nodeSelectors[0].matchLabels.zone: invalid type: integer `1`, expected a string
        "#]],
    );
}

#[test]
fn unknown_fields_are_refused() {
    check(
        "\
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all}
spec:
  ipAddressPool:
  - lan
",
        expect![[r#"
            5: error: L2Advertisement default/all: spec.ipAddressPool: there is no such field: correct its name or remove it
        "#]],
    );
    check(
        "\
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all}
spec:
  interfaces: [eth0]
  nodeSelectors:
  - matchLabels: {zone: a}
  - matchExpressions:
    - key: rack
      operator: Exists
      value: a
",
        expect![[r#"
            11: error: L2Advertisement default/all: spec.nodeSelectors[1].matchExpressions[0].value: there is no such field: correct its name or remove it
        "#]],
    );
    check(
        "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec:
  addresses: [10.0.0.0/24]
  serviceAllocation:
    prioritty: 1
",
        expect![[r#"
            7: error: IPAddressPool default/lan: spec.serviceAllocation.prioritty: there is no such field: correct its name or remove it
        "#]],
    );
    check(
        "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, label: {}}
spec: {addresses: [10.0.0.0/24]}
",
        expect![[r#"
            3: error: IPAddressPool default/lan: metadata.label: there is no such field: correct its name or remove it
        "#]],
    );
    check(
        "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [10.0.0.0/24]}
addresses: []
",
        expect![[r#"
            5: error: IPAddressPool default/lan: addresses: there is no such field: correct its name or remove it
        "#]],
    );
}

#[test]
fn refusals_name_the_line() {
    check(
        "\
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    metallb.io/loadBalancerIPs: 10.0.0.300
spec:
  type: LoadBalancer
",
        expect![[r#"
            6: error: Service default/web: metadata.annotations[metallb.io/loadBalancerIPs]: "10.0.0.300" is not an IP address
        "#]],
    );
}

#[test]
fn fields_without_a_value_are_absent() {
    check(
        "\
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata:
  name: all
  labels:
spec:
  interfaces:
  nodeSelectors: null
",
        expect![[r#"
            1: L2Advertisement default/all
        "#]],
    );
}

#[test]
fn a_full_map_of_vips_in_one_file() {
    let service = |n: u16| {
        let [a, b] = n.to_be_bytes();
        format!(
            r#"{{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "s{n}"}},
                "spec": {{"type": "LoadBalancer", "loadBalancerIP": "10.0.{a}.{b}"}}}}"#
        )
    };
    let services: Vec<_> = (0..=u16::MAX).map(service).collect();
    let list = services.join(",");
    let text = format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{list}]}}"#);
    assert_eq!(read(&text).unwrap().objects.len(), 1 << 16);
}

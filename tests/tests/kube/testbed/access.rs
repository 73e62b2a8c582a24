//! Permissions are enforced.

use std::{env, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use speaker_tests::{
    kube::{self, Identity, Kube, objects},
    lab::{self, Output},
    wait::wait_until,
};

use crate::SOON;

#[test]
fn requests_without_the_right_are_refused() {
    lab::test(|lab| {
        let kube = Kube::start(lab)?;
        let list = |identity| -> Result<Output> {
            let list = kube.kubectl_as(identity, ["get", "services"])?;
            list.unheard().output()
        };
        let user = Identity::User("ann", "readers");
        let account = Identity::ServiceAccount("shop", "robot");
        kube.apply(&objects::namespace("shop"))?;
        kube.apply(&account_named("robot"))?;
        for identity in [user, account] {
            let said = list(identity)?.stderr;
            assert!(said.contains("cannot list resource \"services\""), "{said}");
        }

        for group in ["readers", "system:serviceaccounts:shop"] {
            kube.apply(&may_list_services(group))?;
        }
        for identity in [user, account, Identity::Admin] {
            wait_until("rights", SOON, || Ok(list(identity)?.status.success()))?;
        }
        let create = kube.kubectl_as(user, ["create", "namespace", "theirs"])?;
        let said = create.output()?.stderr;
        assert!(
            said.contains("cannot create resource \"namespaces\""),
            "{said}"
        );

        // Programs on a host that was made a pod authenticate as its ServiceAccount.
        let host = lab.host("node-a")?;
        let programs = env::var_os(kube::PROGRAMS).context("the directory of kubectl")?;
        let mut list = host.command(Path::new(&programs).join("kubectl"));
        for (name, value) in kube.make_pod(&host, "shop", "robot")? {
            list = list.env(name, value);
        }
        let list = list.env("HOME", "/nonexistent").env("KUBECONFIG", "");
        let said = list.args(["get", "services,pods"]).output()?.stderr;
        let refused = r#"User "system:serviceaccount:shop:robot" cannot list resource "pods""#;
        assert!(
            said.contains(refused) && !said.contains("\"services\""),
            "{said}"
        );
        Ok(())
    });
}

fn account_named(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": "shop" },
    })
}

fn may_list_services(group: &str) -> Value {
    let name = group.replace(':', "-");
    let rbac = "rbac.authorization.k8s.io";
    objects::list([
        json!({
            "apiVersion": format!("{rbac}/v1"),
            "kind": "ClusterRole",
            "metadata": { "name": name },
            "rules": [{ "apiGroups": [""], "resources": ["services"], "verbs": ["list"] }],
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": rbac, "kind": "ClusterRole", "name": name },
            "subjects": [{ "apiGroup": rbac, "kind": "Group", "name": group }],
        }),
    ])
}

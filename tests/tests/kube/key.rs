//! The agents' key, and what happens when its Secret is deleted.

use std::{thread::sleep, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};
use speaker_tests::{
    kube::{
        Site,
        site::{NAMESPACE, pod},
    },
    lab,
    wait::wait_for,
};

use crate::{SOON, controller::controller, delete};

#[test]
fn a_deleted_key_is_restored_and_never_replaced_while_agents_run() {
    lab::test(|lab| {
        let site = Site::new(lab, 0)?;
        delete(&site, "secret speaker-memberlist")?;
        let mut first = controller(&site, "first", 7472)?;
        assert!(key(&site)?["secretkey"].is_string());
        // Its last content, even if the controller did not create it.
        let keys = json!({ "stringData": { "secretkey": "two keys\nin two lines" } });
        let patch = ["patch", "--patch", &keys.to_string()].map(str::to_owned);
        let patch = site.kube.kubectl(patch).args(secret().split(' '));
        patch.unheard().run()?;
        let changed = key(&site)?;
        delete(&site, "secret speaker-memberlist")?;
        assert_eq!(key(&site)?, changed);
        first.wait_for_line("is restored with the same key", SOON)?;

        // When it is deleted, only the agents know it.
        first.terminate(SOON)?;
        delete(&site, "secret speaker-memberlist")?;
        let agent = pod("node-a");
        site.kube.apply(&agent)?;
        let phase = |phase: &str| {
            let pod = format!("pod/speaker-agent-node-a --namespace={NAMESPACE}");
            site.kube.patch_status(&pod, &json!({ "phase": phase }))
        };
        phase("Running")?;
        let second = controller(&site, "second", 7472)?;
        second.wait_for_line("Secret speaker-memberlist is missing", SOON)?;
        sleep(Duration::from_secs(6));
        assert!(site.kube.get(&secret()).is_err(), "agents have another key");
        // Like pods that wait for the Secret.
        phase("Pending")?;
        assert_ne!(key(&site)?, changed);
        Ok(())
    });
}

fn secret() -> String {
    format!("secret speaker-memberlist --namespace={NAMESPACE}")
}

/// The content of the Secret, as soon as it exists.
fn key(site: &Site) -> Result<Value> {
    wait_for("the key", SOON, || {
        let secret = site.kube.get(&secret());
        Ok(secret.ok().map(|mut secret| secret["data"].take()))
    })
}

//! The key of the agents, and what becomes of it when its Secret is deleted.

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
fn a_key_that_is_deleted_is_restored_and_no_agent_is_given_another() {
    lab::test(|lab| {
        let site = Site::new(lab, 0)?;
        delete(&site, "secret speaker-memberlist")?;
        let mut first = controller(&site, "first", 7472)?;
        assert!(key(&site)?["secretkey"].is_string());
        // What it was last, also where that is not what the controller has made.
        let keys = json!({ "stringData": { "secretkey": "two keys\nin two lines" } });
        let patch = ["patch", "--patch", &keys.to_string()].map(str::to_owned);
        let patch = site.kube.kubectl(patch).args(secret().split(' '));
        patch.unheard().run()?;
        let changed = key(&site)?;
        delete(&site, "secret speaker-memberlist")?;
        assert_eq!(key(&site)?, changed);
        first.wait_for_line("is restored with the same key", SOON)?;

        // Nobody who knows it is there when it is deleted, but the agents.
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
        // As those wait that have none.
        phase("Pending")?;
        assert_ne!(key(&site)?, changed);
        Ok(())
    });
}

fn secret() -> String {
    format!("secret speaker-memberlist --namespace={NAMESPACE}")
}

/// What the Secret holds, as soon as it is there.
fn key(site: &Site) -> Result<Value> {
    wait_for("the key", SOON, || {
        let secret = site.kube.get(&secret());
        Ok(secret.ok().map(|mut secret| secret["data"].take()))
    })
}

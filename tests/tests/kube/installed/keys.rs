//! Changing the cluster's key as in docs/install.md.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use speaker_tests::{
    asker::Asker,
    kube::{Installation, Pod, Probe},
    wait::wait_until,
};

use super::{EVERY, answers};
use crate::SOON;

/// Every request is answered by the same node; no agent ends, and none considers another gone.
pub(super) fn change_unnoticed(site: &Installation, vip: IpAddr) -> Result<()> {
    let owner = answers(site, vip)?.eth0.mac;
    let secret = site.named("secret/speaker-memberlist");
    let old: Secret = serde_json::from_value(site.kube.get(&secret)?)?;
    let old = old.data.context("no data")?["secretkey"].0.clone();
    let (old, new) = (String::from_utf8(old)?, "a secret that is long enough");

    let warnings: Vec<usize> = site.agents.iter().map(|it| count(it, "WARN")).collect();
    let asker = Asker::start(&site.client, vip, EVERY)?;
    let two_then_one = [
        format!("{old}\n{new}"),
        format!("{new}\n{old}"),
        new.to_owned(),
    ];
    for (step, keys) in two_then_one.iter().enumerate() {
        let patch = json!({ "stringData": { "secretkey": keys } }).to_string();
        let patch = site.kube.kubectl(["patch", "--patch", &patch]);
        patch.args(secret.split(' ')).unheard().run()?;
        // Kubelets and agents are not synchronized.
        for agent in &site.agents {
            agent.sync_secrets(&site.kube)?;
            thread::sleep(Duration::from_millis(500));
        }
        wait_until("all agents to read the keys", SOON, || {
            let mut agents = site.agents.iter();
            Ok(agents.all(|agent| count(agent, "the cluster keys have changed") == step + 1))
        })?;
    }
    asker.stop()?.assert_all_answered(200, owner);
    for (agent, warnings) in site.agents.iter().zip(warnings) {
        agent.probe(Probe::Liveness)?;
        agent.probe(Probe::Readiness)?;
        // About nodes that are down, or messages that no key opens.
        assert_eq!(count(agent, "WARN"), warnings, "{:#?}", agent.log());
    }
    Ok(())
}

fn count(agent: &Pod, text: &str) -> usize {
    agent
        .log()
        .iter()
        .filter(|line| line.contains(text))
        .count()
}

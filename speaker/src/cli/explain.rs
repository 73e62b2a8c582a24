//! `speaker explain`.

use std::{net::IpAddr, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use speaker_core::node::PlaceStatus;

use super::{
    StateDir, block_on,
    output::{count, print},
    status::{Output, UNCONFIGURED, rounded},
};
use crate::api::{Client, Counts, Explanation, Report};

/// Show who owns a VIP, since when, and why that node rather than another
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The VIP to explain
    vip: IpAddr,

    #[command(flatten)]
    state_dir: StateDir,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Explain {
    pub(super) fn run(self) -> Result<()> {
        let (explanation, report) = block_on(async {
            let mut client = Client::connect(&self.state_dir.path).await?;
            Ok((client.explain(self.vip).await?, client.report().await?))
        })?;
        let Some(explanation) = explanation else {
            bail!("{}", unknown(self.vip, &report));
        };
        match self.output {
            Output::Json => print(&(serde_json::to_string_pretty(&explanation)? + "\n")),
            Output::Table => print(&text(&explanation, &report)),
        }
    }
}

/// Why this node cannot explain a VIP.
fn unknown(vip: IpAddr, report: &Report) -> String {
    let known = report.vips.iter().find(|it| it.status.address == Some(vip));
    match known.map(|it| it.status.reason.as_ref()) {
        Some(Some(reason)) => format!("{vip} is not announced: {reason}"),
        Some(None) => format!("this node has only just learned of {vip}: ask again"),
        None if report.updates == 0 => UNCONFIGURED.to_owned(),
        None => format!("no Service of type LoadBalancer has {vip} in this node's configuration"),
    }
}

fn text(it: &Explanation, report: &Report) -> String {
    let mut text = String::new();
    let since = it
        .since_ms_ago
        .map_or_else(String::new, |ms| format!(", for {}", rounded(ms)));
    match &it.owner {
        Some(owner) => {
            text += &format!(
                "{} is owned by {owner}{since} (epoch {})\n",
                it.vip, it.epoch
            );
            if let Some(cause) = &it.cause {
                text += &format!("  because {cause}\n");
            }
        }
        None => text += &format!("{} has no owner\n", it.vip),
    }
    text += &format!("{} (this node) is {}\n", it.node, it.state);
    let vip = report
        .vips
        .iter()
        .find(|vip| vip.status.address == Some(it.vip));
    if let Some(reason) = vip.and_then(|vip| vip.status.reason.as_ref()) {
        text += &format!("  it cannot own the VIP: {reason}\n");
    }
    for (place, counts) in vip.into_iter().flat_map(|vip| vip.places()) {
        text += &place_text(place, &counts);
    }
    text += "candidates, in order of preference:\n";
    for candidate in &it.candidates {
        let preference = match candidate.preference {
            0 => String::new(),
            preference => format!(", preference {preference}"),
        };
        text += &format!("  {}: {}{preference}\n", candidate.node, candidate.standing);
    }
    if it.candidates.is_empty() {
        text += "  none\n";
    }
    if !it.excluded.is_empty() {
        text += "not eligible:\n";
    }
    for (node, why) in &it.excluded {
        text += &format!("  {node}: {why}\n");
    }
    if !it.history.is_empty() {
        text += "previous owners, most recent first:\n";
        for former in &it.history {
            text += &format!("  {}, until {}\n", former.node, former.until);
        }
    }
    if let (Some(by), Some(ms)) = (&it.claimed_by, it.claimed_ms_ago) {
        text += &format!("conflict: {by} also claimed it{}\n", ago(ms));
    }
    text
}

/// What happened to a VIP on a link.
fn place_text(place: &PlaceStatus, counts: &Counts) -> String {
    let Counts {
        requests,
        answered,
        last_request_ms_ago,
        ..
    } = counts;
    let last = |ms: Option<u64>| ms.map_or_else(String::new, |ms| format!(" (last{})", ago(ms)));
    let mut text = format!(
        "  on {}: {}, {}{}, {}, {}{}",
        place.link,
        place.describe(),
        count(*requests, "request"),
        last(*last_request_ms_ago),
        count(*answered, "answer"),
        count(place.announced, "announcement"),
        last(place.announced_ms_ago),
    );
    if let Some(mac) = &place.claimed_by {
        let claims = count(place.conflicts, "conflicting claim");
        text += &format!(", {claims} (last by {mac})");
    }
    text + "\n"
}

fn ago(ms: u64) -> String {
    if Duration::from_millis(ms) < Duration::from_millis(1) {
        " just now".to_owned()
    } else {
        format!(" {} ago", rounded(ms))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_vip_has_the_reason() {
        let check = |updates: u64, vips: serde_json::Value, expect: &str| {
            let report = json!({
                "node": "node-a", "lease": { "state": "valid", "alone": true }, "vips": vips,
                "links": [], "reasons": {}, "refused": [], "updates": updates,
            });
            let report = serde_json::from_value(report).unwrap();
            assert_eq!(unknown([192, 0, 2, 1].into(), &report), expect);
        };
        let vip = |reason: Option<&str>| {
            json!([{
                "address": "192.0.2.1", "services": ["default/web"], "places": [],
                "reason": reason, "counts": [],
            }])
        };
        check(
            0,
            json!([]),
            "no configuration has been read yet: see the agent's log",
        );
        let none = "no Service of type LoadBalancer has 192.0.2.1 in this node's configuration";
        check(1, json!([]), none);
        check(
            1,
            vip(Some("too far")),
            "192.0.2.1 is not announced: too far",
        );
        let new = "this node has only just learned of 192.0.2.1: ask again";
        check(1, vip(None), new);
    }
}

//! `speaker status`.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use clap::{Args, ValueEnum};
use speaker_core::{
    cluster::CandidateStanding,
    node::{PlaceState, PlaceStatus, ProbeStatus},
};
use tabled::{
    Table, Tabled,
    settings::{Padding, Style},
};

use super::{
    Bpffs, StateDir, block_on,
    output::{count, note, print},
};
use crate::{
    agent,
    api::{Client, LeaseReport, LeaseState, NoAgent, Report},
    kernel,
};

/// What to say of VIPs before there is a configuration.
pub(super) const UNCONFIGURED: &str = "no configuration has been read yet: see the agent's log";

/// Show this node's VIPs: where they are answered, how often, and why not
///
/// Asks the agent. If none answers, reads the pinned maps instead.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    bpffs: Bpffs,

    #[command(flatten)]
    state_dir: StateDir,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// A table, for people
    Table,
    /// JSON, for programs
    Json,
}

#[derive(Tabled)]
#[tabled(rename_all = "UPPERCASE")]
struct Row {
    vip: String,
    state: String,
    owner: String,
    link: String,
    mac: String,
    mode: String,
    requests: String,
    answers: String,
    #[tabled(rename = "LAST ASKED")]
    last_asked: String,
    services: String,
}

impl Status {
    pub(super) fn run(self) -> Result<()> {
        let report = block_on(self.report())?;
        match self.output {
            Output::Json => print(&(serde_json::to_string_pretty(&report)? + "\n")),
            Output::Table => print(&text(&report)),
        }
    }

    async fn report(&self) -> Result<Report> {
        let asked = async { Client::connect(&self.state_dir.path).await?.report().await };
        let error = match asked.await {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        let no_agent: NoAgent = error.downcast()?;
        let no_agent = match (no_agent, kernel::agent(&self.bpffs.path)) {
            (no_agent @ NoAgent::NotPermitted { .. }, _) => return Err(no_agent.into()),
            (NoAgent::NotRunning { path }, Some(pid)) => NoAgent::Elsewhere { path, pid },
            (no_agent, _) => no_agent,
        };
        let report = agent::pinned(&self.bpffs.path).map_err(|error| {
            error.context(format!("{no_agent}; its pinned maps cannot be read either"))
        })?;
        note(&no_agent.to_string());
        note("this is what its pinned maps hold:");
        Ok(report)
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let rows: Vec<Row> = report.vips.iter().flat_map(rows).collect();
    let is_unconfigured = report.node.is_some() && report.updates == 0;
    if is_unconfigured {
        text += &format!("{UNCONFIGURED}\n");
    } else if rows.is_empty() {
        text += "no VIPs: no Service of type LoadBalancer has an address here\n";
    } else {
        let mut table = Table::new(rows);
        table.with(Style::empty()).with(Padding::new(0, 3, 0, 0));
        for line in table.to_string().lines() {
            text += line.trim_end();
            text += "\n";
        }
        text += &reasons(report);
    }
    text += &lease_text(report.lease);
    if let Some(probes) = &report.probes {
        text += &probes_text(probes);
    }
    if report.draining {
        text += "drained: this node owns no VIPs until `speaker undrain`\n";
    }
    let away = report.api_server.as_ref().and_then(|it| it.away.as_ref());
    if let Some(away) = away {
        let rest = match is_unconfigured {
            true => "",
            false => "; the last known configuration stays in force",
        };
        text += &format!(
            "the API server has not answered for {}: {}{rest}\n",
            rounded(away.for_ms),
            away.why
        );
    }
    for member in &report.members {
        // A node that is silent has not left yet, and was ready until then.
        let since = match (member.state, member.heard_ms_ago) {
            (CandidateStanding::Silent, Some(heard)) => heard,
            _ => member.since_ms_ago,
        };
        text += &format!(
            "{} at {}: {} for {}\n",
            member.name,
            member.address,
            member.state,
            rounded(since)
        );
    }
    if report.unreadable > 0 {
        text += &format!(
            "{} messages could not be decrypted with this node's keys (--cluster-key-file)\n",
            report.unreadable
        );
    }
    for link in &report.links {
        if let Some(error) = &link.error {
            text += &format!("{}: {error}\n", link.name);
        }
        if let Some(note) = link
            .attached
            .as_ref()
            .and_then(|attached| attached.note.as_ref())
        {
            text += &format!("{}: {note}\n", link.name);
        }
    }
    for refused in &report.refused {
        text += &format!("refused: {refused}\n");
    }
    text
}

fn rows(vip: &crate::api::VipReport) -> Vec<Row> {
    let services = match vip.status.services.as_slice() {
        [] => "-".to_owned(),
        [first, _, _, ..] => format!("{first} and {} more", vip.status.services.len() - 1),
        services => services.join(", "),
    };
    let row = |state: &str| Row {
        vip: vip
            .status
            .address
            .map_or_else(|| "-".to_owned(), |vip| vip.to_string()),
        state: state.to_owned(),
        owner: vip.owner.clone().unwrap_or_else(|| "-".to_owned()),
        link: "-".to_owned(),
        mac: "-".to_owned(),
        mode: "-".to_owned(),
        requests: "-".to_owned(),
        answers: "-".to_owned(),
        last_asked: "-".to_owned(),
        services: services.clone(),
    };
    if vip.status.reason.is_some() {
        return vec![row("not announced")];
    }
    vip.places()
        .map(|(place, counts)| Row {
            link: place.link.clone(),
            mac: place.mac.clone(),
            mode: place
                .mode
                .map_or_else(|| "-".to_owned(), |mode| mode.to_string()),
            requests: counts.requests.to_string(),
            answers: counts.answered.to_string(),
            last_asked: counts
                .last_request_ms_ago
                .map_or_else(|| "never".to_owned(), |ms| format!("{} ago", rounded(ms))),
            ..row(&state(place))
        })
        .collect()
}

fn state(place: &PlaceStatus) -> String {
    let state = match place.state {
        PlaceState::Failed => place.state.to_string(),
        _ => place.describe(),
    };
    match (&place.claimed_by, place.conflicts) {
        (Some(mac), claims) => {
            let claims = count(claims, "claim");
            format!("{state}, also claimed by {mac} ({claims})")
        }
        (None, _) => state,
    }
}

/// Why VIPs are not announced and what has failed, each reason once: most are too long for a table,
/// and apply to many VIPs.
fn reasons(report: &Report) -> String {
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for vip in &report.vips {
        let name = match vip.status.address {
            Some(address) => address.to_string(),
            None => vip.status.services.join(", "),
        };
        if let Some(reason) = &vip.status.reason {
            let of = reasons.entry(format!("not announced: {reason}"));
            of.or_default().push(name.clone());
        }
        let failed = vip.status.places.iter();
        for place in failed.filter(|place| place.state == PlaceState::Failed) {
            let of = reasons.entry(place.describe()).or_default();
            of.push(format!("{name} on {}", place.link));
        }
    }
    let line = |(reason, of): (&String, &Vec<String>)| match of.as_slice() {
        [one] => format!("{one}: {reason}\n"),
        of => format!("{} and {} more: {reason}\n", of[0], of.len() - 1),
    };
    reasons.iter().map(line).collect()
}

fn lease_text(lease: LeaseReport) -> String {
    let LeaseReport {
        state,
        alone,
        agent_left_ms,
        peers_left_ms,
    } = lease;
    let time = |ms: i64| rounded(ms.unsigned_abs());
    let agent = agent_left_ms.unwrap_or_default();
    match (state, agent_left_ms, peers_left_ms) {
        (LeaseState::Valid, ..) => {
            let peers = match peers_left_ms {
                Some(peers) => format!(", and for {} without probes by other nodes", time(peers)),
                None if alone => "; no other node shares the VIPs".to_owned(),
                None => String::new(),
            };
            let agent = time(agent);
            format!("lease: valid for another {agent} without an agent{peers}\n")
        }
        (_, None, _) => {
            "lease: none, because no agent has held it yet: nothing is answered\n".into()
        }
        (_, Some(..=0), _) => {
            let ago = time(agent);
            format!("lease: lapsed {ago} ago: nothing is answered until an agent runs again\n")
        }
        (LeaseState::Unarmed, ..) => {
            "lease: not valid yet: nothing is answered until another node probes this one\n".into()
        }
        (LeaseState::Over, _, Some(peers @ ..=0)) => format!(
            "lease: lapsed {} ago, because no other node probed this one: nothing is answered \
             until it has joined the others again\n",
            time(peers)
        ),
        (LeaseState::Over, ..) => {
            "lease: over: nothing is answered until the agent begins a new one\n".into()
        }
    }
}

fn probes_text(probes: &ProbeStatus) -> String {
    let ProbeStatus {
        address,
        interface,
        reason,
    } = probes;
    match (interface, reason) {
        (Some(interface), _) => {
            format!("liveness probes to {address}: answered by the kernel on {interface}\n")
        }
        (None, reason) => format!(
            "liveness probes to {address}: answered by the agent alone, so that this node counts \
             as dead as soon as its agent stops: {}\n",
            reason.as_deref().unwrap_or("unknown reason")
        ),
    }
}

/// A duration in its two largest units, whole seconds from a second on.
pub(super) fn rounded(ms: u64) -> String {
    let whole = if ms < 1_000 { ms } else { ms - ms % 1_000 };
    let text = humantime::format_duration(Duration::from_millis(whole)).to_string();
    let mut units = text.split(' ');
    match (units.next(), units.next()) {
        (Some(first), Some(second)) => format!("{first} {second}"),
        _ => text,
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

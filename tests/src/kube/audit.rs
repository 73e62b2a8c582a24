//! Who requested what from the API server: its audit log.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::IpAddr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{Kube, site::NAMESPACE};

/// In the memory of the control plane's host.
pub(super) const LOG: &str = "/run/audit.log";

/// The HTTP status of a forbidden request.
const FORBIDDEN: u16 = 403;

/// A completed request of one of the accounts in deploy/.
#[derive(Clone, Debug)]
pub struct Request {
    /// The ServiceAccount, without its namespace.
    pub account: String,
    /// Its source.
    pub from: IpAddr,
    /// `get`, `list`, `watch`, `create`, `patch`, …
    pub verb: String,
    /// Its resource, such as `services` or `services/status`.
    pub resource: String,
    /// Its path and query.
    pub uri: String,
    /// The HTTP status; 0 if there was none.
    pub code: u16,
    /// When it was answered, or, of a watch, when it ended.
    pub at: SystemTime,
}

/// The relevant parts of a log entry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    user: User,
    #[serde(rename = "sourceIPs")]
    source_ips: Vec<IpAddr>,
    #[serde(default)]
    object_ref: ObjectReference,
    #[serde(default)]
    response_status: ResponseStatus,
    stage_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
struct ObjectReference {
    #[serde(default)]
    resource: String,
    subresource: Option<String>,
}

#[derive(Default, Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

impl Kube {
    /// All requests so far of the accounts in deploy/, in the order in which they ended.
    pub fn requests(&self) -> Result<Vec<Request>> {
        let log = self.host.run(|| fs::File::open(LOG)).context(LOG)?;
        let mut requests = Vec::new();
        for line in BufReader::new(log).lines() {
            // The last one may be half written.
            let Ok(entry) = serde_json::from_str::<Entry>(&line?) else {
                break;
            };
            requests.push(entry.request()?);
        }
        Ok(requests)
    }

    /// Those that deploy/ does not permit, apart from those to an API server that had not loaded
    /// the roles yet.
    pub(super) fn forbidden(&self) -> Result<Vec<Request>> {
        let mut requests = self.requests()?;
        requests.retain(|it| it.code == FORBIDDEN && !self.was_starting(it.at));
        Ok(requests)
    }
}

impl Entry {
    fn request(self) -> Result<Request> {
        let account = self.user.username.rsplit(':').next();
        let ObjectReference {
            resource,
            subresource,
        } = self.object_ref;
        Ok(Request {
            account: account.unwrap_or_default().to_owned(),
            from: *self.source_ips.first().context("a request from nowhere")?,
            verb: self.verb,
            resource: match subresource {
                Some(subresource) => format!("{resource}/{subresource}"),
                None => resource,
            },
            uri: self.uri,
            code: self.response_status.code,
            at: self.stage_timestamp.parse::<Timestamp>()?.into(),
        })
    }
}

/// Writes the audit policy: each request of those accounts once, when it is over.
pub(super) fn write_policy(directory: &Path) -> Result<PathBuf> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            { "level": "Metadata", "userGroups": [format!("system:serviceaccounts:{NAMESPACE}")] },
            { "level": "None" },
        ],
    });
    let file = directory.join("audit-policy.json");
    fs::write(&file, policy.to_string()).with_context(|| file.display().to_string())?;
    Ok(file)
}

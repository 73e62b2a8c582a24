//! The history of objects.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Kube, control_plane::STORE};

/// More than etcd takes to list its content, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// An object when it was written or deleted.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Its name.
    pub name: String,
    /// Its content from then on; `None` if it was deleted.
    pub object: Option<Value>,
}

/// The relevant parts of a watch message.
#[derive(Deserialize)]
struct Message {
    result: Events,
}

#[derive(Deserialize)]
struct Events {
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    kv: Stored,
}

/// A deletion has no value.
#[derive(Deserialize)]
struct Stored {
    key: ByteString,
    value: Option<ByteString>,
}

impl Kube {
    /// All revisions of the objects of a kind in a namespace, until one of this name was first
    /// written, in the order in which they were stored. A watch of the API server misses revisions
    /// when it breaks; this asks etcd, which keeps each for at least five minutes.
    pub fn history(&self, kind: &str, namespace: &str, until: &str) -> Result<Vec<Revision>> {
        let prefix = format!("/registry/{kind}/{namespace}/");
        // The next byte after a slash.
        let end = format!("/registry/{kind}/{namespace}0");
        let create = json!({
            "key": ByteString(prefix.clone().into_bytes()),
            "range_end": ByteString(end.into_bytes()),
            "start_revision": "1",
        });
        let body = json!({ "create_request": create }).to_string();
        let mut revisions = Vec::new();
        for line in self.ask_store("/v3/watch", &body)? {
            let Message { result } = serde_json::from_str(&line?).context("reading etcd")?;
            if result.canceled {
                bail!("etcd has forgotten the first revisions of {prefix}");
            }
            for Event { kv } in result.events {
                let key = String::from_utf8(kv.key.0)?;
                let name = key.strip_prefix(&prefix).context("another key")?;
                if name == until {
                    return Ok(revisions);
                }
                let object = kv.value.map(|it| serde_json::from_slice(&it.0));
                revisions.push(Revision {
                    name: name.to_owned(),
                    object: object.transpose().context("not JSON")?,
                });
            }
        }
        bail!("etcd told nothing of {prefix}{until}")
    }

    /// The lines of etcd's response, as they arrive.
    fn ask_store(
        &self,
        path: &str,
        body: &str,
    ) -> Result<impl Iterator<Item = std::io::Result<String>>> {
        let address = STORE.trim_start_matches("http://");
        let mut stream = self.host.run(|| TcpStream::connect(address))?;
        stream.set_read_timeout(Some(LIMIT))?;
        // HTTP/1.0 has no chunked encoding.
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut lines = BufReader::new(stream).lines();
        let status = lines.next().context("no answer")??;
        if !status.contains(" 200 ") {
            bail!("etcd answers {status}");
        }
        while !lines.next().context("no body")??.is_empty() {}
        Ok(lines)
    }
}

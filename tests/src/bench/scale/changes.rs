//! From the address of a Service at the API server to the entry in a node's map.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::oneshot;

use super::{Row, Vips, objects, quiet, times};
use crate::kube::{Identity, Site};

/// Services that get an address, one after the other.
const CHANGES: usize = 200;
/// The interval between reads of the maps.
const LOOK: Duration = Duration::from_micros(200);
/// More than a change takes.
const LIMIT: Duration = Duration::from_secs(10);

/// A VIP to look for, and the channel for the time it was found.
type Wanted = ([u8; 4], oneshot::Sender<Instant>);

/// Measures all rows.
pub(super) fn measure(site: &Site, vips: &[Vips], services: usize) -> Result<Vec<Row>> {
    let numbers = services..services + CHANGES;
    site.kube.client(Identity::Admin, async |client| {
        objects::write_services(&client, numbers.clone()).await
    })?;
    quiet(site)?;
    let (looked_for, wanted) = mpsc::channel();
    let (mut written, mut answered) = thread::scope(|scope| {
        let look = scope.spawn(move || look(vips, &wanted));
        let times = site.kube.client(Identity::Admin, async |client| {
            let services = Api::<Service>::default_namespaced(client);
            let (mut written, mut answered) = (Vec::new(), Vec::new());
            for number in numbers {
                // From the end of the pool, which the controller has not reached.
                let [.., high, low] = (number as u32).to_be_bytes();
                let vip = [10, 33, high, low];
                let (found, at) = oneshot::channel();
                let ingress = json!([{ "ip": std::net::Ipv4Addr::from(vip) }]);
                let status = json!({ "status": { "loadBalancer": { "ingress": ingress } } });
                let begun = Instant::now();
                looked_for.send((vip, found))?;
                let name = objects::service_name(number);
                let params = PatchParams::default();
                services
                    .patch_status(&name, &params, &Patch::Merge(status))
                    .await?;
                written.push(begun.elapsed().as_secs_f64() * 1e3);
                let at = at.await.context("nobody looks any more")?;
                answered.push((at - begun).as_secs_f64() * 1e3);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop(looked_for);
            Ok((written, answered))
        });
        look.join().expect("it does not panic").and(times)
    })?;
    let written = times("status sent to stored", &mut written);
    let answered = times("status sent to answered", &mut answered);
    Ok(written.into_iter().chain(answered).collect())
}

/// Finds VIPs in the maps.
fn look(vips: &[Vips], wanted: &mpsc::Receiver<Wanted>) -> Result<()> {
    for (vip, found) in wanted {
        let begun = Instant::now();
        while !vips.iter().any(|node| node.answers(vip)) {
            if begun.elapsed() > LIMIT {
                bail!("nobody answers for {vip:?}");
            }
            thread::sleep(LOOK);
        }
        // If the receiver is gone, the measurement has failed.
        let _ = found.send(Instant::now());
    }
    Ok(())
}

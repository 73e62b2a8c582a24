//! Whatever users and machines do, no address is on two Services that may not share it.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, iter,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use speaker_tests::{
    kube::{
        Identity, Revision, Site, objects,
        site::{NAMESPACE, WEB},
    },
    lab::{self, Process},
    wait::wait_until,
};

use crate::{SOON, controller::controller};

/// Changes what is tried; a failure says which it was.
const SEED: &str = "SPEAKER_TEST_SEED";
/// The maximum number of Services, with four addresses of each family.
const SERVICES: u8 = 9;
/// The one created last.
const END: &str = "end";

/// Who is frozen, and for how many seconds: for a moment, or for longer than the Lease lasts or the
/// controller waits for an answer, so that its request is carried out after all.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Leader(u64),
    Etcd(u64),
    ApiServer(u64),
}

#[test]
fn two_services_never_have_an_address_that_they_may_not_share() {
    lab::test(|lab| {
        let seed = env::var(SEED).map_or(Ok(1), |seed| seed.parse())?;
        let mut random = Rng::with_seed(seed);
        let mut site = Site::new(lab, 0)?;
        let mut controllers = [
            controller(&site, "first", 7472)?,
            controller(&site, "second", 7473)?,
        ];
        site.apply_pool("lan", &["10.0.0.0/30", "fd00::/126"])?;
        let mut troubles = match random.bool() {
            true => [Trouble::Etcd(12), Trouble::ApiServer(2)],
            false => [Trouble::Etcd(2), Trouble::ApiServer(12)],
        }
        .to_vec();
        troubles.extend([17, 1, 1].map(Trouble::Leader));
        random.shuffle(&mut troubles);
        for trouble in troubles {
            change(&site, &mut random)?;
            // While its consequences are under way.
            befall(trouble, &mut site, &mut controllers, &mut random)
                .with_context(|| format!("{SEED}={seed}: {trouble:?}"))?;
        }
        change(&site, &mut random)?;
        all_is_well_in_the_end(&site).with_context(|| format!("{SEED}={seed}"))?;
        site.kube.apply(&objects::service(END, &WEB))?;
        let history = site.kube.history("services/specs", "default", END)?;
        let Tally { given, shared } = judge(&history).with_context(|| format!("{SEED}={seed}"))?;
        println!("{given} addresses given, {shared} of them shared");
        ensure!(given > 30 && shared > 0, "{SEED}={seed}: nothing was tried");
        Ok(())
    });
}

/// For a moment, users create, change and delete Services.
fn change(site: &Site, random: &mut Rng) -> Result<()> {
    let mut number = 0;
    let changes = iter::repeat_with(|| {
        // The same one again while the controller handles it, or another one.
        if random.bool() {
            number = random.u8(0..SERVICES);
        }
        let service = (random.u8(0..3) > 0).then(|| service(number, random));
        let pause = Duration::from_millis([0, 0, 0, 200][random.usize(0..4)]);
        (name(number), service, pause)
    });
    let changes: Vec<_> = changes.take(30).collect();
    site.kube.client(Identity::Admin, async |client| {
        let services = Api::<Service>::namespaced(client, "default");
        for (name, service, pause) in changes {
            let changed = match service {
                None => services
                    .delete(&name, &DeleteParams::default())
                    .await
                    .map(drop),
                Some(service) => {
                    let (apply, service) = (PatchParams::apply("users"), Patch::Apply(service));
                    services
                        .patch(&name, &apply.force(), &service)
                        .await
                        .map(drop)
                }
            };
            match changed {
                // It is gone, or somebody else was faster: fine.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => (),
                changed => changed?,
            }
            tokio::time::sleep(pause).await;
        }
        Ok(())
    })
}

fn name(number: u8) -> String {
    format!("web-{number}")
}

fn service(number: u8, random: &mut Rng) -> Value {
    let mut service = objects::service(&name(number), &[("TCP", random.u16(80..83), 8080)]);
    // The API server does not remove a family.
    let families = ["SingleStack", "PreferDualStack", "RequireDualStack"];
    service["spec"]["ipFamilyPolicy"] = json!(families[usize::from(number % 3)]);
    service["spec"]["externalTrafficPolicy"] = json!(["Cluster", "Local"][random.usize(0..2)]);
    let mut annotations = json!({});
    if random.u8(0..3) > 0 {
        let key = ["one", "other"][random.usize(0..2)];
        annotations["metallb.io/allow-shared-ip"] = json!(key);
    }
    if random.bool() {
        let wish = format!("10.0.0.{}", random.u8(0..4));
        annotations["metallb.io/loadBalancerIPs"] = json!(wish);
    }
    service["metadata"]["annotations"] = annotations;
    service
}

fn befall(
    trouble: Trouble,
    site: &mut Site,
    controllers: &mut [Process; 2],
    random: &mut Rng,
) -> Result<()> {
    match trouble {
        Trouble::Leader(seconds) => {
            let lease = format!("lease speaker-controller --namespace={NAMESPACE}");
            let holder = site.kube.get(&lease)?["spec"]["holderIdentity"].take();
            let is_second = holder.as_str().is_some_and(|it| it.starts_with("second"));
            let leader = &mut controllers[usize::from(is_second)];
            let end = Instant::now() + Duration::from_secs(seconds);
            leader.freeze()?;
            while Instant::now() < end {
                change(site, random)?;
            }
            leader.thaw()
        }
        Trouble::Etcd(seconds) => {
            site.kube.freeze_etcd()?;
            sleep(Duration::from_secs(seconds));
            site.kube.thaw_etcd()?;
            until_it_answers(site)
        }
        Trouble::ApiServer(seconds) => {
            site.kube.freeze_api()?;
            sleep(Duration::from_secs(seconds));
            site.kube.thaw_api()?;
            until_it_answers(site)
        }
    }
}

fn until_it_answers(site: &Site) -> Result<()> {
    wait_until("the API server", SOON, || {
        let annotate = ["annotate", "--overwrite", "namespace", "default", "turn=on"];
        let annotate = site.kube.kubectl(annotate).arg("--request-timeout=2s");
        Ok(annotate.unheard().output()?.status.success())
    })
}

/// The relevant parts of a Service.
#[derive(Clone, Debug)]
struct State {
    addresses: BTreeSet<String>,
    shape: Shape,
}

/// What determines whether Services may share.
#[derive(Clone, Debug)]
struct Shape {
    key: Option<String>,
    port: Value,
    policy: Value,
}

impl State {
    fn read(object: &Value) -> Self {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let ingress = object["status"]["loadBalancer"]["ingress"].as_array();
        Self {
            addresses: ingress
                .into_iter()
                .flatten()
                .filter_map(|it| text(&it["ip"]))
                .collect(),
            shape: Shape {
                key: text(&metadata["annotations"]["metallb.io/allow-shared-ip"]),
                port: spec["ports"][0]["port"].clone(),
                policy: spec["externalTrafficPolicy"].clone(),
            },
        }
    }
}

impl Shape {
    /// None of these Services has a selector, so all with policy Local are alike.
    fn may_share(&self, other: &Self) -> bool {
        self.key.is_some()
            && self.key == other.key
            && self.port != other.port
            && self.policy == other.policy
    }
}

/// The users' last changes are respected: no two Services share an address that may not.
fn all_is_well_in_the_end(site: &Site) -> Result<()> {
    let mut services = Vec::new();
    let so = wait_until("nobody to share what may not be shared", SOON, || {
        let list = site.kube.get("services --namespace=default")?;
        let items = list["items"].as_array().context("a list")?;
        services = items.iter().map(State::read).collect();
        let mut pairs = services
            .iter()
            .enumerate()
            .flat_map(|(number, one)| services[..number].iter().map(move |other| (one, other)));
        Ok(pairs.all(|(one, other)| {
            one.addresses.is_disjoint(&other.addresses) || one.shape.may_share(&other.shape)
        }))
    });
    so.with_context(|| format!("{services:#?}"))
}

/// How many addresses were assigned, and how many of them were shared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    given: usize,
    shared: usize,
}

/// Checks each revision that has an address which its predecessor lacked.
///
/// The controller writes on condition that the Service is unchanged. Another Service with the
/// address may be changed by its user at the same moment: any of its versions since it has
/// addresses will do.
fn judge(revisions: &[Revision]) -> Result<Tally> {
    let mut now: BTreeMap<&str, (State, Vec<Shape>)> = BTreeMap::new();
    let mut tally = Tally::default();
    for Revision { name, object } in revisions {
        let before = now.remove(&**name);
        let Some(object) = object else {
            continue;
        };
        let service = State::read(object);
        let (had, mut shapes) = before.map_or_else(Default::default, |(before, shapes)| {
            (before.addresses, shapes)
        });
        for address in service.addresses.difference(&had) {
            tally.given += 1;
            for (other, (it, shapes)) in &now {
                if !it.addresses.contains(address) {
                    continue;
                }
                if !shapes.iter().any(|shape| service.shape.may_share(shape)) {
                    bail!("{address} is given to {name}, and {other} has it: {service:?}, {it:?}");
                }
                tally.shared += 1;
            }
        }
        if had.is_empty() {
            shapes.clear();
        }
        shapes.push(service.shape.clone());
        now.insert(name, (service, shapes));
    }
    Ok(tally)
}

#[test]
fn an_address_on_two_services_is_noticed() {
    let revision = |name: &str, key: Option<&str>, port: u16| {
        let mut object = objects::service(name, &[("TCP", port, 8080)]);
        object["metadata"]["annotations"] = json!({ "metallb.io/allow-shared-ip": key });
        object["status"]["loadBalancer"]["ingress"] = json!([{ "ip": "10.0.0.1" }]);
        let object = Some(object);
        Revision {
            name: name.to_owned(),
            object,
        }
    };
    let one = || revision("one", Some("k"), 80);
    let both = judge(&[one(), revision("two", Some("k"), 81)]).unwrap();
    assert_eq!(
        both,
        Tally {
            given: 2,
            shared: 1
        }
    );
    for (key, port) in [(Some("k"), 80), (Some("l"), 81), (None, 81)] {
        let other = || revision("two", key, port);
        assert!(judge(&[one(), other()]).is_err(), "{key:?}, {port}");
        let gone = Revision {
            name: "one".to_owned(),
            object: None,
        };
        assert!(judge(&[one(), gone, other()]).is_ok());
    }
}

//! Random changes, checked against the rules without an index.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::{
    allocate::{
        Family, FamilyPolicy,
        testing::{allocating, ips, labels, name, pool, service},
    },
    intent::{AllocationRule, Selector},
};

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    Service(Service),
    Delete(u8),
    Pool(u8, Option<Pool>),
    Namespace(u8, bool),
    /// All decisions have been written to the statuses, and are seen there.
    Write,
    /// The controller restarts, and reads all objects in another order.
    Restart,
}

fn a_service() -> impl Strategy<Value = Service> {
    let wish = select(vec![
        "",
        "",
        "",
        "10.0.0.1",
        "10.0.1.0",
        "fd00::1",
        "10.0.0.1 fd00::1",
    ]);
    let policy = select(vec![
        FamilyPolicy::SingleStack,
        FamilyPolicy::PreferDualStack,
        FamilyPolicy::RequireDualStack,
    ]);
    let families = select(vec![
        vec![Family::V4],
        vec![Family::V6],
        vec![Family::V4, Family::V6],
        vec![Family::V6, Family::V4],
    ]);
    let sharing = (
        select(vec!["", "", "k", "l"]),
        select(vec!["TCP/1", "TCP/2", "TCP/1 UDP/1"]),
    );
    let of_pool = select(vec![None, None, None, Some("p0"), Some("p1")]);
    let shape = (families, policy, wish, sharing, of_pool);
    let local = select(vec!["", "", "app=x", "app=y"]);
    (0..8_u8, 0..5_i64, 0..20_u8, any::<bool>(), local, shape).prop_map(
        |(n, created, foreign, is_gold, local, (families, policy, wish, (key, ports), of_pool))| {
            let mut it = service(&format!("ns{}/s{n}", n % 2))
                .created(created)
                .asking(wish);
            it.is_ours = foreign > 0;
            it.families = families;
            it.policy = policy;
            it.pool = of_pool.map(str::to_owned);
            it.sharing.backend = local.to_owned();
            it.labels = labels(if is_gold { "tier=gold" } else { "" });
            it.sharing(key, ports)
        },
    )
}

fn a_pool() -> impl Strategy<Value = (u8, Option<Pool>)> {
    let lists = [
        vec![
            "10.0.0.0/31",
            "10.0.0.0-10.0.0.2 fd00::/127",
            "fd00::/126",
            "10.0.0.1/32",
        ],
        vec![
            "10.0.1.0/31",
            "10.0.0.255-10.0.1.1 fd01::/128",
            "10.0.0.1-10.0.0.2",
        ],
    ];
    (
        0..2_u8,
        any::<bool>(),
        any::<bool>(),
        0..6_u8,
        0..3_i64,
        0..8_usize,
    )
        .prop_map(move |(n, auto_assign, avoid_buggy, rule, priority, list)| {
            let list = lists[usize::from(n)].get(list)?.to_owned();
            let selecting = |text| vec![Selector::by_labels(labels(text)).unwrap()];
            let rule = (rule < 3).then(|| AllocationRule {
                priority,
                namespaces: (rule == 0).then(|| "ns0".to_owned()).into_iter().collect(),
                namespace_selectors: if rule == 1 {
                    selecting("team=web")
                } else {
                    Vec::new()
                },
                service_selectors: if rule == 2 {
                    selecting("tier=gold")
                } else {
                    Vec::new()
                },
            });
            let pool = allocating(pool(&format!("p{n}"), list), |it| {
                it.auto_assign = auto_assign;
                it.avoid_buggy = avoid_buggy;
                it.rule = rule;
            });
            Some((n, Some(pool)))
        })
        .prop_map(|it| it.unwrap_or((0, None)))
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => a_service().prop_map(Step::Service),
        2 => (0..8_u8).prop_map(Step::Delete),
        2 => a_pool().prop_map(|(n, pool)| Step::Pool(n, pool)),
        1 => (0..2_u8, any::<bool>()).prop_map(|(n, is_web)| Step::Namespace(n, is_web)),
        6 => Just(Step::Write),
        1 => Just(Step::Restart),
    ]
}

/// All objects, and the index under test.
#[derive(Default)]
struct Model {
    services: BTreeMap<ObjectName, Service>,
    pools: BTreeMap<u8, Pool>,
    namespaces: BTreeMap<String, Labels>,
    index: Allocator,
}

impl Model {
    fn step(&mut self, step: Step) {
        match step {
            Step::Service(new) => {
                let old = self.services.get(&new.name);
                let new = Service {
                    shown: old.map(|it| it.shown.clone()).unwrap_or_default(),
                    // It cannot be changed.
                    created: old.map_or(new.created, |it| it.created),
                    is_ours: old.map_or(new.is_ours, |it| it.is_ours),
                    ..new
                };
                self.index.apply(new.clone());
                self.services.insert(new.name.clone(), new);
            }
            Step::Delete(n) => {
                let of = name(&format!("ns{}/s{n}", n % 2));
                self.services.remove(&of);
                self.index.delete(&of);
            }
            Step::Pool(n, Some(pool)) => {
                // Contradictions between pools are admission's own business.
                let is_alone = |it: &Pool| {
                    let ranges = it.addresses().iter();
                    ranges
                        .clone()
                        .all(|a| pool.addresses().iter().all(|b| !a.overlaps(b)))
                };
                if self.pools.iter().all(|(of, it)| *of == n || is_alone(it)) {
                    self.index.apply_pool(pool.clone());
                    self.pools.insert(n, pool);
                }
            }
            Step::Pool(n, None) => {
                self.pools.remove(&n);
                self.index
                    .delete_pool(&ObjectName::new("speaker-system", format!("p{n}")));
            }
            Step::Namespace(n, is_web) => {
                let labels = labels(if is_web { "team=web" } else { "" });
                self.index.apply_namespace(format!("ns{n}"), labels.clone());
                self.namespaces.insert(format!("ns{n}"), labels);
            }
            Step::Write => {
                self.index.write_all();
                self.read_back();
            }
            Step::Restart => {
                self.index.write_all();
                self.read_back();
                let mut anew = Allocator::default();
                let mut services: Vec<_> = self.services.values().cloned().collect();
                services.rotate_left(self.services.len() / 2);
                services.into_iter().for_each(|it| anew.apply(it));
                let namespaces = self.namespaces.clone().into_iter();
                namespaces.for_each(|(name, labels)| anew.apply_namespace(name, labels));
                self.pools
                    .values()
                    .for_each(|it| anew.apply_pool(it.clone()));
                self.index = anew;
            }
        }
        self.index.settle();
    }

    fn read_back(&mut self) {
        for (name, service) in &mut self.services {
            *service = self.index.service(name).unwrap().0.clone();
        }
    }

    fn outcome(&self, of: &Service) -> &Outcome {
        self.index.service(&of.name).unwrap().1
    }

    /// The other Services that have this address, or have been assigned it.
    fn others(&self, of: &Service, address: IpAddr) -> impl Iterator<Item = &Service> {
        let has = move |it: &&Service| {
            it.shown.contains(&address) || self.outcome(it).addresses.contains(&address)
        };
        let name = of.name.clone();
        self.services
            .values()
            .filter(move |it| it.name != name)
            .filter(has)
    }

    fn all_addresses(pool: &Pool) -> impl Iterator<Item = IpAddr> + '_ {
        let candidates = "10.0.0.0 10.0.0.1 10.0.0.2 10.0.0.255 10.0.1.0 10.0.1.1 fd00:: fd00::1 \
                          fd00::2 fd00::3 fd01::";
        let holds = |it: &IpAddr| {
            let ranges = pool.addresses().iter();
            ranges
                .clone()
                .any(|range| range.first() <= *it && *it <= range.last())
        };
        ips(candidates).into_iter().filter(holds)
    }

    /// Whether the Service may have these addresses, by itself and the pools alone.
    fn is_valid(&self, service: &Service, addresses: &[IpAddr]) -> bool {
        let families: Vec<_> = addresses.iter().map(|it| Family::of(*it)).collect();
        let wanted = &service.families;
        let are_families_right = match service.policy {
            FamilyPolicy::SingleStack => families == wanted[..1],
            FamilyPolicy::PreferDualStack => {
                families.iter().all(|it| wanted.contains(it))
                    && (families.len() == 1 || families.len() == 2 && families[0] != families[1])
            }
            FamilyPolicy::RequireDualStack => {
                wanted.len() == 2 && families.len() == 2 && families[0] != families[1]
            }
        };
        let requested = service.requested.as_ref().unwrap();
        let is_requested = requested.is_empty()
            || requested.len() == addresses.len()
                && requested.iter().all(|it| addresses.contains(it));
        let no_labels = Labels::new();
        let namespace = self
            .namespaces
            .get(&service.name.namespace)
            .unwrap_or(&no_labels);
        let of_pool =
            |pool: &&Pool| {
                addresses
                    .iter()
                    .all(|it| Self::all_addresses(pool).any(|of| of == *it) && !pool.avoids(*it))
                    && service
                        .pool
                        .as_ref()
                        .is_none_or(|it| *it == pool.name().name)
                    && pool.allocation().rule.as_ref().is_none_or(|it| {
                        it.admits(&service.name.namespace, namespace, &service.labels)
                    })
            };
        are_families_right && is_requested && self.pools.values().any(|it| of_pool(&it))
    }

    /// Addresses that the Service could be given.
    fn possible(&self, service: &Service) -> Option<Vec<IpAddr>> {
        let is_asking = service.pool.is_some() || !service.requested.as_ref().unwrap().is_empty();
        let pools = self
            .pools
            .values()
            .filter(|it| is_asking || it.allocation().auto_assign);
        let mut choices = Vec::new();
        for pool in pools {
            let addresses: Vec<_> = Self::all_addresses(pool).collect();
            choices.extend(addresses.iter().map(|it| vec![*it]));
            for one in &addresses {
                choices.extend(addresses.iter().map(|other| vec![*one, *other]));
            }
        }
        choices.into_iter().find(|choice| {
            self.is_valid(service, choice)
                && choice.iter().all(|address| {
                    self.others(service, *address)
                        .all(|it| may_share(service, it).is_ok())
                })
        })
    }

    fn check(&self, before: &BTreeMap<ObjectName, Vec<IpAddr>>) -> Result<(), TestCaseError> {
        for service in self.services.values().filter(|it| it.is_ours) {
            let outcome = self.outcome(service);
            let has = &outcome.addresses;
            if has.is_empty() {
                let possible = self.possible(service);
                prop_assert_eq!(&possible, &None, "{} waits", service.name);
                prop_assert!(outcome.missing.is_some());
                continue;
            }
            prop_assert!(self.is_valid(service, has), "{} has {has:?}", service.name);
            for &address in has {
                for other in self.others(service, address).filter(|it| it.is_ours) {
                    if self.outcome(other).addresses.contains(&address) {
                        let shared = may_share(service, other);
                        prop_assert!(shared.is_ok(), "{} and {}", service.name, other.name);
                    } else if !service.shown.contains(&address) {
                        // An address that another Service still has goes to nobody.
                        prop_assert!(may_share(service, other).is_ok(), "{}", service.name);
                    }
                }
            }
        }
        // An address that a Service had and may keep stays, unless an older Service has it too.
        for service in self.services.values().filter(|it| it.is_ours) {
            let Some(had) = before.get(&service.name).filter(|it| !it.is_empty()) else {
                continue;
            };
            let rank = |it: &Service| (it.created, it.name.clone());
            let is_contested = had.iter().any(|address| {
                self.others(service, *address).any(|it| {
                    it.is_ours && rank(it) < rank(service) && may_share(service, it).is_err()
                })
            });
            if *had == service.shown && self.is_valid(service, had) && !is_contested {
                let has = &self.outcome(service).addresses;
                prop_assert_eq!(
                    has.get(..had.len()),
                    Some(&had[..]),
                    "{} moved",
                    service.name
                );
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_sequence_of_changes_keeps_the_rules(steps in vec(a_step(), 1..60)) {
        let mut model = Model::default();
        for step in steps {
            let had = model.services.values().map(|it| (it.name.clone(), it.shown.clone()));
            let had = had.collect();
            model.step(step);
            model.check(&had)?;
        }
    }

    /// The order in which objects arrive does not matter.
    #[test]
    fn the_same_objects_have_the_same_outcome_in_any_order(
        services in vec(a_service(), 0..8),
        pools in vec(a_pool(), 0..3),
        turn in 0..8_usize,
    ) {
        let build = |turn: usize| {
            let mut model = Model::default();
            let mut steps: Vec<_> = services.iter().cloned().map(Step::Service).collect();
            // Versions of one object stay in order: only different objects are reordered.
            steps.sort_by_key(|it| match it {
                Step::Service(it) => it.name.clone(),
                _ => unreachable!("there are only Services"),
            });
            steps.dedup_by_key(|it| match it {
                Step::Service(it) => it.name.clone(),
                _ => unreachable!("there are only Services"),
            });
            let count = steps.len().max(1);
            steps.rotate_left(turn % count);
            for step in steps {
                if let Step::Service(it) = step {
                    model.index.apply(it.clone());
                    model.services.insert(it.name.clone(), it);
                }
            }
            // All pools are known before anything is decided.
            for (n, pool) in pools.clone() {
                if let Some(pool) = pool {
                    model.index.apply_pool(pool);
                } else {
                    let name = ObjectName::new("speaker-system", format!("p{n}"));
                    model.index.delete_pool(&name);
                }
            }
            model.index.write_all();
            let names = model.services.keys();
            names.map(|it| model.index.service(it).unwrap().1.addresses.clone()).collect::<Vec<_>>()
        };
        prop_assert_eq!(build(0), build(turn));
    }
}

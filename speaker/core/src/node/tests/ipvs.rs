//! A VIP that the node's own kernel holds, as with kube-proxy in IPVS mode.

use super::*;

/// kube-proxy in IPVS mode puts every VIP on an interface of its own, of all nodes.
fn ipvs(address: &str) -> Link {
    Link {
        index: 9,
        name: "kube-ipvs0".into(),
        carrier: false,
        kind: Kind::Other("dummy".into()),
        addresses: BTreeSet::from([(address.parse().unwrap(), 32)]),
        ..eth0()
    }
}

fn refused(vip: &str) -> Wanted {
    let mut wanted = wanted(&[vip]);
    for vip in wanted.vips.values_mut() {
        vip.alike = Err(NotAnnounced::NoEndpoint);
    }
    wanted
}

#[test]
fn a_vip_in_the_nodes_kernel_is_silenced_where_it_may_not_be_owned() {
    let mut bench = Bench::new();
    bench.handle(refused("10.0.0.5")).expect(&[]);
    bench.handle(links([eth0(), ipvs("10.0.0.5")])).expect(&[
        "set link 2",
        "reset 0",
        "put 10.0.0.5 Suppress 0",
        "attach 2",
    ]);
}

#[test]
fn a_vip_that_may_not_be_owned_has_no_entry() {
    let mut bench = Bench::new();
    bench.handle(refused("10.0.0.5")).expect(&[]);
    bench.handle(links([eth0()])).expect(&[]);
    assert!(bench.state().contains("no endpoint"), "{}", bench.state());
}

#[test]
fn a_vip_in_the_nodes_kernel_is_silenced_on_unnamed_links() {
    let mut bench = Bench::new();
    let mut named = wanted(&["10.0.0.5"]);
    for vip in named.vips.values_mut() {
        vip.alike = Ok(Interfaces::Named(BTreeSet::from(["eth1".to_owned()])));
    }
    bench.handle(named);
    let eth1 = Link {
        index: 3,
        name: "eth1".into(),
        ..eth0()
    };
    bench.handle(links([eth0(), eth1, ipvs("10.0.0.5")]));
    let entry = |port| Entry {
        port,
        ..entry("10.0.0.5")
    };
    let actions = [2, 3].map(|port| bench.node.held.vips[&entry(port)].action);
    assert_eq!(actions, [Action::Suppress, Action::Answer]);
}

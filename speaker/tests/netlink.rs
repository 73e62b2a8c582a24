//! The watcher of links, against the kernel.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it is"
)]

mod common;

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use common::{cable, index, ip, isolated_async, skipped::skipped, try_ip};
use speaker::netlink::{Watch, set_vlan_stripping, watch};
use speaker_core::link::{Kind, Link, LinkChange};
use tokio::time::timeout;

/// Waits for a change that matches, and fails if none comes.
async fn until(watch: &mut Watch, what: &str, is: impl Fn(&LinkChange) -> bool) -> LinkChange {
    let changed = timeout(Duration::from_secs(60), async {
        loop {
            let change = watch.changes.recv().await.expect("the watch goes on");
            if is(&change) {
                return change;
            }
        }
    });
    changed.await.unwrap_or_else(|_| panic!("not seen: {what}"))
}

/// Waits until the link of this index matches.
async fn until_link(watch: &mut Watch, what: &str, index: u32, is: impl Fn(&Link) -> bool) -> Link {
    let is = |change: &LinkChange| matches!(change, LinkChange::Set(link) if link.index == index && is(link));
    match until(watch, what, is).await {
        LinkChange::Set(link) => link,
        LinkChange::Gone(_) | LinkChange::Missed => unreachable!(),
    }
}

fn named<'a>(links: &'a [Link], name: &str) -> &'a Link {
    links.iter().find(|link| link.name == name).unwrap()
}

#[test]
fn existing_links_are_listed_at_the_start() {
    isolated_async(|_| async {
        cable();
        ip("address add 192.0.2.1/24 dev port");
        ip("address add 2001:db8::1/64 dev port nodad");
        ip("link set port address 02:00:00:00:00:01 mtu 1400");
        let watch = watch().await.unwrap();
        assert_eq!(named(&watch.links, "lo").kind, Kind::Loopback);
        let port = named(&watch.links, "port");
        assert_eq!(port.index, index("port"));
        assert_eq!(port.mac, [2, 0, 0, 0, 0, 1]);
        assert_eq!((port.mtu, &port.kind), (1400, &Kind::Veth));
        assert!(port.admin_up && port.carrier);
        assert_eq!((port.master, port.xdp), (None, None));
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            port.addresses,
            BTreeSet::from([(address("192.0.2.1"), 24), (address("2001:db8::1"), 64)])
        );
    });
}

#[test]
fn a_link_appears_is_renamed_and_vanishes() {
    isolated_async(|_| async {
        let mut watch = watch().await.unwrap();
        ip("link add br0 type bridge");
        let index = index("br0");
        let link = until_link(&mut watch, "the bridge", index, |_| true).await;
        assert_eq!((link.name.as_str(), link.kind), ("br0", Kind::Bridge));
        ip("link set br0 name lan0");
        until_link(&mut watch, "its name", index, |link| link.name == "lan0").await;
        ip("link delete lan0");
        until(&mut watch, "its end", |change| {
            *change == LinkChange::Gone(index)
        })
        .await;
    });
}

#[test]
fn a_changed_mac_is_reported() {
    isolated_async(|_| async {
        cable();
        let mut watch = watch().await.unwrap();
        ip("link set port address 02:00:00:00:00:99");
        let mac = [2, 0, 0, 0, 0, 0x99];
        until_link(&mut watch, "the MAC", index("port"), |link| link.mac == mac).await;
    });
}

#[test]
fn carrier_goes_and_comes_with_the_peer() {
    isolated_async(|_| async {
        cable();
        let mut watch = watch().await.unwrap();
        let port = index("port");
        ip("link set peer down");
        let link = until_link(&mut watch, "the loss", port, |link| !link.carrier).await;
        assert!(link.admin_up);
        ip("link set peer up");
        until_link(&mut watch, "the carrier", port, |link| link.carrier).await;
        ip("link set port down");
        until_link(&mut watch, "the switching off", port, |link| !link.admin_up).await;
    });
}

#[test]
fn addresses_come_and_go() {
    isolated_async(|_| async {
        cable();
        let mut watch = watch().await.unwrap();
        let port = index("port");
        for (address, prefix) in [("192.0.2.1", 24), ("2001:db8::1", 64)] {
            ip(&format!("address add {address}/{prefix} dev port"));
            let it = (address.parse().unwrap(), prefix);
            until_link(&mut watch, address, port, |link| {
                link.addresses.contains(&it)
            })
            .await;
            ip(&format!("address delete {address}/{prefix} dev port"));
            until_link(&mut watch, address, port, |link| {
                !link.addresses.contains(&it)
            })
            .await;
        }
    });
}

#[test]
fn joining_and_leaving_a_bridge_is_a_change_of_master() {
    isolated_async(|_| async {
        cable();
        ip("link add br0 type bridge");
        let (port, bridge) = (index("port"), index("br0"));
        let mut watch = watch().await.unwrap();
        ip("link set port master br0");
        until_link(&mut watch, "the bridge", port, |link| {
            link.master == Some(bridge)
        })
        .await;
        ip("link set port nomaster");
        // The kernel also reports the port as deleted.
        let change = until(&mut watch, "its end", |change| match change {
            LinkChange::Set(link) => link.index == port && link.master.is_none(),
            LinkChange::Gone(_) => true,
            LinkChange::Missed => false,
        });
        assert!(matches!(change.await, LinkChange::Set(_)));
    });
}

#[test]
fn a_macvlan_names_its_parent() {
    isolated_async(|_| async {
        cable();
        let mut watch = watch().await.unwrap();
        ip("link add link port name mv0 type macvlan mode bridge");
        let link = until_link(&mut watch, "the macvlan", index("mv0"), |_| true).await;
        let parent = index("port");
        assert_eq!(link.kind, Kind::Macvlan { parent });
    });
}

/// Creates a VLAN or a bond; if this kernel has none, the test is skipped loudly.
fn can(arguments: &str) -> bool {
    let made = try_ip(arguments);
    if let Err(error) = &made {
        let elsewhere =
            "`cargo xtask kernels` tests agents on VLANs and bonds, on kernels that have them";
        skipped(&format!("ip {arguments}: {error}; {elsewhere}"), false);
    }
    made.is_ok()
}

#[test]
fn a_vlan_names_its_parent_its_number_and_its_tag() {
    isolated_async(|_| async {
        cable();
        let mut watch = watch().await.unwrap();
        let parent = index("port");
        for (protocol, id, service) in [("802.1Q", 100, false), ("802.1ad", 7, true)] {
            let make = format!("link add link port name v{id} type vlan protocol {protocol}");
            if !can(&format!("{make} id {id}")) {
                return;
            }
            let vlan = index(&format!("v{id}"));
            let link = until_link(&mut watch, protocol, vlan, |_| true).await;
            let kind = Kind::Vlan {
                parent,
                id,
                service,
            };
            assert_eq!(link.kind, kind);
        }
    });
}

#[test]
fn a_bond_names_the_member_that_it_sends_through() {
    isolated_async(|_| async {
        cable();
        let mut watch = watch().await.unwrap();
        if !can("link add bond0 type bond mode active-backup miimon 100") {
            return;
        }
        let (bond, port) = (index("bond0"), index("port"));
        ip("link set port down");
        ip("link set port master bond0");
        ip("link set bond0 up");
        until_link(&mut watch, "the member", port, |link| {
            link.master == Some(bond)
        })
        .await;
        let active = Kind::Bond { active: Some(port) };
        until_link(&mut watch, "its use", bond, |link| link.kind == active).await;
    });
}

#[test]
fn vlan_tag_stripping_is_reported_and_can_be_changed() {
    isolated_async(|_| async {
        cable();
        let mut watch = watch().await.unwrap();
        let port = index("port");
        assert!(named(&watch.links, "port").strips_vlan_tags);
        set_vlan_stripping("port", false).unwrap();
        until_link(&mut watch, "off", port, |link| !link.strips_vlan_tags).await;
        set_vlan_stripping("port", true).unwrap();
        until_link(&mut watch, "on", port, |link| link.strips_vlan_tags).await;
        let error = set_vlan_stripping("nowhere", true).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    });
}

#[test]
fn dropped_messages_are_reported_with_the_current_state() {
    isolated_async(|_| async {
        cable();
        let mut watch = watch().await.unwrap();
        // Nothing reads meanwhile, and these are more than the socket's buffer holds.
        let port = index("port");
        let mtus = 1000..6000;
        let last = mtus.end - 1;
        let batch: String = mtus
            .clone()
            .map(|mtu| format!("link set port mtu {mtu}\n"))
            .collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), batch).unwrap();
        ip(&format!("-batch {}", file.path().display()));
        let mut seen = 0;
        loop {
            let link = until_link(&mut watch, "the last MTU", port, |_| true).await;
            seen += 1;
            if link.mtu == last {
                break;
            }
        }
        assert!(seen < mtus.len(), "the kernel dropped none");
        until(&mut watch, "the loss", |change| {
            *change == LinkChange::Missed
        })
        .await;

        // Nothing older is reported after that.
        ip("link add next type bridge");
        let next = index("next");
        let outdated = |link: &Link| link.index == port && link.mtu != last;
        let next = until(&mut watch, "the next link", |change| match change {
            LinkChange::Set(link) => link.index == next || outdated(link),
            LinkChange::Gone(_) | LinkChange::Missed => false,
        });
        assert!(matches!(next.await, LinkChange::Set(link) if !outdated(&link)));
    });
}

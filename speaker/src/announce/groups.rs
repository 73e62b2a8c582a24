//! Joins the solicited-node groups of IPv6 VIPs.
//!
//! Solicitations go to `ff02::1:ffXX:XXXX`, the low 24 bits of the address (RFC 4291 §2.7.1). The
//! kernel is joined to that group so that the link's filter lets them in, and so that MLD tells
//! snooping switches: the program would never see the frame otherwise.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv6Addr,
};

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};
use speaker_common::wire::nd::solicited_node;
use thiserror::Error;

/// The group of `vip` could not be joined.
#[derive(Debug, Error)]
#[error(
    "cannot join {group}, the group of {vip}, on link {link}: {error}{}",
    hint(error)
)]
pub struct JoinError {
    vip: Ipv6Addr,
    group: Ipv6Addr,
    /// Interface index.
    link: u32,
    error: io::Error,
}

/// The groups that are joined, each for as long as a VIP needs it: VIPs with the same low 24 bits
/// share one. All are left when this is dropped, or the process ends.
///
/// A join or a leave takes the kernel some 20 µs, and 150 µs where the link has 10,000 groups: it
/// looks through the list of them.
#[derive(Debug, Default)]
pub struct Groups {
    joined: BTreeMap<Membership, Joined>,
    sockets: BTreeMap<u32, MemberSocket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Membership {
    link: u32,
    group: Ipv6Addr,
}

#[derive(Debug)]
struct Joined {
    socket: u32,
    vips: BTreeSet<Ipv6Addr>,
}

/// Never bound: it is a member, and receives nothing.
#[derive(Debug)]
struct MemberSocket {
    socket: Socket,
    memberships: usize,
    /// The kernel has refused another one.
    full: bool,
}

impl Groups {
    /// No groups yet. They are joined in the network namespace of the calling threads.
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins the group of `vip` on `link`, an interface index, unless another VIP there has.
    ///
    /// # Errors
    ///
    /// The link is gone, or has no IPv6, or the kernel is out of memory; nothing is joined then,
    /// and the call may be repeated.
    pub fn join(&mut self, vip: Ipv6Addr, link: u32) -> Result<(), JoinError> {
        let group = Ipv6Addr::from(solicited_node(&vip.octets()));
        let membership = Membership { link, group };
        if let Some(joined) = self.joined.get_mut(&membership) {
            joined.vips.insert(vip);
            return Ok(());
        }
        let socket = self.add(membership).map_err(|error| JoinError {
            vip,
            group,
            link,
            error,
        })?;
        let vips = BTreeSet::from([vip]);
        self.joined.insert(membership, Joined { socket, vips });
        Ok(())
    }

    /// Leaves the group of `vip` on `link`, unless another VIP there needs it.
    pub fn leave(&mut self, vip: Ipv6Addr, link: u32) {
        let group = Ipv6Addr::from(solicited_node(&vip.octets()));
        let membership = Membership { link, group };
        if let Some(joined) = self.joined.get_mut(&membership) {
            joined.vips.remove(&vip);
            if joined.vips.is_empty() {
                self.remove(membership);
            }
        }
    }

    /// `link` exists no more: forgets its groups, whose memory the kernel holds until it is told.
    /// On the link that takes its place, the VIPs are joined again.
    pub fn link_gone(&mut self, link: u32) {
        let of_link: Vec<_> = self
            .joined
            .keys()
            .filter(|membership| membership.link == link)
            .copied()
            .collect();
        for membership in of_link {
            self.remove(membership);
        }
    }

    /// Adds the membership to a socket that has room, and returns which. The memberships of one
    /// socket are limited by `net.core.optmem_max`: to 365 by the default of Linux before 6.8, to
    /// 2,340 since.
    fn add(&mut self, membership: Membership) -> io::Result<u32> {
        for (id, socket) in &mut self.sockets {
            if socket.full {
                continue;
            }
            match socket.join(membership) {
                Err(error) if is_full(&error) => socket.full = true,
                Err(error) => return Err(error),
                Ok(()) => return Ok(*id),
            }
        }
        let mut socket = MemberSocket {
            socket: Socket::new(Domain::IPV6, Type::DGRAM, None)?,
            memberships: 0,
            full: false,
        };
        socket.join(membership)?;
        let id = self
            .sockets
            .last_key_value()
            .map_or(0, |(last, _)| last + 1);
        self.sockets.insert(id, socket);
        Ok(id)
    }

    fn remove(&mut self, membership: Membership) {
        let Some(Joined { socket: id, .. }) = self.joined.remove(&membership) else {
            return;
        };
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        socket.leave(membership);
        if socket.memberships == 0 {
            self.sockets.remove(&id);
        }
    }
}

impl MemberSocket {
    fn join(&mut self, Membership { link, group }: Membership) -> io::Result<()> {
        self.socket.join_multicast_v6(&group, link)?;
        self.memberships += 1;
        Ok(())
    }

    fn leave(&mut self, Membership { link, group }: Membership) {
        // The membership of a link that has lost its IPv6, and with it its groups, is given back
        // with an error: it is as wanted.
        if let Err(error) = self.socket.leave_multicast_v6(&group, link) {
            tracing::debug!(%group, link, %error, "left a group that was not joined");
        }
        self.memberships -= 1;
        self.full = false;
    }
}

fn is_full(error: &io::Error) -> bool {
    [Errno::ENOMEM, Errno::ENOBUFS]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// What to do about an error.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOMEM | Errno::ENOBUFS) => {
            "; one socket has no room for one group: raise the sysctl net.core.optmem_max"
        }
        Some(Errno::EAFNOSUPPORT) => "; this kernel has no IPv6: use IPv4 addresses only",
        Some(Errno::EINVAL) => "; the link has no IPv6: its MTU may be below 1280",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, time::Instant};

    use super::{
        super::testing::{Pair, in_namespace, ip},
        *,
    };

    /// The solicited-node groups of a link, and how often each is joined.
    fn kernel(link: &str) -> BTreeMap<String, u32> {
        fs::read_to_string("/proc/thread-self/net/igmp6")
            .unwrap()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|fields| {
                fields[1] == link && fields[2].starts_with("ff0200000000000000000001ff")
            })
            .map(|fields| (fields[2][24..].to_owned(), fields[3].parse().unwrap()))
            .collect()
    }

    fn vip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// A pair without addresses: the kernel itself joins no solicited-node group there.
    fn bare_pair() -> Pair {
        let pair = Pair::new("near", "far");
        for name in ["near", "far"] {
            ip(&format!("link set dev {name} addrgenmode none"));
            ip(&format!("address flush dev {name}"));
        }
        assert_eq!(kernel("near"), BTreeMap::new());
        pair
    }

    fn many(count: u32) -> impl Iterator<Item = Ipv6Addr> {
        (0..count).map(|n| Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(n)))
    }

    #[test]
    fn vips_share_the_group_of_their_low_24_bits_until_the_last_leaves() {
        in_namespace(|| {
            let link = bare_pair().near;
            let mut groups = Groups::new();
            let [a, b, c] = ["2001:db8::12:3456", "2001:db8:1::12:3456", "2001:db8::1"].map(vip);
            for vip in [a, b, b, c] {
                groups.join(vip, link).unwrap();
            }
            let shared = ("ff123456".to_owned(), 1);
            let own = ("ff000001".to_owned(), 1);
            assert_eq!(
                kernel("near"),
                BTreeMap::from([shared.clone(), own.clone()])
            );
            assert_eq!(kernel("far"), BTreeMap::new());

            groups.leave(c, link);
            groups.leave(a, link);
            groups.leave(a, link);
            assert_eq!(kernel("near"), BTreeMap::from([shared]));
            groups.leave(b, link);
            assert_eq!(kernel("near"), BTreeMap::new());
            assert!(groups.sockets.is_empty(), "no socket is kept for nothing");
        });
    }

    #[test]
    fn ten_thousand_vips_are_joined_with_as_many_sockets_as_it_takes() {
        in_namespace(|| {
            let link = bare_pair().near;
            let mut groups = Groups::new();
            let started = Instant::now();
            for vip in many(10_000) {
                groups.join(vip, link).unwrap();
            }
            println!(
                "joined in {:?}, {} sockets",
                started.elapsed(),
                groups.sockets.len()
            );
            assert_eq!(kernel("near").len(), 10_000);
            drop(groups);
            assert_eq!(kernel("near").len(), 0);
        });
    }

    #[test]
    fn room_that_was_left_is_used_again() {
        in_namespace(|| {
            let link = bare_pair().near;
            let mut groups = Groups::new();
            let mut joined = many(100_000);
            while groups.sockets.len() < 2 {
                groups.join(joined.next().unwrap(), link).unwrap();
            }
            let full = groups.sockets[&0].memberships;
            assert!(groups.sockets[&0].full);
            for vip in many(10) {
                groups.leave(vip, link);
            }
            for vip in many(10) {
                groups.join(vip, link).unwrap();
            }
            assert_eq!(groups.sockets[&0].memberships, full);
            assert_eq!(groups.sockets.len(), 2);
            assert_eq!(kernel("near").len(), full + 1);
        });
    }

    #[test]
    fn a_link_that_comes_back_under_another_index_is_joined_again() {
        in_namespace(|| {
            let old = bare_pair().near;
            let mut groups = Groups::new();
            let a = vip("2001:db8::1");
            groups.join(a, old).unwrap();
            ip("link delete dev near");
            let error = groups.join(vip("2001:db8::2"), old).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "cannot join ff02::1:ff00:2, the group of 2001:db8::2, on link {old}: \
                     No such device (os error 19)"
                )
            );
            groups.link_gone(old);
            assert!(groups.sockets.is_empty());

            let new = bare_pair().near;
            assert_ne!(new, old);
            groups.join(a, new).unwrap();
            assert_eq!(kernel("near"), BTreeMap::from([("ff000001".to_owned(), 1)]));
        });
    }

    #[test]
    fn a_link_that_comes_back_under_the_same_index_is_joined_again() {
        in_namespace(|| {
            let link = bare_pair().near;
            let mut groups = Groups::new();
            let (a, b) = (vip("2001:db8::1"), vip("2001:db8::2"));
            groups.join(a, link).unwrap();
            groups.join(b, link).unwrap();
            ip("link delete dev near");
            ip(&format!(
                "link add name near index {link} type veth peer name far"
            ));
            ip("link set dev near addrgenmode none up");
            groups.link_gone(link);
            groups.join(a, link).unwrap();
            assert_eq!(kernel("near"), BTreeMap::from([("ff000001".to_owned(), 1)]));
        });
    }

    #[test]
    fn memberships_outlast_a_link_that_is_down_for_a_while() {
        in_namespace(|| {
            let link = bare_pair().near;
            let mut groups = Groups::new();
            groups.join(vip("2001:db8::1"), link).unwrap();
            ip("link set dev near down");
            groups.join(vip("2001:db8::2"), link).unwrap();
            ip("link set dev near up");
            assert_eq!(kernel("near").len(), 2);
        });
    }

    #[test]
    fn groups_that_a_small_mtu_has_taken_are_joined_again() {
        in_namespace(|| {
            let link = bare_pair().near;
            let mut groups = Groups::new();
            let a = vip("2001:db8::1");
            groups.join(a, link).unwrap();
            for left_before_it_is_raised in [true, false] {
                ip("link set dev near mtu 1000");
                assert_eq!(kernel("near"), BTreeMap::new());
                if left_before_it_is_raised {
                    groups.leave(a, link);
                    ip("link set dev near mtu 1500");
                } else {
                    ip("link set dev near mtu 1500");
                    groups.leave(a, link);
                }
                assert!(!kernel("near").contains_key("ff000001"));
                groups.join(a, link).unwrap();
                assert_eq!(kernel("near").get("ff000001"), Some(&1));
            }
        });
    }

    #[test]
    fn a_link_without_ipv6_is_told() {
        in_namespace(|| {
            let link = bare_pair().near;
            ip("link set dev near mtu 1000");
            let error = Groups::new().join(vip("2001:db8::1"), link).unwrap_err();
            assert!(
                error.to_string().ends_with("its MTU may be below 1280"),
                "{error}"
            );
        });
    }

    #[test]
    fn a_socket_without_room_for_one_group_says_which_sysctl_to_raise() {
        in_namespace(|| {
            const OPTMEM_MAX: &str = "/proc/sys/net/core/optmem_max";
            let link = bare_pair().near;
            if !fs::exists(OPTMEM_MAX).unwrap() {
                eprintln!("SKIPPED: before Linux 6.8, a namespace has no optmem_max of its own");
                return;
            }
            fs::write(OPTMEM_MAX, "16").unwrap();
            let error = Groups::new().join(vip("2001:db8::1"), link).unwrap_err();
            assert!(
                error
                    .to_string()
                    .ends_with("raise the sysctl net.core.optmem_max"),
                "{error}"
            );
        });
    }
}

//! Addresses of sockets on the command line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::peers::{HostName, PORT, Peer};

/// `ADDR:PORT`. Brackets may surround an address of either family, so that a manifest can say
/// `[$(HOST_IP)]:7472` without knowing which one a node has.
pub(super) fn with_port(text: &str) -> Result<SocketAddr, String> {
    let bracketed_ipv4 = || {
        let (ip, port) = text.strip_prefix('[')?.split_once("]:")?;
        let ip: Ipv4Addr = ip.parse().ok()?;
        Some(SocketAddr::new(ip.into(), port.parse().ok()?))
    };
    text.parse().ok().or_else(bracketed_ipv4).ok_or_else(|| {
        "expected an IP address with a port, such as 192.0.2.7:7472 or [2001:db8::7]:7472"
            .to_owned()
    })
}

/// `ADDR[:PORT]`; without a port, the usual one between nodes.
pub(super) fn of_node(text: &str) -> Result<SocketAddr, String> {
    if is_link_local(text) {
        return Err(
            "nodes cannot reach each other at link-local addresses, which need the name of an \
             interface of the node that uses them: give a global or unique local address"
                .to_owned(),
        );
    }
    let bracketed = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let without_port = || {
        let ip: IpAddr = bracketed.unwrap_or(text).parse().ok()?;
        Some(SocketAddr::new(ip, PORT))
    };
    with_port(text).ok().or_else(without_port).ok_or_else(|| {
        "expected an IP address, optionally with a port, such as 192.0.2.7 or [2001:db8::7]:7946"
            .to_owned()
    })
}

/// `HOST[:PORT]`: an address as in [`of_node`], or a host name.
pub(super) fn of_peer(text: &str) -> Result<Peer, String> {
    let named = || {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, PORT),
        };
        HostName::new(host, port).map(Peer::Name)
    };
    let address = match of_node(text) {
        Err(reason) if is_link_local(text) => return Err(reason),
        address => address.ok().map(Peer::Address),
    };
    address.or_else(named).ok_or_else(|| {
        "expected an IP address or a host name, optionally with a port, such as 192.0.2.7, \
         [2001:db8::7]:7946 or node-b.example:7946"
            .to_owned()
    })
}

/// Whether the address is one of fe80::/10, with or without a zone.
fn is_link_local(text: &str) -> bool {
    let ip = text.trim_start_matches('[').split(['%', ']']).next();
    let ip = ip.and_then(|ip| ip.parse::<Ipv6Addr>().ok());
    ip.is_some_and(|ip| ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_may_surround_either_family() {
        let check = |text: &str, expect: &str| {
            assert_eq!(with_port(text).unwrap().to_string(), expect);
            assert_eq!(of_node(text).unwrap().to_string(), expect);
        };
        check("192.0.2.7:99", "192.0.2.7:99");
        check("[192.0.2.7]:99", "192.0.2.7:99");
        check("[2001:db8::7]:99", "[2001:db8::7]:99");
        check("[::]:99", "[::]:99");
    }

    #[test]
    fn nodes_have_a_default_port() {
        let check = |text: &str, expect: &str| {
            assert_eq!(of_node(text).unwrap().to_string(), expect);
            assert!(with_port(text).is_err(), "{text}");
        };
        check("192.0.2.7", "192.0.2.7:7946");
        check("[192.0.2.7]", "192.0.2.7:7946");
        check("2001:db8::7", "[2001:db8::7]:7946");
        check("[2001:db8::7]", "[2001:db8::7]:7946");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "node-a",
            "node-a:99",
            "",
            "[]:99",
            "[192.0.2.7:99",
            "[192.0.2.7]99",
            "192.0.2.7]",
            "[[192.0.2.7]]:99",
            "[192.0.2.7]:65536",
        ] {
            assert!(with_port(text).is_err(), "{text}");
            assert!(of_node(text).is_err(), "{text}");
        }
    }

    #[test]
    fn link_local_addresses_of_nodes_are_refused() {
        for text in ["fe80::1", "fe80::1%eth0", "[fe80::1%2]:7946", "[fe80::1]"] {
            for refused in [of_node(text).map(drop), of_peer(text).map(drop)] {
                let why = refused.expect_err(text);
                assert!(why.contains("global or unique local"), "{text}: {why}");
            }
        }
    }

    #[test]
    fn a_peer_is_an_address_or_a_host_name() {
        for text in ["192.0.2.7", "2001:db8::7", "[2001:db8::7]:99"] {
            assert_eq!(of_peer(text), of_node(text).map(Peer::Address));
        }
        let named = |host, port| Ok(Peer::Name(HostName::new(host, port).unwrap()));
        assert_eq!(of_peer("node-b"), named("node-b", 7946));
        assert_eq!(of_peer("node-b.lan:99"), named("node-b.lan", 99));
        assert_eq!(of_peer("Node_B.example."), named("Node_B.example.", 7946));
        assert_eq!(of_peer("7.example"), named("7.example", 7946));
    }

    #[test]
    fn invalid_host_names_are_refused() {
        let long = "a".repeat(64);
        for text in [
            "",
            ".",
            ":99",
            "node-b:",
            "node-b:port",
            "node-b:65536",
            "node-b:1:2",
            "[node-b]",
            "[node-b]:99",
            "-node",
            "node-",
            "node..b",
            "node b",
            "http://node-b",
            "192.0.2",
            "192.0.2.256",
            "192.0.2.7/24",
            "7",
            &long,
        ] {
            let refused = of_peer(text).expect_err(text);
            assert!(refused.contains("a host name"), "{refused}");
        }
    }
}

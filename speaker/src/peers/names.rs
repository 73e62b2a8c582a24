//! Peers given by host name, and the look-ups of their names.

use std::{
    collections::BTreeSet,
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use speaker_core::cluster::Configured;
use tokio::{
    net::lookup_host,
    sync::mpsc,
    time::{sleep_until, timeout},
};
use tracing::{info, warn};

/// The time until the next look-up: if the name does not resolve, if the peer is not a member, and
/// if all is well.
const UNRESOLVED: Duration = Duration::from_secs(1);
const UNMET: Duration = Duration::from_secs(5);
const MET: Duration = Duration::from_secs(30);

/// Another node, as given by the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// By its address.
    Address(SocketAddr),
    /// By a name that is resolved while the agent runs.
    Name(HostName),
}

/// A host name and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    host: String,
    port: u16,
}

impl HostName {
    /// `None` if it is not a host name (RFC 1123 §2.1, and underscores, which resolvers accept).
    pub fn new(host: &str, port: u16) -> Option<Self> {
        let is_label = |label: &str| {
            let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            (1..=63).contains(&label.len())
                && label.chars().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let labels = host.strip_suffix('.').unwrap_or(host);
        // Resolvers read a name that ends with a number as an IPv4 address: `10.1` is 10.0.0.1.
        let last = labels.rsplit('.').next()?;
        let is_number = last.chars().all(|c| c.is_ascii_digit());
        let is_name = labels.len() <= 253 && labels.split('.').all(is_label) && !is_number;
        is_name.then(|| Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

/// What can happen to names.
#[derive(Debug)]
pub enum Lookup {
    /// Some are due to be looked up.
    Due,
    /// One has been looked up.
    Done(Answer),
}

/// The resolver's answer for a name.
#[derive(Debug)]
pub struct Answer {
    index: usize,
    result: io::Result<Vec<SocketAddr>>,
}

/// All peers, and the addresses of those given by name.
#[derive(Debug)]
pub struct Names {
    literal: Vec<SocketAddr>,
    named: Vec<Named>,
    /// Where this node listens, once known.
    own: Option<SocketAddr>,
    due: Instant,
    answers: (
        mpsc::UnboundedSender<Answer>,
        mpsc::UnboundedReceiver<Answer>,
    ),
}

#[derive(Debug)]
struct Named {
    name: HostName,
    /// The last addresses found.
    addresses: BTreeSet<SocketAddr>,
    /// When the last look-up began, and whether it is still going on.
    asked: Option<Instant>,
    is_pending: bool,
    /// The log says that the name cannot be resolved.
    is_reported: bool,
}

impl Names {
    /// All peers, before any look-up.
    pub fn new(peers: Vec<Peer>, now: Instant) -> Self {
        let mut names = Self {
            literal: Vec::new(),
            named: Vec::new(),
            own: None,
            due: now,
            answers: mpsc::unbounded_channel(),
        };
        for peer in peers {
            match peer {
                Peer::Address(address) => names.literal.push(address),
                Peer::Name(name) => names.named.push(Named {
                    name,
                    addresses: BTreeSet::new(),
                    asked: None,
                    is_pending: false,
                    is_reported: false,
                }),
            }
        }
        names
    }

    /// Sets where this node listens: it can only reach peers of the same family.
    pub fn listen(&mut self, own: SocketAddr) {
        self.own = Some(own);
        for named in &self.named {
            named.tell_if_unreachable(own);
        }
    }

    /// Looks up all names, and waits for the answers, but no longer than this.
    pub async fn look_up_first(&mut self, limit: Duration) {
        self.look_up(&BTreeSet::new(), Instant::now());
        let all = async {
            while self.named.iter().any(|named| named.is_pending) {
                if let Some(answer) = self.answers.1.recv().await {
                    self.learn(answer);
                }
            }
        };
        // Later answers come through `next`.
        let _ = timeout(limit, all).await;
    }

    /// The next thing that happens.
    pub async fn next(&mut self) -> Lookup {
        if self.named.is_empty() {
            std::future::pending::<()>().await;
        }
        let due = sleep_until(self.due.into());
        tokio::select! {
            Some(answer) = self.answers.1.recv() => Lookup::Done(answer),
            () = due => Lookup::Due,
        }
    }

    /// Starts the look-ups that are due. `members`: the addresses of the members.
    pub fn look_up(&mut self, members: &BTreeSet<SocketAddr>, now: Instant) {
        for (index, named) in self.named.iter_mut().enumerate() {
            if named.is_pending || now < named.due(members).unwrap_or(now) {
                continue;
            }
            named.asked = Some(now);
            named.is_pending = true;
            let HostName { host, port } = named.name.clone();
            let answers = self.answers.0.clone();
            tokio::spawn(async move {
                let result = lookup_host((host, port)).await.map(Iterator::collect);
                // An error means that the agent has ended.
                let _ = answers.send(Answer { index, result });
            });
        }
        self.due = now + UNRESOLVED;
    }

    /// Handles an answer. Returns whether a peer's addresses have changed.
    pub fn learn(&mut self, Answer { index, result }: Answer) -> bool {
        let named = &mut self.named[index];
        named.is_pending = false;
        let name = &named.name;
        let addresses = match result {
            Ok(addresses) => BTreeSet::from_iter(addresses),
            Err(error) => {
                if !named.is_reported {
                    warn!(
                        "cannot resolve {name} (--peer): {error}; trying again every second: check \
                         the name, /etc/hosts and DNS"
                    );
                }
                named.is_reported = true;
                return false;
            }
        };
        named.is_reported = false;
        if named.addresses == addresses {
            return false;
        }
        let list: Vec<String> = addresses.iter().map(|it| it.ip().to_string()).collect();
        info!("{name} (--peer) resolves to {}", list.join(", "));
        named.addresses = addresses;
        if let Some(own) = self.own {
            named.tell_if_unreachable(own);
        }
        true
    }

    /// Whether any peer is given by name.
    pub fn is_needed(&self) -> bool {
        !self.named.is_empty()
    }

    /// All known addresses: those given as such, then those of names.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let named = self.named.iter().flat_map(|named| &named.addresses);
        // A node's own name is often one of 127.0.0.0/8 in its own /etc/hosts.
        let named = named.filter(|address| !address.ip().is_loopback());
        self.literal.iter().chain(named).copied()
    }

    /// The peers, with the addresses that this node can reach.
    pub fn configured(&self) -> Configured {
        let literal = self.literal.iter().map(|peer| BTreeSet::from([*peer]));
        let named = self.named.iter().map(|named| match self.own {
            Some(own) => named.reachable(own),
            None => named.addresses.clone(),
        });
        literal.chain(named).collect()
    }
}

impl Named {
    /// When to look it up again; `None`: at once.
    fn due(&self, members: &BTreeSet<SocketAddr>) -> Option<Instant> {
        let pause = if self.addresses.is_empty() || self.is_reported {
            UNRESOLVED
        } else if self.addresses.is_disjoint(members) {
            UNMET
        } else {
            MET
        };
        self.asked.map(|asked| asked + pause)
    }

    /// The addresses that a socket at `own` can send to.
    fn reachable(&self, own: SocketAddr) -> BTreeSet<SocketAddr> {
        let is_loopback = |ip: IpAddr| ip.is_loopback() && !own.ip().is_loopback();
        let addresses = self.addresses.iter().copied();
        addresses
            .filter(|address| address.is_ipv4() == own.is_ipv4())
            .map(|it| if is_loopback(it.ip()) { own } else { it })
            .collect()
    }

    fn tell_if_unreachable(&self, own: SocketAddr) {
        if !self.addresses.is_empty() && self.reachable(own).is_empty() {
            let (name, ip) = (&self.name, own.ip());
            let family = if own.is_ipv4() { "IPv4" } else { "IPv6" };
            warn!(
                "{name} (--peer) has no {family} address, and so cannot be reached from {ip}: set \
                 --gossip-bind to an address of the other family on all nodes, or give {name} one"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "192.0.2.1:7946";

    fn sockets(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|it| it.parse().unwrap()).collect()
    }

    /// A node at `OWN` with these names as peers.
    fn told(peers: &[&str]) -> Names {
        let named = |host: &&str| Peer::Name(HostName::new(host, 7946).unwrap());
        let mut names = Names::new(peers.iter().map(named).collect(), Instant::now());
        names.listen(OWN.parse().unwrap());
        names
    }

    impl Names {
        fn found(&mut self, index: usize, addresses: &[&str]) -> bool {
            let result = Ok(sockets(addresses));
            self.learn(Answer { index, result })
        }

        fn failed(&mut self, index: usize) -> bool {
            let result = Err(io::Error::other("no such host"));
            self.learn(Answer { index, result })
        }

        fn check(&self, expect: &[&[&str]]) {
            let peer = |addresses: &&[&str]| BTreeSet::from_iter(sockets(addresses));
            let expect: Configured = expect.iter().map(peer).collect();
            assert_eq!(self.configured(), expect);
        }
    }

    #[test]
    fn a_peer_is_at_all_addresses_of_its_name_that_this_node_can_reach() {
        let mut names = told(&["node-b", "node-c"]);
        names.check(&[&[], &[]]);
        assert!(names.found(
            0,
            &["192.0.2.2:7946", "[2001:db8::2]:7946", "198.51.100.2:7946"]
        ));
        assert!(names.found(1, &["[2001:db8::3]:7946"]));
        names.check(&[&["192.0.2.2:7946", "198.51.100.2:7946"], &[]]);
    }

    #[test]
    fn a_name_of_the_loopback_address_is_this_nodes_own() {
        let mut names = told(&["node-a"]);
        assert!(names.found(0, &["127.0.1.1:7946"]));
        names.check(&[&[OWN]]);
        assert_eq!(names.addresses().count(), 0);
    }

    #[test]
    fn the_last_addresses_stay_in_use_while_a_name_cannot_be_resolved() {
        let mut names = told(&["node-b"]);
        assert!(!names.failed(0));
        names.check(&[&[]]);
        assert!(names.found(0, &["192.0.2.2:7946"]));
        assert!(!names.failed(0));
        names.check(&[&["192.0.2.2:7946"]]);
        assert!(!names.found(0, &["192.0.2.2:7946"]));
        assert!(names.found(0, &["192.0.2.3:7946"]));
        names.check(&[&["192.0.2.3:7946"]]);
    }

    #[test]
    fn a_name_is_looked_up_more_often_while_its_peer_is_missing() {
        let mut names = told(&["node-b"]);
        let now = Instant::now();
        names.named[0].asked = Some(now);
        let pause = |names: &Names, members: &[&str]| {
            let members = sockets(members).into_iter().collect();
            names.named[0].due(&members).unwrap() - now
        };
        assert_eq!(pause(&names, &[]), UNRESOLVED);
        names.found(0, &["192.0.2.2:7946"]);
        assert_eq!(pause(&names, &["192.0.2.3:7946"]), UNMET);
        assert_eq!(pause(&names, &["192.0.2.2:7946"]), MET);
        names.failed(0);
        assert_eq!(pause(&names, &["192.0.2.2:7946"]), UNRESOLVED);
    }
}

mod groups;
mod ipvs;
mod links;
mod ownership;
mod programs;
mod refusals;
mod restarts;

use std::collections::BTreeSet;

use super::*;
use crate::{
    announce::Config,
    intent::{Group, Interfaces, NotAnnounced, WantedVip},
    link::{Kind, Link, LinkChange, XdpMode},
};

const MAC: Mac = [2, 0, 0, 0, 0, 1];

/// What a node is given.
enum Given {
    Input(Input),
    Wanted(Wanted),
    Answer(IpAddr, bool),
}

impl From<Input> for Given {
    fn from(input: Input) -> Self {
        Self::Input(input)
    }
}

impl From<Wanted> for Given {
    fn from(wanted: Wanted) -> Self {
        Self::Wanted(wanted)
    }
}

/// A node, the kernel that carries its commands out, and a clock.
struct Bench {
    node: Node,
    now: Instant,
    /// All commands since the last call, in words.
    log: Vec<String>,
    full: bool,
    refuses_program: bool,
    refuses_group: bool,
    /// This interface's entry does not fit.
    refuses_link: Option<u32>,
    /// Where the program runs.
    running: BTreeSet<u32>,
    /// A device that accepts no program while one runs on the device above it.
    above: Option<(u32, u32)>,
    /// VLAN tags cannot be kept.
    strips_on: bool,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn new() -> Self {
        let now = Instant::now();
        let mut node = Node::new(Choice::Usual, Announcer::new(&Config::default(), now));
        node.handle(Input::Settled, now);
        Self {
            node,
            now,
            log: Vec::new(),
            full: false,
            refuses_program: false,
            refuses_group: false,
            refuses_link: None,
            running: BTreeSet::new(),
            above: None,
            strips_on: false,
        }
    }

    /// A node that has begun to answer for a VIP on eth0.
    fn answering(vip: &str) -> Self {
        let mut bench = Self::new();
        bench.handle(wanted(&[vip])).handle(links([eth0()]));
        bench.log.clear();
        bench
    }

    /// The next agent of a node with this link, which does not know the intent yet.
    fn resuming(adopted: Input, link: Link) -> Self {
        let mut bench = Self::new();
        bench.handle(adopted).handle(links([link]));
        bench
    }

    fn handle(&mut self, given: impl Into<Given>) -> &mut Self {
        let given = given.into();
        // This node is alone.
        if let Given::Wanted(wanted) = &given {
            for vip in wanted.vips.keys() {
                self.give(Given::Answer(*vip, true));
            }
        }
        // Longer than the announcer's batches are apart.
        self.now += Duration::from_millis(20);
        self.give(given);
        self.settle();
        self
    }

    /// Carries out only what cannot wait.
    fn give(&mut self, given: impl Into<Given>) {
        let writes = match given.into() {
            Given::Input(input) => return self.node.handle(input, self.now),
            Given::Wanted(wanted) => self.node.want(wanted),
            Given::Answer(vip, answer) => self.node.answer(vip, answer, self.now),
        };
        for command in writes {
            self.carry_out(&command);
            self.log.push(words(&command));
        }
    }

    fn wait(&mut self, seconds: f64) -> &mut Self {
        self.now += Duration::from_secs_f64(seconds);
        self.settle();
        self
    }

    /// Lets the current announcements finish.
    fn quiet(&mut self) -> &mut Self {
        for _ in 0..20 {
            self.wait(1.0);
        }
        self.log.clear();
        self
    }

    fn settle(&mut self) {
        self.node.poll(self.now);
        while let Some(command) = self.node.next_command() {
            self.carry_out(&command);
            self.log.push(words(&command));
            self.node.poll(self.now);
        }
        for announcement in self.node.announcements(self.now) {
            self.log.push(format!("announce {}", announcement.vip));
            self.node.announced(&announcement, Outcome::Sent, self.now);
        }
    }

    fn carry_out(&mut self, command: &Command) {
        let result = match *command {
            Command::Attach(interface) => Input::Attached {
                interface,
                result: self.attach(interface),
            },
            Command::KeepTags(interface) => Input::KeptTags {
                interface,
                result: match self.strips_on {
                    true => Err("fixed".into()),
                    false => Ok(()),
                },
            },
            Command::Detach(interface) => {
                self.running.remove(&interface);
                return;
            }
            Command::SetLink(interface, _) => Input::LinkSet {
                interface,
                result: match self.refuses_link == Some(interface) {
                    true => Err("no cell".into()),
                    false => Ok(()),
                },
            },
            Command::Put(entry, _) if self.full => Input::PutFailed {
                entry,
                reason: "full".into(),
            },
            Command::Join(membership) if self.refuses_group => Input::JoinFailed {
                membership,
                reason: "no group".into(),
            },
            _ => return,
        };
        self.node.handle(result, self.now);
    }

    fn attach(&mut self, interface: u32) -> Result<Attached, NotAttached> {
        if self.refuses_program {
            return Err(NotAttached::Other("refused".into()));
        }
        let is_in_the_way = |(below, above)| below == interface && self.running.contains(&above);
        if self.above.is_some_and(is_in_the_way) {
            return Err(NotAttached::ProgramAbove("one above".into()));
        }
        self.running.insert(interface);
        Ok(Attached {
            mode: XdpMode::Native,
            note: None,
        })
    }

    #[track_caller]
    fn expect(&mut self, expect: &[&str]) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.log), expect);
        self
    }

    fn state(&self) -> String {
        let status = self.node.status(self.now);
        let vip = status.vips.first().expect("a VIP is wanted");
        match &vip.reason {
            Some(reason) => reason.clone(),
            None => vip.places[0].describe(),
        }
    }
}

fn words(command: &Command) -> String {
    match command {
        Command::KeepTags(index) => format!("keep tags {index}"),
        Command::SetLink(index, _) => format!("set link {index}"),
        Command::RemoveLink(index) => format!("remove link {index}"),
        Command::Join(it) => format!("join {} {}", it.group, it.link),
        Command::Leave(it) => format!("leave {} {}", it.group, it.link),
        Command::ResetCounters(slot) => format!("reset {slot}"),
        Command::Put(entry, vip) => {
            let announced = if vip.is_announced() { " announced" } else { "" };
            format!(
                "put {} {:?} {}{announced}",
                entry.address, vip.action, vip.slot
            )
        }
        Command::Remove(entry) => format!("remove {}", entry.address),
        Command::Attach(index) => format!("attach {index}"),
        Command::KeepPins => "keep pins".to_owned(),
        Command::CheckProgram(index) => format!("look {index}"),
        Command::Detach(index) => format!("detach {index}"),
        Command::Tell(notice) => format!("{notice:?}"),
    }
}

fn wanted(vips: &[&str]) -> Wanted {
    let vips = vips.iter().map(|vip| {
        let address = vip.parse().unwrap();
        let vip = WantedVip {
            services: BTreeSet::new(),
            alike: Ok(Interfaces::All),
            served_by: None,
            preference: 0,
            group: Group(address),
            first_ip: address,
        };
        (address, vip)
    });
    Wanted {
        node: "node".to_owned(),
        vips: vips.collect(),
        refused: Vec::new(),
    }
}

fn eth0() -> Link {
    Link {
        index: 2,
        name: "eth0".into(),
        mac: MAC,
        admin_up: true,
        carrier: true,
        mtu: 1500,
        kind: Kind::Plain,
        master: None,
        stands_by: false,
        addresses: BTreeSet::new(),
        strips_vlan_tags: false,
        xdp: None,
    }
}

fn links(links: impl IntoIterator<Item = Link>) -> Input {
    Input::Links(links.into_iter().collect())
}

fn entry(address: &str) -> Entry {
    Entry {
        address: address.parse().unwrap(),
        port: 2,
        vlan: layout::Vlan::default(),
    }
}

fn adopted(address: &str, in_time: bool) -> Input {
    let vip = Vip::new(Action::Answer, 4).with_announced(true);
    adopted_as(address, vip, in_time)
}

fn adopted_as(address: &str, vip: Vip, in_time: bool) -> Input {
    Input::Adopted(Adopted {
        vips: BTreeMap::from([(entry(address), vip)]),
        links: BTreeMap::from([(2, layout::Link::new(MAC, 2))]),
        attached: BTreeSet::from([2]),
        joined: BTreeSet::new(),
        in_time,
    })
}

fn vip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn answer(address: &str, answer: bool) -> Given {
    Given::Answer(vip(address), answer)
}

#[test]
fn taking_a_vip_joins_then_enters_then_attaches_then_announces() {
    let mut bench = Bench::new();
    bench.handle(wanted(&["fd00::5"])).expect(&[]);
    bench.handle(links([eth0()])).expect(&[
        "set link 2",
        "join ff02::1:ff00:5 2",
        "reset 0",
        "put fd00::5 Answer 0",
        "attach 2",
        "Announcing(fd00::5, \"eth0\")",
        "announce fd00::5",
    ]);
    assert_eq!(bench.state(), "answering");
}

#[test]
fn withdrawing_a_vip_removes_the_entry_first_and_keeps_the_program() {
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["fd00::5"]))
        .handle(links([eth0()]))
        .log
        .clear();
    bench.handle(wanted(&[])).expect(&[
        "put fd00::5 Suppress 0",
        "remove fd00::5",
        "leave ff02::1:ff00:5 2",
        "remove link 2",
        "Withdrawn(fd00::5, \"eth0\")",
    ]);
    bench.wait(4.9).expect(&[]);
}

#[test]
fn no_commands_before_intent_and_links_are_known() {
    let mut bench = Bench::new();
    bench.handle(adopted("10.0.0.5", true)).expect(&[]);
    bench.handle(links([eth0()])).expect(&[]);
    assert!(!bench.node.is_ready());
    bench.handle(wanted(&["10.0.0.5"]));
    assert!(bench.node.is_ready());
}

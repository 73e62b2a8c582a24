mod groups;
mod ipvs;
mod programs;

use std::collections::BTreeSet;

use super::*;
use crate::{
    announce::Config,
    intent::{Group, Interfaces, NotAnnounced, WantedVip},
    link::{Kind, Link, LinkChange, XdpMode},
};

const MAC: Mac = [2, 0, 0, 0, 0, 1];

/// A node, the kernel that carries its commands out, and a clock.
struct Bench {
    node: Node,
    now: Instant,
    /// All commands since the last look, in words.
    log: Vec<String>,
    full: bool,
    refuses_program: bool,
    refuses_group: bool,
    /// There is no room for this interface's entry.
    refuses_link: Option<u32>,
    /// Where the program runs.
    running: BTreeSet<u32>,
    /// A device that takes no program while it runs on another, which is above.
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

    fn handle(&mut self, input: Input) -> &mut Self {
        // This node is alone.
        if let Input::Wanted(wanted) = &input {
            for vip in wanted.vips.keys() {
                self.own(*vip, true);
            }
        }
        // Longer than the announcer's batches are apart.
        self.now += Duration::from_millis(20);
        self.node.handle(input, self.now);
        self.settle();
        self
    }

    fn own(&mut self, vip: IpAddr, answer: bool) {
        self.node.handle(Input::Answer { vip, answer }, self.now);
    }

    fn wait(&mut self, seconds: f64) -> &mut Self {
        self.now += Duration::from_secs_f64(seconds);
        self.settle();
        self
    }

    /// Lets what was announced last come to its end.
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
        Command::CheckProgram(index) => format!("look {index}"),
        Command::Detach(index) => format!("detach {index}"),
        Command::Tell(notice) => format!("{notice:?}"),
    }
}

fn wanted(vips: &[&str]) -> Input {
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
    Input::Wanted(Wanted {
        node: "node".to_owned(),
        vips: vips.collect(),
        refused: Vec::new(),
    })
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

#[test]
fn taking_a_vip_joins_then_enters_then_runs_then_announces() {
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
fn giving_a_vip_up_removes_the_entry_first_and_keeps_the_program() {
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
fn nothing_is_commanded_before_everything_is_known() {
    let mut bench = Bench::new();
    bench.handle(adopted("10.0.0.5", true)).expect(&[]);
    bench.handle(links([eth0()])).expect(&[]);
    assert!(!bench.node.is_ready());
    bench.handle(wanted(&["10.0.0.5"]));
    assert!(bench.node.is_ready());
}

#[test]
fn a_restart_in_time_swaps_the_program_and_disturbs_nobody() {
    let mut bench = Bench::new();
    bench
        .handle(adopted("10.0.0.5", true))
        .handle(links([eth0()]));
    bench
        .handle(wanted(&["10.0.0.5"]))
        .expect(&["attach 2", "Announcing(10.0.0.5, \"eth0\")"]);
    bench.wait(150.0).expect(&["look 2", "announce 10.0.0.5"]);
}

#[test]
fn a_restart_after_the_lease_has_lapsed_announces_again() {
    let mut bench = Bench::new();
    bench
        .handle(adopted("10.0.0.5", false))
        .handle(links([eth0()]));
    bench.handle(wanted(&["10.0.0.5"])).expect(&[
        "attach 2",
        "put 10.0.0.5 Answer 4",
        "Announcing(10.0.0.5, \"eth0\")",
        "announce 10.0.0.5",
    ]);
}

/// An agent may be killed after it has taken a VIP over and before all clients have heard of it.
#[test]
fn a_take_over_that_an_earlier_agent_did_not_announce_to_the_end_is_announced() {
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.0.5"]))
        .handle(links([eth0()]))
        .log
        .clear();
    bench
        .wait(1.1)
        .wait(1.1)
        .expect(&["announce 10.0.0.5", "announce 10.0.0.5"]);
    bench.wait(5.0).wait(0.0).expect(&[
        "look 2",
        "announce 10.0.0.5",
        "put 10.0.0.5 Answer 0 announced",
    ]);

    let unfinished = Vip::new(Action::Answer, 4);
    let mut bench = Bench::new();
    bench
        .handle(adopted_as("10.0.0.5", unfinished, true))
        .handle(links([eth0()]));
    bench.handle(wanted(&["10.0.0.5"])).expect(&[
        "attach 2",
        "Announcing(10.0.0.5, \"eth0\")",
        "announce 10.0.0.5",
    ]);
}

#[test]
fn a_mac_that_changed_while_no_agent_ran_is_announced() {
    let mut bench = Bench::new();
    let mac = [2, 0, 0, 0, 0, 7];
    bench
        .handle(adopted("10.0.0.5", true))
        .handle(links([Link { mac, ..eth0() }]));
    bench.handle(wanted(&["10.0.0.5"])).expect(&[
        "put 10.0.0.5 Answer 4",
        "set link 2",
        "attach 2",
        "Announcing(10.0.0.5, \"eth0\")",
        "announce 10.0.0.5",
    ]);
}

#[test]
fn what_an_earlier_agent_left_and_nobody_wants_is_removed_and_its_slot_used_again() {
    let mut bench = Bench::new();
    bench
        .handle(adopted("10.0.0.5", true))
        .handle(links([eth0()]));
    bench.handle(wanted(&["10.0.0.6"])).expect(&[
        "put 10.0.0.5 Suppress 4",
        "remove 10.0.0.5",
        "reset 0",
        "put 10.0.0.6 Answer 0",
        "attach 2",
        "Announcing(10.0.0.6, \"eth0\")",
        "announce 10.0.0.6",
    ]);
}

#[test]
fn a_link_that_comes_up_again_or_changes_its_mac_is_announced_again() {
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.0.5"]))
        .handle(links([eth0()]))
        .quiet();
    let down = Link {
        carrier: false,
        ..eth0()
    };
    bench.handle(Input::Link(LinkChange::Set(down))).expect(&[]);
    assert_eq!(bench.state(), "no carrier");
    bench
        .handle(Input::Link(LinkChange::Set(eth0())))
        .expect(&["announce 10.0.0.5"]);
    let mac = Link {
        mac: [2, 0, 0, 0, 0, 7],
        ..eth0()
    };
    bench.quiet();
    bench.handle(Input::Link(LinkChange::Set(mac))).expect(&[
        "put 10.0.0.5 Answer 0",
        "set link 2",
        "announce 10.0.0.5",
    ]);
}

#[test]
fn a_link_that_was_down_or_gone_for_a_moment_is_announced_again_however_late_that_is_noticed() {
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.0.5"]))
        .handle(links([eth0()]))
        .quiet();
    let down = Link {
        carrier: false,
        ..eth0()
    };
    for change in [down, eth0()] {
        let change = Input::Link(LinkChange::Set(change));
        bench.node.handle(change, bench.now);
    }
    bench.settle();
    bench.expect(&["announce 10.0.0.5"]).quiet();

    for change in [LinkChange::Gone(2), LinkChange::Set(eth0())] {
        bench.node.handle(Input::Link(change), bench.now);
    }
    bench.settle();
    assert!(
        bench.log.contains(&"attach 2".to_owned()),
        "{:?}",
        bench.log
    );
}

#[test]
fn a_bond_that_sends_through_another_member_is_announced_again() {
    let bond = |active| Link {
        kind: Kind::Bond {
            active: Some(active),
        },
        ..eth0()
    };
    let member = |index, stands_by| Link {
        index,
        name: format!("member{index}"),
        master: Some(eth0().index),
        stands_by,
        addresses: BTreeSet::new(),
        ..eth0()
    };
    let mut bench = Bench::new();
    // Also where the operator names the members.
    let named = ["eth0", "member3", "member4"].map(str::to_owned);
    bench.node.site.choice = Choice::Named(BTreeSet::from(named));
    bench
        .handle(wanted(&["10.0.0.5"]))
        .handle(links([bond(3), member(3, false), member(4, true)]))
        .quiet();
    // In the order of the kernel's messages.
    bench
        .handle(Input::Link(LinkChange::Set(bond(3))))
        .expect(&[]);
    bench
        .handle(Input::Link(LinkChange::Set(member(3, true))))
        .expect(&["remove link 3"]);
    bench
        .handle(Input::Link(LinkChange::Set(member(4, false))))
        .expect(&["set link 4"]);
    bench
        .handle(Input::Link(LinkChange::Set(bond(4))))
        .expect(&["announce 10.0.0.5"]);
}

#[test]
fn a_link_that_vanishes_and_returns_under_another_index() {
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.0.5"]))
        .handle(links([eth0()]))
        .log
        .clear();
    bench.handle(Input::Link(LinkChange::Gone(2))).expect(&[
        "remove 10.0.0.5",
        "detach 2",
        "remove link 2",
        "Withdrawn(10.0.0.5, \"interface 2\")",
        "NotAnnounced(10.0.0.5, \"this node has no interface to answer on (see --interface)\")",
    ]);
    let again = Link { index: 9, ..eth0() };
    bench.handle(Input::Link(LinkChange::Set(again))).expect(&[
        "set link 9",
        "reset 0",
        "put 10.0.0.5 Answer 0",
        "attach 9",
        "Announcing(10.0.0.5, \"eth0\")",
        "announce 10.0.0.5",
    ]);
}

#[test]
fn what_the_kernel_refuses_is_told_and_tried_again() {
    let mut bench = Bench::new();
    (bench.full, bench.refuses_program) = (true, true);
    bench.handle(wanted(&["10.0.0.5"])).handle(links([eth0()]));
    assert_eq!(bench.state(), "failed: full");
    let told = |bench: &mut Bench| {
        let log = std::mem::take(&mut bench.log);
        let told = |line: &&String| line.contains("NotAnnounced") || line.contains("Refused");
        log.iter().filter(told).cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        told(&mut bench),
        ["NotAnnounced(10.0.0.5, \"full\")", "Refused(\"refused\")"]
    );
    bench.wait(5.1).wait(5.1);
    assert!(bench.log.iter().any(|line| line.starts_with("put")));
    assert_eq!(told(&mut bench), [""; 0], "the same again is no news");
    bench.full = false;
    bench.wait(5.1);
    assert_eq!(bench.state(), "failed: refused");
    (bench.full, bench.refuses_program) = (false, true);
    bench.refuses_program = false;
    bench.log.clear();
    bench.wait(5.1).expect(&[
        "attach 2",
        "Announcing(10.0.0.5, \"eth0\")",
        "announce 10.0.0.5",
    ]);
    assert_eq!(bench.state(), "answering");
}

#[test]
fn what_does_not_fit_a_map_is_told_once_and_entered_as_soon_as_it_does() {
    let most = layout::MAX_VIPS as u32;
    let v4 = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes()).to_string();
    let v6 = |n: u32| IpAddr::from((0xfd_u128 << 120 | u128::from(n)).to_be_bytes()).to_string();
    let vips = |some: std::ops::Range<u32>| -> Vec<String> {
        some.clone().map(v4).chain(some.map(v6)).collect()
    };
    let wanted = |vips: &[String]| wanted(&vips.iter().map(String::as_str).collect::<Vec<_>>());
    let mut bench = Bench::new();
    bench
        .handle(links([eth0()]))
        .handle(wanted(&vips(0..most + 1)));
    let counts = |bench: &mut Bench, word: &str| {
        let lines = std::mem::take(&mut bench.log);
        lines.iter().filter(|line| line.starts_with(word)).count()
    };
    assert_eq!(counts(&mut bench, "NotAnnounced"), 2);
    let state = |bench: &Bench, vip: String| {
        let vips = bench.node.status(bench.now).vips;
        let its = vips.iter().find(|it| it.address == vip.parse().ok());
        its.expect("it is wanted").places[0].describe()
    };
    for (last, map) in [(v4(most), "vips_v4"), (v6(most), "vips_v6")] {
        let full = format!("failed: the map {map} is full: it has room for 65536");
        assert_eq!(state(&bench, last), full);
    }
    assert_eq!(state(&bench, v6(most - 1)), "answering");

    bench.wait(30.0);
    assert_eq!(counts(&mut bench, "NotAnnounced"), 0);
    bench.handle(wanted(&vips(1..most + 1)));
    // The two that go are silent first.
    assert_eq!(counts(&mut bench, "put"), 4);
    assert_eq!(state(&bench, v4(most)), "answering");
    assert_eq!(state(&bench, v6(most)), "answering");
}

#[test]
fn a_claim_is_told_once_in_ten_seconds_and_defended() {
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.0.5"]))
        .handle(links([eth0()]))
        .quiet();
    let claim = || Input::Claimed {
        entry: entry("10.0.0.5"),
        by: [6, 0, 0, 0, 0, 6],
    };
    bench.handle(claim()).handle(claim()).expect(&[
        "Conflict(10.0.0.5, [6, 0, 0, 0, 0, 6])",
        "announce 10.0.0.5",
    ]);
    bench.wait(10.1).log.clear();
    bench.handle(claim()).expect(&[
        "Conflict(10.0.0.5, [6, 0, 0, 0, 0, 6])",
        "announce 10.0.0.5",
    ]);
    let place = &bench.node.status(bench.now).vips[0].places[0];
    assert_eq!(place.conflicts, 3);
    assert_eq!(place.announced_ms_ago, Some(0));
    bench.wait(1.5);
    let place = &bench.node.status(bench.now).vips[0].places[0];
    assert_eq!(place.announced_ms_ago, Some(1_500));
}

fn vip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn answer(address: &str, answer: bool) -> Input {
    let vip = vip(address);
    Input::Answer { vip, answer }
}

#[test]
fn a_vip_that_another_node_owns_is_kept_from_this_host_and_taken_over_with_one_write() {
    let mut bench = Bench::new();
    bench.node.handle(wanted(&["fd00::5"]), bench.now);
    bench.handle(links([eth0()])).expect(&[
        "set link 2",
        "join ff02::1:ff00:5 2",
        "reset 0",
        "put fd00::5 Suppress 0",
        "attach 2",
    ]);
    assert_eq!(bench.state(), "standby");
    bench.handle(answer("fd00::5", true)).expect(&[
        "put fd00::5 Answer 0",
        "Announcing(fd00::5, \"eth0\")",
        "announce fd00::5",
    ]);
    bench
        .handle(answer("fd00::5", false))
        .expect(&["put fd00::5 Suppress 0", "Withdrawn(fd00::5, \"eth0\")"]);
    bench.wait(4.9).expect(&[]);
}

#[test]
fn the_network_is_asked_about_a_vip_on_links_that_are_up() {
    let off = Link {
        index: 3,
        name: "eth1".into(),
        admin_up: false,
        ..eth0()
    };
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.0.5"]))
        .handle(links([eth0(), off]));
    let places = bench.node.places(vip("10.0.0.5")).into_iter();
    let links: Vec<u32> = places.map(|(place, _)| place.link).collect();
    assert_eq!(links, [2]);
}

#[test]
fn what_is_lost_is_silent_before_anything_else_is_done() {
    let mut bench = Bench::new();
    bench.handle(wanted(&["10.0.0.5"])).handle(links([eth0()]));
    let many: Vec<String> = (1..=9).map(|n| format!("10.0.0.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    bench.node.handle(wanted(&many), bench.now);
    bench.node.poll(bench.now);
    bench.node.handle(answer("10.0.0.5", false), bench.now);
    let first = bench.node.next_urgent();
    assert_eq!(
        first.map(|command| words(&command)).as_deref(),
        Some("put 10.0.0.5 Suppress 0")
    );
}

#[test]
fn a_write_that_waited_says_who_owns_the_vip_by_then() {
    let mut bench = Bench::new();
    bench.own(vip("10.0.0.5"), true);
    bench.node.handle(wanted(&["10.0.0.5"]), bench.now);
    bench.node.handle(links([eth0()]), bench.now);
    bench.node.poll(bench.now);
    bench.own(vip("10.0.0.5"), false);
    bench.settle();
    let puts: Vec<&str> = bench.log.iter().map(String::as_str).collect();
    assert!(!puts.contains(&"put 10.0.0.5 Answer 0"), "{puts:?}");
    assert_eq!(bench.state(), "standby");
}

#[test]
fn what_an_earlier_agent_answered_for_can_be_given_up_before_the_intent_is_known() {
    let mut bench = Bench::new();
    bench.own(vip("10.0.0.5"), true);
    bench
        .handle(adopted("10.0.0.5", true))
        .handle(answer("10.0.0.5", false))
        .expect(&["put 10.0.0.5 Suppress 4"]);
}

#[test]
fn a_vip_that_is_to_be_announced_is_if_it_is_answered_here() {
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.0.5"]))
        .handle(links([eth0()]))
        .quiet();
    let announce = || Input::Announce(vip("10.0.0.5"));
    bench
        .handle(announce())
        .expect(&["put 10.0.0.5 Answer 0", "announce 10.0.0.5"]);
    bench.quiet().handle(answer("10.0.0.5", false)).log.clear();
    bench.handle(announce()).expect(&[]);
}

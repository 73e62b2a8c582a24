//! What operators see: status, frames, conflicts, and metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use smoltcp::wire::ArpOperation;
use speaker_tests::{
    agent::{HTTP, Mode, Node},
    lab,
    message::{self, ALL_NODES, ALL_NODES_MAC, Flags, Message},
    wait,
};

use crate::{MEANWHILE, SOON, VIP_V4, VIP_V6, VIPS, answer, wait_until};

#[test]
fn status_shows_what_is_answered_where_and_how_often() {
    lab::test(|lab| {
        let node = Node::serving(lab, Mode::Native, &VIPS)?;
        let client = lab.host("client")?;
        for _ in 0..3 {
            answer(&client, &client.eth0, VIPS[0])?;
        }
        let status = node.speaker("status")?.run()?;
        let words = |prefix: &str| {
            let line = status.lines().find(|line| line.starts_with(prefix));
            let line = line.unwrap_or_else(|| panic!("no {prefix} in {status}"));
            let words = line.split("  ").map(str::trim);
            words
                .filter(|it| !it.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mac = message::text(node.host.eth0.mac);
        let columns = "VIP STATE OWNER LINK MAC MODE REQUESTS ANSWERS LAST_ASKED SERVICES";
        let columns: Vec<_> = columns.split(' ').map(|it| it.replace('_', " ")).collect();
        assert_eq!(words("VIP"), columns);
        let row = words("10.0.0.240");
        let expected = [
            "10.0.0.240",
            "answering",
            "node-a",
            "eth0",
            &mac,
            "native",
            "3",
            "3",
        ];
        assert_eq!(row[..8], expected);
        assert!(row[8].ends_with(" ago"), "{row:?}");
        assert_eq!(row[9], "default/web");
        let expected = [
            "fd00::240",
            "answering",
            "node-a",
            "eth0",
            &mac,
            "native",
            "0",
            "0",
            "never",
        ];
        assert_eq!(words("fd00::240")[..9], expected);
        assert!(words("lease:")[0].starts_with("lease: valid for another "));

        let status = node.status()?;
        assert_eq!(status.node.as_deref(), Some("node-a"));
        assert!(
            status.lease.agent_left_ms.is_some_and(|ms| ms > 1_000),
            "{:?}",
            status.lease
        );
        let counts = &node.vip(VIPS[0])?.counts[0];
        assert_eq!((counts.requests, counts.answered), (3, 3));
        Ok(())
    });
}

/// tcpdump on the node does not see what the driver answers.
#[test]
fn watch_shows_every_frame_and_its_reply_and_writes_them_for_tshark() {
    lab::test(|lab| {
        let node = Node::serving(lab, Mode::Native, &VIPS)?;
        let client = lab.host("client")?;
        let file = tempfile::NamedTempFile::new()?;
        let mut watch = node
            .speaker("watch")?
            .args(["--replies", "--count", "8", "--pcap"])
            .arg(file.path())
            .spawn()?;
        watch.wait_for_line("watching", SOON)?;
        let (its, ours) = (client.eth0.mac, node.host.eth0.mac);
        let socket = client.raw("eth0")?;
        let ask = |message: Message, to| socket.send(&message.frame(its, to));
        let probe = Message::arp_request(([0; 4].into(), its), VIP_V4);
        let thief = Message::arp_request((VIP_V4, its), VIP_V4);
        // An operation that is neither request nor reply.
        let mut strange = probe.frame(its, message::BROADCAST);
        strange[21] = 7;
        answer(&client, &client.eth0, VIPS[0])?;
        answer(&client, &client.eth0, VIPS[1])?;
        ask(probe, message::BROADCAST)?;
        ask(thief, message::BROADCAST)?;
        socket.send(&strange)?;
        assert!(watch.wait(SOON)?.success());

        let (mac, thief) = (message::text(ours), message::text(its));
        let expected = [
            format!("answered   ARP who-has 10.0.0.240 tell 10.0.0.2 ({thief})"),
            format!("reply      ARP reply 10.0.0.240 is-at {mac}"),
            "answered   NS who-has fd00::240 tell fd00::2".to_owned(),
            format!("reply      NA fd00::240 is-at {mac} to fd00::2"),
            format!("probed     ARP probe for 10.0.0.240 by {thief}"),
            format!("reply      ARP reply 10.0.0.240 is-at {mac}"),
            format!("claimed    ARP announcement 10.0.0.240 is-at {thief}"),
            "rejected (arp-operation)".to_owned(),
        ];
        let lines = watch.stdout();
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            let (time, rest) = line.split_once(' ').unwrap_or_default();
            assert_eq!(time.len(), "12:00:00.000000".len(), "{line}");
            assert!(
                rest.starts_with("eth0 ") && rest.contains(&expected),
                "{line}"
            );
        }

        let fields = [
            "frame.interface_name",
            "frame.comment",
            "frame.len",
            "_ws.malformed",
        ];
        let fields = fields.iter().flat_map(|field| ["-e", field]);
        let tshark = client.command("tshark").arg("-r").arg(file.path());
        let tshark = tshark.args(["-T", "fields"]).args(fields);
        let said = tshark.limit(Duration::from_secs(30)).run()?;
        let said: Vec<_> = said.lines().collect();
        let expected = [
            "eth0\tanswered\t42\t",
            "eth0\treply\t42\t",
            "eth0\tanswered\t86\t",
            "eth0\treply\t86\t",
            "eth0\tprobed\t42\t",
            "eth0\treply\t42\t",
            "eth0\tclaimed\t42\t",
            "eth0\trejected: arp-operation\t42\t",
        ];
        assert_eq!(said, expected);
        Ok(())
    });
}

/// The ring holds about a thousand frames while the agent is frozen.
#[test]
fn watch_reports_how_many_frames_were_lost() {
    lab::test(|lab| {
        const ASKED: usize = 10_000;
        const LONG: Duration = Duration::from_secs(30);
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let client = lab.host("client")?;
        let mut watch = node.speaker("watch")?.unheard().spawn()?;
        watch.wait_for_line("watching", SOON)?;
        answer(&client, &client.eth0, VIPS[0])?;
        let link = &client.eth0;
        let request = Message::arp_request((link.ipv4, link.mac), VIP_V4);
        let request = request.frame(link.mac, message::BROADCAST);
        let socket = client.raw("eth0")?;
        node.agent().freeze()?;
        for _ in 0..ASKED {
            socket.send(&request)?;
        }
        node.agent().thaw()?;
        // Requests that are shown, and events that are lost: those of requests and of replies.
        wait::wait_until("all are accounted for", LONG, || {
            let handled = node.vip(VIPS[0])?.counts[0].requests;
            let lines = watch.stdout();
            let lost = lines.iter().filter_map(|line| {
                let count = line.strip_prefix("… ")?.split_once(" frames lost")?.0;
                count.parse::<u64>().ok()
            });
            let lost: u64 = lost.sum();
            let shown = lines.iter().filter(|line| line.contains(" answered "));
            let shown = shown.count() as u64;
            Ok(lost > 0 && 2 * shown + lost >= 2 * handled)
        })?;
        watch.kill()
    });
}

/// Without watchers, there is no cost.
#[test]
fn the_tap_is_open_only_while_somebody_watches() {
    lab::test(|lab| {
        let node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let is_open = || -> Result<bool> {
            let tap = node.map("tap")?;
            let watched = tap[0]["value"]["watched"].as_u64();
            Ok(watched.unwrap_or_else(|| panic!("{tap:?}")) != 0)
        };
        let watch = || {
            let watch = node.speaker("watch")?.spawn()?;
            watch.wait_for_line("watching", SOON)?;
            Ok::<_, anyhow::Error>(watch)
        };
        assert!(!is_open()?);
        let (mut first, mut second) = (watch()?, watch()?);
        wait_until("it is open", is_open)?;
        first.kill()?;
        thread::sleep(Duration::from_secs(1));
        assert!(is_open()?, "one still watches");
        second.signal(nix::sys::signal::Signal::SIGINT)?;
        assert!(second.wait(SOON)?.success());
        wait_until("it is closed", || Ok(!is_open()?))
    });
}

/// RFC 5227 §2.4 (c).
#[test]
fn a_foreign_claim_is_reported_and_defended_once_in_ten_seconds() {
    lab::test(|lab| {
        const INTERVAL: Duration = Duration::from_secs(10);
        // Started a second time, it announces nothing by itself.
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        node.wait_until_announced(&VIPS)?;
        node.stop()?;
        node.start_with(["--refresh", "0s"])?;
        let thief = lab.host("thief")?;
        let (ours, its) = (node.host.eth0.mac, thief.eth0.mac);
        let wire = node.host.eth0.port.capture()?;
        let socket = thief.raw("eth0")?;
        let advertisement = Message::Advertisement {
            source: thief.eth0.ipv6,
            destination: ALL_NODES,
            flags: Flags::OVERRIDE,
            target: VIP_V6,
            mac: Some(its),
        };
        let advertisement = advertisement.frame(its, ALL_NODES_MAC);
        thief.ip(&format!("address add {VIP_V4}/32 dev lo"))?;
        // As requests and as replies.
        let claim = || -> Result<()> {
            for form in ["-U", "-A"] {
                let arping = [
                    form,
                    "-c",
                    "1",
                    "-I",
                    "eth0",
                    "-s",
                    "10.0.0.240",
                    "10.0.0.240",
                ];
                thief.command("arping").args(arping).run()?;
            }
            socket.send(&advertisement)
        };

        claim()?;
        // All have been defended against by now, or will be in a moment.
        let defended = SystemTime::now();
        claim()?;
        for vip in VIPS {
            wait_until("the claims are counted", || {
                let place = &node.vip(vip)?.places[0];
                let expected = if vip.is_ipv4() { 4 } else { 2 };
                Ok(place.conflicts == expected)
            })?;
            let place = &node.vip(vip)?.places[0];
            assert_eq!(place.claimed_by, Some(message::text(its)));
        }
        thread::sleep((INTERVAL + MEANWHILE).saturating_sub(defended.elapsed()?));
        claim()?;
        thread::sleep(Duration::from_secs(1));

        let frames = wire.frames().into_iter();
        let said: Vec<_> = frames
            .filter(|frame| frame.source() == ours && !frame.sent)
            .filter_map(|frame| Some((frame.at, Message::of(&frame)?)))
            .collect();
        let of = |wanted: &dyn Fn(&Message) -> bool| {
            let times = said.iter().filter(|(_, message)| wanted(message));
            times.map(|(at, _)| *at).collect::<Vec<_>>()
        };
        let defences: BTreeMap<_, _> = [
            ("request", of(&|it| is_arp(it, ArpOperation::Request))),
            ("reply", of(&|it| is_arp(it, ArpOperation::Reply))),
            ("advertisement", of(&|it| it.says(VIPS[1], ours))),
        ]
        .into();
        for (form, times) in &defences {
            assert_eq!(times.len(), 2, "{form}: {said:#?}");
            let apart = times[1].duration_since(times[0])?;
            assert!(apart + Duration::from_millis(50) >= INTERVAL, "{apart:?}");
        }
        for vip in VIPS {
            let told = node.log(&format!("{} also claims {vip}", message::text(its)));
            assert_eq!(told.len(), 2, "{told:#?}");
        }
        let status = node.speaker("status")?.run()?;
        assert!(
            status.contains(&format!("claimed by {}", message::text(its))),
            "{status}"
        );
        Ok(())
    });
}

/// What one announces reaches the other.
#[test]
fn two_interfaces_in_one_network_do_not_claim_each_others_vips() {
    lab::test(|lab| {
        const FAR: &str = "10.9.0.240";
        let far = FAR.parse()?;
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let _eth1 = node.host.extra_link("eth1", 0)?;
        node.serve("web", &[far])?;
        node.start()?;
        node.wait_until_announced(&[far])?;
        let places = node.vip(far)?.places;
        let places: Vec<_> = places.iter().map(|it| (&*it.link, it.conflicts)).collect();
        assert_eq!(places, [("eth0", 0), ("eth1", 0)]);
        let explained = node.speaker("explain")?.arg(FAR).run()?;
        assert!(!explained.contains("also claimed"), "{explained}");
        Ok(())
    });
}

#[test]
fn metrics_and_health_are_served_over_http() {
    lab::test(|lab| {
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        node.serve("web", &VIPS)?;
        node.start_with(HTTP)?;
        let client = lab.host("client")?;
        answer(&client, &client.eth0, VIPS[0])?;
        for path in ["/healthz", "/readyz"] {
            let text = node.get(path)?;
            assert!(
                text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("ok\n"),
                "{text}"
            );
        }
        let told = node.log("the program runs on eth0 in generic mode");
        assert_eq!(told.len(), 1, "{told:?}");
        let its = client.eth0.mac;
        let thief = Message::arp_request((VIP_V4, its), VIP_V4);
        let socket = client.raw("eth0")?;
        socket.send(&thief.frame(its, message::BROADCAST))?;
        wait_until("the claim is counted", || {
            Ok(node.vip(VIPS[0])?.places[0].conflicts == 1)
        })?;
        let explained = node.speaker("explain")?.arg("10.0.0.240").run()?;
        let on = explained
            .lines()
            .find(|line| line.starts_with("  on eth0: "));
        let on = on.unwrap_or_else(|| panic!("{explained}"));
        for part in ["1 request (last ", " announcement", "1 conflicting claim "] {
            assert!(on.contains(part), "{part:?} is not in {on}");
        }
        let metrics = node.get("/metrics")?;
        for line in [
            "speaker_lease_valid 1",
            "metallb_layer2_requests_received{ip=\"10.0.0.240\"} 1",
            "metallb_layer2_responses_sent{ip=\"10.0.0.240\"} 1",
            "metallb_k8s_client_config_loaded_bool 1",
            "metallb_k8s_client_config_stale_bool 0",
            "speaker_answers_total{ip=\"10.0.0.240\",link=\"eth0\"} 1",
            "speaker_answers_total{ip=\"fd00::240\",link=\"eth0\"} 0",
            "speaker_conflicts_total{ip=\"10.0.0.240\",link=\"eth0\"} 1",
            "speaker_conflicts_total{ip=\"fd00::240\",link=\"eth0\"} 0",
            "speaker_attached{link=\"eth0\",mode=\"generic\"} 1",
            "# EOF",
        ] {
            assert!(
                metrics.lines().any(|it| it == line),
                "{line} is not in {metrics}"
            );
        }
        assert_names_what_is_asked_for(&metrics)
    });
}

/// Asserts that the exposition has each metric that an alert or the dashboard queries from an
/// agent.
fn assert_names_what_is_asked_for(exposition: &str) -> Result<()> {
    /// From the controller, and from agents that follow an API server: their unit tests check these
    /// names.
    const ELSEWHERE: [&str; 6] = [
        "metallb_allocator_ipv4_addresses_in_use_total",
        "metallb_allocator_ipv4_addresses_total",
        "metallb_allocator_ipv6_addresses_in_use_total",
        "metallb_allocator_ipv6_addresses_total",
        "speaker_api_server_reachable",
        "speaker_controller_leading",
    ];
    let types = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let told: BTreeSet<String> = types
        .filter_map(|it| it.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            _ => name.to_owned(),
        })
        .chain(ELSEWHERE.map(str::to_owned))
        .collect();
    let monitoring = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring");
    for file in ["alerts.yaml", "dashboard.json"] {
        let text = fs::read_to_string(monitoring.join(file))?;
        let queries = text.lines().filter(|line| {
            let key = line.trim_start().trim_start_matches('"');
            key.starts_with("expr") || key.contains("label_values(")
        });
        let mut asked = 0;
        for query in queries {
            let words = query.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
            for name in words.filter(|it| it.starts_with("speaker_") || it.starts_with("metallb_"))
            {
                assert!(told.contains(name), "{file}: nobody tells {name}: {query}");
                asked += 1;
            }
        }
        assert!(asked > 5, "{file} asks for {asked} metrics only");
    }
    Ok(())
}

/// An ARP message about the IPv4 VIP.
fn is_arp(message: &Message, wanted: ArpOperation) -> bool {
    match message {
        Message::Arp {
            operation, sender, ..
        } => *operation == wanted && IpAddr::V4(sender.0) == VIPS[0],
        _ => false,
    }
}

use super::*;

#[test]
fn the_lease_has_one_wording_for_each_case() {
    let check = |state, agent_left_ms, peers_left_ms: Option<i64>, expect: &str| {
        let text = lease_text(LeaseReport {
            state,
            alone: state == LeaseState::Valid && peers_left_ms.is_none(),
            agent_left_ms,
            peers_left_ms,
        });
        assert_eq!(text, format!("lease: {expect}\n"));
    };
    check(
        LeaseState::Valid,
        Some(2_900),
        Some(300),
        "valid for another 2s without an agent, and for 300ms without probes by other nodes",
    );
    check(
        LeaseState::Valid,
        Some(2_900),
        None,
        "valid for another 2s without an agent; no other node shares the VIPs",
    );
    check(
        LeaseState::Unarmed,
        Some(2_900),
        None,
        "not valid yet: nothing is answered until another node probes this one",
    );
    check(
        LeaseState::Over,
        Some(-2_000),
        Some(-2_500),
        "lapsed 2s ago: nothing is answered until an agent runs again",
    );
    check(
        LeaseState::Over,
        Some(2_900),
        Some(-2_000),
        "lapsed 2s ago, because no other node probed this one: nothing is answered until it \
         has joined the others again",
    );
    check(
        LeaseState::Over,
        Some(2_900),
        Some(300),
        "over: nothing is answered until the agent begins a new one",
    );
    let none = "none, because no agent has held it yet: nothing is answered";
    check(LeaseState::Over, None, None, none);
}

#[test]
fn the_configuration_in_force_is_mentioned_only_once_read() {
    let told = |updates: u64| {
        let report = serde_json::json!({
            "node": "node-a",
            "lease": { "state": "valid", "alone": true, "agent_left_ms": 2_900 },
            "vips": [],
            "links": [],
            "reasons": {},
            "refused": [],
            "updates": updates,
            "api_server": { "away": { "for_ms": 5_000, "why": "connection refused" } },
        });
        text(&serde_json::from_value(report).unwrap())
    };
    let lease = "lease: valid for another 2s without an agent; no other node shares the VIPs\n";
    let away = "the API server has not answered for 5s: connection refused";
    let unread = "no configuration has been read yet: see the agent's log\n";
    assert_eq!(told(0), format!("{unread}{lease}{away}\n"));
    let empty = "no VIPs: no Service of type LoadBalancer has an address here\n";
    let in_force = "; the last known configuration stays in force\n";
    assert_eq!(told(1), format!("{empty}{lease}{away}{in_force}"));
}

#[test]
fn a_reason_is_shown_once_below_the_table() {
    let refused = |address: &str| {
        serde_json::json!({
            "address": address, "services": ["default/web"], "places": [], "counts": [],
            "reason": "no IPAddressPool holds this address: add it to one",
        })
    };
    let failed = serde_json::json!({
        "address": "192.0.2.9", "services": ["default/web"], "counts": [], "reason": null,
        "places": [{
            "link": "eth0", "interface": "eth0", "mac": "02:00:00:00:00:01", "vlan": 0,
            "state": "failed", "error": "eth0 already runs an XDP program", "announced": 0,
            "conflicts": 0,
        }],
    });
    let report = serde_json::json!({
        "node": "node-a", "lease": { "state": "valid", "alone": true },
        "vips": [refused("192.0.2.1"), refused("192.0.2.2"), failed], "links": [],
        "reasons": {}, "refused": [], "updates": 1,
    });
    let text = text(&serde_json::from_value(report).unwrap());
    let lines: Vec<&str> = text.lines().collect();
    let state = |line: &str| line.split("   ").nth(1).unwrap().trim().to_owned();
    assert_eq!(state(lines[1]), "not announced");
    assert_eq!(state(lines[3]), "failed");
    let expect = [
        "192.0.2.9 on eth0: failed: eth0 already runs an XDP program",
        "192.0.2.1 and 1 more: not announced: no IPAddressPool holds this address: add it to one",
    ];
    assert_eq!(lines[4..6], expect);
}

/// They share its address.
#[test]
fn the_services_of_a_vip_fit_on_a_line() {
    let shown = |services: &[&str]| {
        let vip = serde_json::json!({
            "address": "192.0.2.1", "services": services, "places": [], "counts": [],
            "reason": "no pool",
        });
        let rows = rows(&serde_json::from_value(vip).unwrap());
        rows.into_iter().next().unwrap().services
    };
    assert_eq!(shown(&[]), "-");
    assert_eq!(shown(&["a/web", "b/web"]), "a/web, b/web");
    assert_eq!(shown(&["a/web", "b/web", "c/web"]), "a/web and 2 more");
}

#[test]
fn durations_are_short() {
    assert_eq!(rounded(12), "12ms");
    assert_eq!(rounded(1_999), "1s");
    assert_eq!(rounded(3_661_000), "1h 1m");
}

#[test]
fn a_silent_node_is_silent_since_it_was_last_heard() {
    let member = |state: &str| {
        serde_json::json!({
            "name": state, "address": "192.0.2.2:7946", "state": state, "since_ms_ago": 90_000,
            "heard_ms_ago": 2_000, "links": [],
        })
    };
    let report = serde_json::json!({
        "node": "node-a", "lease": { "state": "valid", "alone": true }, "vips": [], "links": [],
        "reasons": {}, "refused": [], "updates": 1, "members": [member("ready"), member("silent")],
    });
    let text = text(&serde_json::from_value(report).unwrap());
    assert!(
        text.contains("ready at 192.0.2.2:7946: ready for 1m 30s\n"),
        "{text}"
    );
    assert!(
        text.contains("silent at 192.0.2.2:7946: silent for 2s\n"),
        "{text}"
    );
}

//! The objects: their budgets, and that other tools can load and read them.

use std::{collections::BTreeSet, process::Command};

use nix::unistd::Uid;
use serde_json::Value;
use speaker_tests::{
    lab::{self, Missing},
    program::{self, object},
};

/// Instructions that the kernel's verifier may process: about an eighth of its limit.
const VERIFIED_INSTRUCTIONS: u32 = 130_000;
/// Bytes of the program in the kernel's own instructions.
const TRANSLATED_BYTES: u32 = 36_000;
/// Bytes of the object that the binary embeds, with the types that name the maps' fields.
const OBJECT_BYTES: usize = 560_000;
/// Bytes of all maps together.
const MAP_BYTES: u64 = 20_000_000;

#[test]
fn the_program_is_within_its_budgets() {
    program::test(object::SPEAKER, |program| {
        let info = program.info().expect("the kernel tells of the program");
        let verified = info.verified_instruction_count().expect("Linux 5.16");
        let translated = info.size_translated().expect("the size is known");
        let object = object::bytes(object::SPEAKER)
            .expect("the object is built")
            .len();
        println!("{verified} verified instructions, {translated} bytes, object {object} bytes");
        assert!(verified <= VERIFIED_INSTRUCTIONS, "{verified} instructions");
        assert!(translated <= TRANSLATED_BYTES, "{translated} bytes");
        assert!(object <= OBJECT_BYTES, "{object} bytes");
    });
}

#[test]
fn the_maps_are_within_their_budget() {
    bpftool(
        "bpftool prog load $OBJECT $FS/program type xdp pinmaps $FS/maps
         for map in $FS/maps/*; do bpftool -j map show pinned $map; echo; done",
        |maps| {
            let mut sum = 0;
            for map in maps {
                let bytes = map["bytes_memlock"].as_u64().expect("a map has a size");
                println!("{} {bytes}", map["name"]);
                sum += bytes;
            }
            assert_eq!(maps.len(), 12, "{maps:?}");
            assert!(sum <= MAP_BYTES, "{sum} bytes");
        },
    );
}

/// A host that was suspended must find its lease lapsed: `CLOCK_MONOTONIC` would have stood still.
#[test]
fn the_program_reads_only_the_clock_that_runs_while_the_host_is_suspended() {
    program::test(object::SPEAKER, |program| {
        let info = program.info().expect("the kernel tells of the program");
        let dump = ["prog", "dump", "xlated", "id", &info.id().to_string()];
        let output = Command::new("bpftool").args(dump).output();
        let output = output.expect("bpftool is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        let calls = text.split_whitespace().filter(|it| it.contains("ktime"));
        let clocks: BTreeSet<&str> = calls.filter_map(|it| it.split('#').next()).collect();
        assert_eq!(
            clocks.into_iter().collect::<Vec<_>>(),
            ["bpf_ktime_get_boot_ns"],
            "{output:?}"
        );
    });
}

#[test]
fn bpftool_loads_the_object_and_names_the_fields() {
    bpftool(
        "bpftool prog load $OBJECT $FS/program type xdp pinmaps $FS/maps
         bpftool map update pinned $FS/maps/links \
             key 0 0 0 0 value 2 0 0 0 0 1 0 0 7 0 0 0 2 0 0 0
         bpftool map update pinned $FS/maps/vips_v4 \
             key 192 0 2 100 7 0 0 0 100 0 0 0 value 1 0 0 0 5 0 0 0
         bpftool map update pinned $FS/maps/vips_v6 \
             key hex 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 64 \
                 07 00 00 00 64 00 c8 00 value 02 00 00 00 06 00 00 00
         bpftool map update pinned $FS/maps/peers key 0 0 0 0 value \
             1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0 3 0 0 0 0 0 0 0 4 0 0 0 0 0 0 0
         for map in links vips_v4 vips_v6 lease peers probes tap; do
             bpftool -j map dump pinned $FS/maps/$map; echo
         done",
        assert_named,
    );
}

fn assert_named(dumps: &[Value]) {
    let [links, vips_v4, vips_v6, lease, peers, probes, tap] = dumps else {
        panic!("seven maps, not {dumps:?}");
    };
    let cell = &links[0]["formatted"]["value"];
    assert_eq!(cell["ifindex"], 2);
    assert_eq!(cell["link"]["mac"], serde_json::json!([2, 0, 0, 0, 0, 1]));
    assert_eq!(cell["link"]["port"], 7);

    let vip = &vips_v4[0]["formatted"];
    assert_eq!(vip["key"]["address"], serde_json::json!([192, 0, 2, 100]));
    assert_eq!(vip["key"]["port"], 7);
    assert_eq!(vip["key"]["vlan"]["id"], 100);
    assert_eq!(vip["value"]["action"], "Answer");
    assert_eq!(vip["value"]["slot"], 5);

    let vip = &vips_v6[0]["formatted"];
    assert_eq!(vip["key"]["address"][15], 0x64);
    assert_eq!(vip["key"]["vlan"]["service"], 200);
    assert_eq!(vip["value"]["action"], "Suppress");

    let lease = &lease[0]["formatted"]["value"];
    for field in [
        "life",
        "agent_deadline_ns",
        "heartbeat_ns",
        "peers_lease_ns",
        "alone",
        "flags",
    ] {
        assert_eq!(lease[field], 0, "{field}");
    }
    let peers = &peers[0]["formatted"]["value"];
    for (field, value) in [("life", 1), ("deadline_ns", 2), ("over", 3), ("company", 4)] {
        assert_eq!(peers[field], value, "{field}");
    }
    let probes = &probes[0]["formatted"]["value"];
    for field in ["node", "count", "port"] {
        assert_eq!(probes[field], 0, "{field}");
    }
    assert_eq!(tap[0]["formatted"]["value"]["watched"], 0);
}

/// Runs commands with `$OBJECT` and `$FS`, a bpffs in a temporary mount namespace. They print JSON,
/// one document per line, which is checked.
fn bpftool(commands: &str, check: impl FnOnce(&[Value])) {
    if !Uid::effective().is_root() {
        return lab::skip(&Missing::Privilege);
    }
    // libbpf would make an underscore of a dot in the path.
    let fs = tempfile::Builder::new()
        .prefix("speaker-")
        .tempdir()
        .expect("a temporary directory");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec"])
        .arg(format!(
            "mount -t bpf bpf $FS\nmkdir -p $FS/maps\n{commands}"
        ))
        .env("FS", fs.path())
        .env(
            "OBJECT",
            object::path(object::SPEAKER).expect("the object is built"),
        )
        .output()
        .expect("unshare of util-linux runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let documents: Vec<Value> = String::from_utf8(output.stdout)
        .expect("JSON is text")
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).expect("bpftool prints JSON"))
        .collect();
    check(&documents);
}

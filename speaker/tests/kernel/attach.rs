//! Attaching the program to an interface: modes, and other programs.

use std::{fs, path::Path, process::Command};

use aya::util::KernelVersion;
use nix::mount::{MntFlags, umount2};
use speaker::kernel::{
    AttachError, Attached, Kernel, ModeChoice, OpenError, PinError, SwapError, detach_all,
};
use speaker_core::link::XdpMode;
use tracing::Level;

use crate::{
    MAC, VIP, agent,
    common::{cable, index, ip, isolated, isolated_async},
    link_pin, open, options, pinned,
};

#[test]
fn veth_is_generic_unless_asked_and_says_why() {
    isolated(|bpffs| {
        let (mut kernel, port, client) = agent(bpffs);
        let mut attach = |choice| kernel.attach(port, choice).unwrap();
        let generic = attach(ModeChoice::Auto);
        assert_eq!(generic.mode, XdpMode::Generic);
        let why = generic.why_generic.unwrap();
        assert!(why.starts_with("veth drops"), "{why}");
        let native = Attached {
            mode: XdpMode::Native,
            adopted: false,
            why_generic: None,
        };
        assert_eq!(attach(ModeChoice::Native), native);
        let adopted = Attached {
            adopted: true,
            ..native
        };
        assert_eq!(attach(ModeChoice::Native), adopted);
        assert_eq!(attach(ModeChoice::Auto).mode, XdpMode::Generic);
        let generic = Attached {
            mode: XdpMode::Generic,
            adopted: true,
            why_generic: None,
        };
        assert_eq!(attach(ModeChoice::Generic), generic);
        assert_eq!(client.ask(VIP), Some(MAC));
    });
}

#[test]
fn refused_native_mode_has_the_drivers_reason() {
    isolated(|bpffs| {
        cable();
        ip("link add br0 type bridge");
        let mut kernel = open(bpffs);
        let attached = kernel.attach(index("br0"), ModeChoice::Native).unwrap();
        assert_eq!(attached.mode, XdpMode::Generic);
        assert_eq!(
            attached.why_generic.as_deref(),
            Some("Underlying driver does not support XDP in native mode")
        );
    });
}

#[test]
fn unsupported_native_mode_is_not_retried_at_each_start() {
    isolated(|bpffs| {
        cable();
        ip("link add br0 type bridge");
        let bridge = index("br0");
        open(bpffs).attach(bridge, ModeChoice::Native).unwrap();
        let (link, _) = pinned(bpffs, bridge);
        let attached = open(bpffs).attach(bridge, ModeChoice::Native).unwrap();
        assert!(attached.adopted);
        assert_eq!(pinned(bpffs, bridge).0, link);
    });
}

/// Each try would leave VIPs unanswered, and those of other nodes to this node's own kernel.
#[test]
fn refused_native_mode_is_not_retried_at_each_start() {
    isolated(|bpffs| {
        ip("link add port numrxqueues 1 numtxqueues 1 type veth \
             peer name peer numtxqueues 2 numrxqueues 2");
        ip("link set port up");
        let port = index("port");
        let reason = "veth: XDP expects number of rx queues not less than peer tx queues";
        let attach = || open(bpffs).attach(port, ModeChoice::Native).unwrap();
        let attached = attach();
        assert_eq!(attached.mode, XdpMode::Generic);
        assert_eq!(attached.why_generic.as_deref(), Some(reason));
        let (link, _) = pinned(bpffs, port);
        let attached = attach();
        assert!(attached.adopted, "{attached:?}");
        assert_eq!(pinned(bpffs, port).0, link);
        let why = attached.why_generic.unwrap();
        assert!(
            why.starts_with(reason) && why.contains("`speaker detach`"),
            "{why}"
        );

        detach_all(bpffs).unwrap();
        assert!(!bpffs.join("speaker").exists());
        assert_eq!(attach().why_generic.as_deref(), Some(reason));
    });
}

#[test]
fn jumbo_frames_do_not_prevent_native_mode() {
    isolated(|bpffs| {
        cable();
        ip("link set peer mtu 9000");
        ip("link set port mtu 9000");
        let attached = open(bpffs)
            .attach(index("port"), ModeChoice::Native)
            .unwrap();
        // Frames in fragments came with 5.18.
        if KernelVersion::current().unwrap() >= KernelVersion::new(5, 18, 0) {
            assert_eq!(attached.mode, XdpMode::Native, "{attached:?}");
        } else {
            assert_eq!(attached.mode, XdpMode::Generic);
            let why = attached.why_generic.unwrap();
            assert!(why.contains("MTU is too large"), "{why}");
        }
    });
}

#[test]
fn another_program_on_the_link_is_named() {
    isolated(|bpffs| {
        cable();
        let port = index("port");
        // Pins of its own, below the same BPF file system.
        let elsewhere = bpffs.join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let mut other = open(&elsewhere);
        other.attach(port, ModeChoice::Native).unwrap();

        let mut kernel = open(bpffs);
        let text = kernel.attach(port, ModeChoice::Native).unwrap_err();
        let text = text.to_string();
        assert!(
            !text.contains("pinned at"),
            "not searched for at once: {text}"
        );
        for choice in [ModeChoice::Native, ModeChoice::Generic] {
            let error = loop {
                let error = kernel.attach(port, choice).unwrap_err();
                if error.to_string().contains("held by") {
                    break error;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            };
            let text = error.to_string();
            let AttachError::Occupied { link, mode, by } = error else {
                panic!("{error:?}");
            };
            assert_eq!((link.as_str(), mode), ("port", XdpMode::Native));
            assert_eq!(
                (by.id, by.name.as_deref()),
                (other.program_id(), Some("speaker"))
            );
            assert_eq!(by.pins, [elsewhere.join(format!("speaker/links/{port}"))]);
            let holders: Vec<u32> = by.processes.iter().map(|(_, pid)| *pid).collect();
            assert_eq!(holders, [std::process::id()]);
            let wanted = format!(
                "port already runs an XDP program in native mode, and takes only one: \
                 program {} \"speaker\", pinned at ",
                other.program_id()
            );
            assert!(text.starts_with(&wanted), "{text}");
        }
        assert_eq!(pinned(&elsewhere, port).1, other.program_id(), "untouched");
    });
}

#[test]
fn a_removed_link_does_not_block_its_index() {
    isolated(|bpffs| {
        let (mut kernel, port, _) = agent(bpffs);
        ip("link delete port");
        let error = kernel.attach(port, ModeChoice::Auto).unwrap_err();
        assert!(matches!(error, AttachError::NoSuchLink { ifindex } if ifindex == port));
        ip(&format!("link add again index {port} type bridge"));
        let attached = kernel.attach(port, ModeChoice::Auto).unwrap();
        assert!(!attached.adopted);
        assert_eq!(pinned(bpffs, port).1, kernel.program_id());
        ip("link delete again");
        kernel.detach(port).unwrap();
        assert!(!link_pin(bpffs, port).exists());
        kernel.detach(port).unwrap();
    });
}

#[test]
fn a_detached_link_is_free_at_once() {
    isolated(|bpffs| {
        let (mut kernel, port, client) = agent(bpffs);
        for _ in 0..20 {
            kernel.detach(port).unwrap();
            let attached = kernel.attach(port, ModeChoice::Generic).unwrap();
            assert!(!attached.adopted);
        }
        assert_eq!(client.ask(VIP), Some(MAC));
    });
}

#[test]
fn a_detached_program_is_noticed_and_a_removed_pin_restored() {
    isolated(|bpffs| {
        let (mut kernel, port, client) = agent(bpffs);
        let (link, program) = pinned(bpffs, port);
        assert!(kernel.still_runs(port).unwrap());
        fs::remove_file(link_pin(bpffs, port)).unwrap();
        assert_eq!(client.ask(VIP), Some(MAC), "the agent holds it, too");
        kernel.keep_pins();
        assert!(kernel.still_runs(port).unwrap());
        assert_eq!(pinned(bpffs, port), (link, program));

        detach(bpffs, port);
        assert!(!kernel.still_runs(port).unwrap());
        let attached = kernel.attach(port, ModeChoice::Auto).unwrap();
        assert!(!attached.adopted);
        assert!(kernel.still_runs(port).unwrap());
        assert_eq!(client.ask(VIP), Some(MAC));

        fs::remove_file(link_pin(bpffs, port)).unwrap();
        kernel.detach(port).unwrap();
        assert!(!kernel.still_runs(port).unwrap());
    });
}

#[test]
fn removed_or_unmounted_pins_are_restored() {
    isolated(|bpffs| {
        let (mut kernel, port, client) = agent(bpffs);
        let (link, program) = pinned(bpffs, port);
        let remove = || fs::remove_dir_all(bpffs.join("speaker")).unwrap();
        for lose in [&remove as &dyn Fn(), &|| unmount(bpffs)] {
            lose();
            kernel.keep_pins();
            assert!(kernel.still_runs(port).unwrap());
            assert_eq!(pinned(bpffs, port), (link, program));
            assert_eq!(client.ask(VIP), Some(MAC));
            let second = Kernel::open(&options(bpffs)).err().unwrap();
            assert!(
                matches!(second, OpenError::Pin(PinError::Lock(_))),
                "{second:?}"
            );
        }
        drop(kernel);
        let mut kernel = open(bpffs);
        assert_eq!(kernel.maps().vips().unwrap().len(), 1);
        assert!(kernel.attach(port, ModeChoice::Auto).unwrap().adopted);
        assert_eq!(client.ask(VIP), Some(MAC));
    });
}

#[test]
fn an_unpinnable_program_stays_and_no_other_is_attached() {
    isolated_async(|bpffs| async move {
        let (mut kernel, port, client) = agent(&bpffs);
        let before = pinned(&bpffs, port);
        unmount(&bpffs);
        let in_the_way = bpffs.join("in-the-way");
        fs::write(&in_the_way, "").unwrap();
        for _ in 0..2 {
            kernel.keep_pins();
            assert!(kernel.still_runs(port).unwrap());
            assert_eq!(client.ask(VIP), Some(MAC));
        }
        // With maps of its own, it would answer nothing.
        let refused = kernel.set_ebpf_log_level(Some(Level::ERROR)).unwrap_err();
        assert!(matches!(refused, SwapError::Pin(_)), "{refused:?}");
        ip("link add br0 type bridge");
        let bridge = index("br0");
        let refused = kernel.attach(bridge, ModeChoice::Auto).unwrap_err();
        assert!(matches!(refused, AttachError::Pin(_)), "{refused:?}");
        assert_eq!(client.ask(VIP), Some(MAC));

        fs::remove_file(in_the_way).unwrap();
        kernel.keep_pins();
        assert_eq!(pinned(&bpffs, port), before);
    });
}

fn unmount(bpffs: &Path) {
    umount2(bpffs, MntFlags::MNT_DETACH).unwrap();
}

/// As `bpftool link detach` does it.
fn detach(bpffs: &Path, port: u32) {
    let bpftool = Command::new("bpftool")
        .args(["link", "detach", "pinned"])
        .arg(link_pin(bpffs, port))
        .status();
    assert!(bpftool.unwrap().success());
}

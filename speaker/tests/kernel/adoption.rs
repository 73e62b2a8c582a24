//! A run adopts what an earlier one left.

use std::{
    net::IpAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aya::maps::{Array, Map, MapData};
use speaker::kernel::{Kernel, ModeChoice, OpenError, PinError};
use speaker_common::layout::{Action, Link, Vip};
use tracing::Level;

use crate::{
    MAC, SLOT, VIP, agent,
    common::{index, ip, isolated, isolated_async},
    counted, fill, key, link_pin, open, options, pinned, replace_with_other_size,
};

#[test]
fn a_restart_adopts_maps_and_links() {
    isolated(|bpffs| {
        let (kernel, port, client) = agent(bpffs);
        let (link, program) = pinned(bpffs, port);
        assert_eq!(program, kernel.program_id());
        drop(kernel);
        assert_eq!(client.ask(VIP), Some(MAC), "nobody is needed to answer");

        let mut kernel = open(bpffs);
        let vips = kernel.maps().vips().unwrap();
        assert_eq!(vips, [(key(VIP, port), Vip::new(Action::Answer, SLOT))]);
        assert_eq!(
            kernel.maps().links().unwrap(),
            [(port, Link::new(MAC, port))]
        );
        let attached = kernel.attach(port, ModeChoice::Auto).unwrap();
        assert!(attached.adopted);
        let (link_now, program_now) = pinned(bpffs, port);
        assert_eq!(link_now, link, "the attachment is the same");
        assert_eq!(program_now, kernel.program_id());
        assert_ne!(program_now, program, "the program is new");
        assert_eq!(kernel.finish_adoption().unwrap(), Default::default());
        assert_eq!(client.ask(VIP), Some(MAC));
        assert_eq!(counted(kernel.maps()).answered, 2);
    });
}

#[test]
fn a_map_of_a_different_size_is_replaced_and_the_others_kept() {
    isolated(|bpffs| {
        let (kernel, port, client) = agent(bpffs);
        let (link, _) = pinned(bpffs, port);
        assert_eq!(client.ask(VIP), Some(MAC));
        let lease = kernel.maps().lease().unwrap();
        drop(kernel);
        replace_with_other_size(bpffs, "tap");

        let mut kernel = open(bpffs);
        assert!(!kernel.maps().watched().unwrap());
        assert_eq!(kernel.maps().vips().unwrap().len(), 1);
        assert_eq!(kernel.maps().lease().unwrap(), lease);
        assert!(kernel.attach(port, ModeChoice::Auto).unwrap().adopted);
        assert_eq!(client.ask(VIP), Some(MAC));
        let cleared = kernel.finish_adoption().unwrap();
        assert_eq!(cleared.layouts, ["v2"]);
        assert_eq!(pinned(bpffs, port).0, link);
        drop(kernel);

        let kernel = open(bpffs);
        assert!(!bpffs.join("speaker/v2-new").exists());
        assert_eq!(counted(kernel.maps()).answered, 2);
    });
}

#[test]
fn kept_vips_are_found_through_a_new_filter() {
    isolated(|bpffs| {
        let (mut kernel, port, client) = agent(bpffs);
        let v6 = key("2001:db8::10".parse::<IpAddr>().unwrap(), port);
        let vip = Vip::new(Action::Answer, SLOT + 1);
        kernel.maps_mut().put_vip(&v6, &vip).unwrap();
        drop(kernel);
        // A map of a different size, or a missing one.
        for change in [
            (|bpffs| replace_with_other_size(bpffs, "filter")) as fn(&Path),
            |bpffs| std::fs::remove_file(bpffs.join("speaker/v2/filter")).unwrap(),
        ] {
            change(bpffs);
            let mut kernel = open(bpffs);
            assert!(kernel.attach(port, ModeChoice::Auto).unwrap().adopted);
            assert_eq!(client.ask(VIP), Some(MAC));
            kernel.finish_adoption().unwrap();
            let listed = MapData::from_pin(bpffs.join("speaker/v2/filter"))
                .and_then(Map::from_map_data)
                .and_then(Array::<MapData, u64>::try_from)
                .unwrap();
            let bits: u32 = listed.iter().map(|word| word.unwrap().count_ones()).sum();
            assert_eq!(bits, 2);
        }
    });
}

#[test]
fn old_maps_serve_until_the_link_uses_the_new_ones() {
    isolated(|bpffs| {
        let (kernel, port, client) = agent(bpffs);
        drop(kernel);
        replace_with_other_size(bpffs, "vips_v4");
        let mut kernel = open(bpffs);
        assert_eq!(kernel.maps().vips().unwrap(), []);
        assert_eq!(client.ask(VIP), Some(MAC));
        fill(&mut kernel, port);
        assert!(kernel.attach(port, ModeChoice::Auto).unwrap().adopted);
        kernel.finish_adoption().unwrap();
        assert_eq!(client.ask(VIP), Some(MAC));
        kernel.maps_mut().remove_vip(&key(VIP, port)).unwrap();
        assert_eq!(client.ask(VIP), None);
    });
}

#[test]
fn no_request_goes_unanswered_while_program_and_maps_are_exchanged() {
    isolated_async(|bpffs| async move {
        let (mut kernel, port, client) = agent(&bpffs);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        // A thread begins in the namespaces of the one that makes it.
        let asking = std::thread::spawn(move || {
            let mut asked = 0;
            while !stopped.load(Ordering::Relaxed) {
                assert_eq!(client.ask(VIP), Some(MAC), "after {asked} answers");
                asked += 1;
            }
            asked
        });

        kernel.set_ebpf_log_level(Some(Level::ERROR)).unwrap();
        kernel.set_ebpf_log_level(None).unwrap();
        drop(kernel);
        let mut kernel = open(&bpffs);
        kernel.attach(port, ModeChoice::Auto).unwrap();
        kernel.finish_adoption().unwrap();
        drop(kernel);
        for map in ["reasons", "vips_v4"] {
            replace_with_other_size(&bpffs, map);
            let mut kernel = open(&bpffs);
            fill(&mut kernel, port);
            kernel.attach(port, ModeChoice::Auto).unwrap();
            assert_eq!(kernel.finish_adoption().unwrap().layouts, ["v2"]);
        }

        stop.store(true, Ordering::Relaxed);
        let asked = asking.join().unwrap();
        assert!(asked > 1000, "{asked}");
    });
}

#[test]
fn an_interrupted_replacement_is_resumed() {
    isolated(|bpffs| {
        let (kernel, port, _) = agent(bpffs);
        drop(kernel);
        // Interrupted between removing the old maps and moving the new ones into place.
        let place = bpffs.join("speaker/v2");
        std::fs::rename(&place, bpffs.join("speaker/v2-new")).unwrap();
        let kernel = open(bpffs);
        assert_eq!(kernel.maps().vips().unwrap().len(), 1);
        assert!(place.exists());
        drop(kernel);

        // Interrupted before that: old maps in place, new ones beside them, some links on the new ones.
        std::fs::rename(&place, bpffs.join("speaker/v2-new")).unwrap();
        std::fs::create_dir(&place).unwrap();
        replace_with_other_size(bpffs, "tap");
        let mut kernel = open(bpffs);
        assert_eq!(kernel.maps().vips().unwrap().len(), 1);
        assert!(kernel.attach(port, ModeChoice::Auto).unwrap().adopted);
        assert_eq!(kernel.finish_adoption().unwrap().layouts, ["v2"]);
        assert!(place.join("vips_v4").exists());
    });
}

#[test]
fn unadopted_pins_are_removed() {
    isolated(|bpffs| {
        let (mut kernel, port, client) = agent(bpffs);
        ip("link add other type bridge");
        kernel.attach(index("other"), ModeChoice::Auto).unwrap();
        drop(kernel);
        std::fs::create_dir(bpffs.join("speaker/v0")).unwrap();

        let mut kernel = open(bpffs);
        kernel.attach(index("other"), ModeChoice::Auto).unwrap();
        assert_eq!(client.ask(VIP), Some(MAC), "not before");
        let cleared = kernel.finish_adoption().unwrap();
        assert_eq!(
            (cleared.links, cleared.layouts),
            (vec![port], vec!["v0".into()])
        );
        assert_eq!(client.ask(VIP), None);
        assert!(!link_pin(bpffs, port).exists());
        assert!(link_pin(bpffs, index("other")).exists());
    });
}

#[test]
fn the_second_agent_on_a_node_is_refused() {
    isolated(|bpffs| {
        let first = open(bpffs);
        let error = Kernel::open(&options(bpffs)).err().unwrap();
        assert!(
            matches!(error, OpenError::Pin(PinError::Lock(_))),
            "{error:?}"
        );
        let wanted = format!("an agent, pid {}, runs on this node", std::process::id());
        assert!(error.to_string().starts_with(&wanted), "{error}");
        drop(first);
        open(bpffs);
    });
}

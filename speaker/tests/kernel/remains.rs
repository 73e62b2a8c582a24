//! The BPF file system: preparing it, reading the pins, and leaving it empty.

use std::{
    fs::{self, File},
    path::Path,
};

use nix::mount::umount;
use speaker::kernel::{
    Inspect, InspectError, Kernel, ModeChoice, PinError, RemoveError, detach_all,
};
use speaker_core::link::XdpMode;

use crate::{
    MAC, VIP, agent,
    common::{index, ip, isolated},
    counted, options,
};

#[test]
fn pins_can_be_read_without_an_agent() {
    isolated(|bpffs| {
        let error = Inspect::open(bpffs).err().unwrap();
        assert!(matches!(error, InspectError::NoPins { .. }));
        assert!(
            error.to_string().starts_with("nothing is pinned under "),
            "{error}"
        );

        let (mut kernel, port, client) = agent(bpffs);
        ip("link add gone type bridge");
        let gone = index("gone");
        kernel.attach(gone, ModeChoice::Auto).unwrap();
        ip("link delete gone");
        let program = kernel.program_id();
        drop(kernel);
        assert_eq!(client.ask(VIP), Some(MAC));
        let inspect = Inspect::open(bpffs).unwrap();
        assert_eq!(inspect.maps().vips().unwrap().len(), 1);
        assert_eq!(counted(inspect.maps()).answered, 1);
        let attached = inspect.attached().unwrap();
        let interfaces: Vec<_> = attached
            .iter()
            .map(|link| (link.ifindex, link.program, link.interface.clone()))
            .collect();
        assert_eq!(
            interfaces,
            [
                (port, program, Some(("port".to_owned(), XdpMode::Generic))),
                (gone, program, None),
            ]
        );

        fs::rename(bpffs.join("speaker/v2"), bpffs.join("speaker/v7")).unwrap();
        let error = Inspect::open(bpffs).err().unwrap();
        assert!(
            error.to_string().contains("have another layout (v7)"),
            "{error}"
        );
    });
}

#[test]
fn detaching_leaves_nothing() {
    isolated(|bpffs| {
        assert_eq!(detach_all(bpffs).unwrap(), Default::default());
        let (kernel, port, client) = agent(bpffs);
        let error = detach_all(bpffs).unwrap_err();
        assert!(
            matches!(error, RemoveError::Pin(PinError::Lock(_))),
            "{error}"
        );
        assert_eq!(client.ask(VIP), Some(MAC));
        drop(kernel);
        let removed = detach_all(bpffs).unwrap();
        assert_eq!(removed.links, [(port, Some("port".to_owned()))]);
        assert_eq!(removed.layouts, ["v2"]);
        assert!(!bpffs.join("speaker").exists());
        assert_eq!(client.ask(VIP), None);
        assert_eq!(detach_all(bpffs).unwrap(), Default::default());
        assert_eq!(detach_all(Path::new("/proc")).unwrap(), Default::default());
        assert_eq!(
            detach_all(Path::new("/nowhere")).unwrap(),
            Default::default()
        );
    });
}

#[test]
fn a_missing_bpf_file_system_is_mounted() {
    isolated(|_| {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let error = Kernel::open(&options(&missing)).err().unwrap();
        assert!(error.to_string().contains("no such directory"), "{error}");

        let taken = directory.path().join("taken");
        fs::create_dir_all(taken.join("with-something")).unwrap();
        let error = Kernel::open(&options(&taken)).err().unwrap();
        assert!(
            error.to_string().contains("is not a BPF file system"),
            "{error}"
        );

        let empty = directory.path().join("empty");
        fs::create_dir(&empty).unwrap();
        let kernel = Kernel::open(&options(&empty));
        assert!(kernel.is_ok(), "{:?}", kernel.err());
        drop(kernel);
        assert!(empty.join("speaker/v2/vips_v4").exists());
        umount(&empty).unwrap();
    });
}

#[test]
fn agents_that_start_together_do_not_mount_two_bpf_file_systems() {
    isolated(|_| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        // As the one that is about to mount it.
        let first = File::open(path).unwrap();
        first.try_lock().unwrap();
        let error = Kernel::open(&options(path)).err().unwrap();
        assert!(
            error.to_string().starts_with("another agent is mounting"),
            "{error}"
        );
        drop(first);
        assert!(Kernel::open(&options(path)).is_ok());
        umount(path).unwrap();
        assert!(
            fs::read_dir(path).unwrap().next().is_none(),
            "there are two"
        );
    });
}

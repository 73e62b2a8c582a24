//! Errors that a new user may encounter on the way to the first VIP.

use std::{ffi::OsStr, fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use anyhow::Result;
use speaker_tests::{
    agent::{Mode, Node},
    lab::{self, Command, Host, speaker_program},
    manifest::{self, Manifests},
};

use crate::{SOON, VIP_V4, answer};

/// As for root in an unprivileged container.
const WITHOUT_CAPABILITIES: &str = "setpriv --bounding-set=-all --inh-caps=-all --";

/// All that the agent requires, but not the permission to mount.
const WITHOUT_MOUNTING: &str = "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin --";

#[test]
fn a_plain_user_is_told_which_capabilities_are_missing() {
    lab::test(|lab| {
        let host = lab.host("laptop")?;
        let manifests = Manifests::new()?;
        let expected = [
            "error: not privileged: speaker needs CAP_BPF",
            "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW to run its program",
            "run it as root (`sudo speaker …`), or grant it CAP_BPF",
        ];
        // Accessible to other users, wherever it was built.
        host.command("mkdir").arg("/run/bin").run()?;
        let built = speaker_program()?;
        let directory = built.parent().expect("it is in a directory");
        let bind = host.command("mount").arg("--bind").arg(directory);
        bind.arg("/run/bin").run()?;
        let user = "setpriv --reuid=65534 --regid=65534 --clear-groups --";
        let command = started_by(&host, user, "/run/bin/speaker")
            .args(["agent", "--node-name", "laptop", "--manifests"])
            .arg(manifests.path());
        refused(command, 1, &expected)?;

        let command = agent(&host, WITHOUT_CAPABILITIES, &manifests, &[])?;
        refused(command, 1, &expected)?;
        let some = "setpriv --bounding-set=-all,+bpf,+perfmon --inh-caps=-all --";
        let command = agent(&host, some, &manifests, &[])?;
        refused(command, 1, &["needs CAP_NET_ADMIN and CAP_NET_RAW to"])?;

        let status = started_by(&host, user, "/run/bin/speaker").arg("status");
        refused(
            status,
            1,
            &["no agent answers on /var/lib/speaker/agent.sock"],
        )
    });
}

#[test]
fn an_old_kernel_is_refused_with_the_required_version() {
    lab::test(|lab| {
        let host = lab.host("museum")?;
        let manifests = Manifests::new()?;
        let command = agent(&host, "setarch --uname-2.6", &manifests, &[])?;
        let expected = [
            ") is too old: speaker needs Linux 5.10 or later",
            "error: this kernel (",
        ];
        refused(command, 1, &expected)
    });
}

#[test]
fn a_missing_bpf_file_system_is_mounted_or_the_remedy_named() {
    lab::test(|lab| {
        let host = lab.host("container")?;
        let manifests = Manifests::new()?;
        let agent = |by, bpffs| agent(&host, by, &manifests, &["--bpffs", bpffs]);
        let missing = agent("env", "/run/nowhere")?;
        let expected = [
            "/run/nowhere: no such directory",
            "`mkdir -p /run/nowhere`",
            "--bpffs",
        ];
        refused(missing, 1, &expected)?;
        let other = agent("env", "/etc")?;
        refused(
            other,
            1,
            &["/etc is not a BPF file system, and not an empty directory"],
        )?;

        host.command("mkdir").arg("/run/bpf").run()?;
        let refusing = agent(WITHOUT_MOUNTING, "/run/bpf")?;
        let expected = [
            "/run/bpf is not a BPF file system, and it cannot be mounted from here",
            "`mount -t bpf bpf /run/bpf`",
            "because: ",
        ];
        refused(refusing, 1, &expected)?;

        let mounting = agent("env", "/run/bpf")?.spawn()?;
        mounting.wait_for_line(
            "there was no BPF file system at /run/bpf: mounted one",
            SOON,
        )?;
        mounting.wait_for_line("ready", SOON)?;
        Ok(())
    });
}

#[test]
fn a_bad_argument_is_refused_by_its_name() {
    lab::test(|lab| {
        let host = lab.host("laptop")?;
        let manifests = Manifests::new()?;
        for (argument, value, expected) in [
            (
                "--xdp-mode",
                "fast",
                "[possible values: auto, native, generic]",
            ),
            ("--refresh", "often", "expected a duration with its unit"),
            ("--refresh", "1s", "expected 0s, or 5s or longer"),
            ("--interface", "eth0,", "a value is required"),
            ("--http", "everywhere", "expected an IP address with a port"),
            (
                "--log-level",
                "loud",
                "invalid value 'loud' for '--log-level <LEVEL>'",
            ),
            (
                "--ebpf-log-level",
                "loud",
                "invalid value 'loud' for '--ebpf-log-level <LEVEL>'",
            ),
        ] {
            let command = agent(&host, "env", &manifests, &[argument, value])?;
            refused(command, 2, &[argument, expected])?;
        }
        let nameless = host.speaker()?.args(["agent", "--manifests", "/tmp"]);
        refused(nameless, 2, &["--node-name <NAME>", "Usage: speaker agent"])?;
        let none = host.speaker()?.args(["watch", "--count", "0"]);
        refused(none, 2, &["--count <N>", "0 is not in 1.."])?;
        let nothing = host.speaker()?;
        refused(nothing, 2, &["Usage: speaker <COMMAND>", "status"])
    });
}

#[test]
fn an_interface_is_asked_for_by_its_main_name() {
    lab::test(|lab| {
        let host = lab.host("node-a")?;
        host.ip("link property add dev eth0 altname uplink0")?;
        let manifests = Manifests::new()?;
        let arguments = ["--interface=uplink0,eth7"];
        let agent = agent(&host, "env", &manifests, &arguments)?.spawn()?;
        for told in [
            "uplink0 (--interface) is called eth0: use that name",
            "no interface eth7 (--interface) yet: waiting for it",
        ] {
            agent.wait_for_line(told, SOON)?;
        }
        Ok(())
    });
}

/// Environment files and manifests often have such variables.
#[test]
fn an_empty_variable_counts_as_not_set() {
    lab::test(|lab| {
        let host = lab.host("node-a")?;
        let manifests = Manifests::new()?;
        let pool = manifest::pool("all", &["10.0.0.0/8"]);
        let advertisement = manifest::advertisement("all", &[], &[]);
        let service = manifest::service("web", &[VIP_V4]);
        manifests.write("all.yaml", &(pool + &advertisement + &service))?;
        let empty = "env SPEAKER_INTERFACE= SPEAKER_PEERS= SPEAKER_GOSSIP_BIND= SPEAKER_HTTP=";
        let agent = agent(&host, empty, &manifests, &[])?.spawn()?;
        agent.wait_for_line("answering for 10.0.0.240 on eth0", SOON)?;

        let names = ["SPEAKER_NODE_NAME", "METALLB_NODE_NAME"];
        let nameless = names
            .into_iter()
            .fold(host.speaker()?, |command, name| command.env(name, ""))
            .args(["agent", "--manifests", "/tmp"]);
        refused(nameless, 2, &["--node-name <NAME>", "Usage: speaker agent"])
    });
}

#[test]
fn an_unusable_state_directory_is_refused_by_name() {
    lab::test(|lab| {
        let host = lab.host("laptop")?;
        let manifests = Manifests::new()?;
        for directory in ["/proc/speaker", "/etc/hostname"] {
            let command = agent(&host, "env", &manifests, &["--state-dir", directory])?;
            let expected = format!("cannot create {directory} (--state-dir)");
            refused(command, 1, &[&expected, "because: "])?;
        }
        // It exists, but nothing can be created in it.
        let command = agent(&host, "env", &manifests, &["--state-dir", "/proc"])?;
        refused(command, 1, &["cannot ", " /proc/agent.sock", "because: "])
    });
}

#[test]
fn an_address_in_use_is_named() {
    lab::test(|lab| {
        let node = Node::new(lab, "node-a", Mode::Generic)?;
        let _taken = node.host.run(|| TcpListener::bind("127.0.0.1:9100"))?;
        let more = ["--http", "127.0.0.1:9100"];
        let command = agent(&node.host, "env", &node.manifests, &more)?;
        refused(
            command,
            1,
            &["cannot listen on 127.0.0.1:9100 (--http)", "because: "],
        )
    });
}

#[test]
fn a_key_file_readable_by_others_causes_a_warning() {
    lab::test(|lab| {
        let host = lab.host("node-a")?;
        let manifests = Manifests::new()?;
        let key = tempfile::NamedTempFile::new()?;
        fs::write(&key, "the secret of the nodes in the lab\n")?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
        let path = key.path().display().to_string();
        let arguments = ["--gossip-bind", "127.0.0.1", "--cluster-key-file", &path];
        let agent = agent(&host, "env", &manifests, &arguments)?.spawn()?;
        let expected = format!("users other than its owner can read {path} (--cluster-key-file)");
        agent.wait_for_line(&expected, SOON)?;
        Ok(())
    });
}

#[test]
fn the_log_has_colours_on_a_terminal_only_and_not_with_no_color() {
    lab::test(|lab| {
        let host = lab.host("laptop")?;
        let key = tempfile::NamedTempFile::new()?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
        let speaker = speaker_program()?.display().to_string();
        let key = key.path().display();
        // It warns about the key, and ends.
        let agent = format!(
            "{WITHOUT_CAPABILITIES} {speaker} agent --node-name laptop --manifests /tmp \
             --cluster-key-file {key}"
        );
        let on_terminal = || host.command("script").args(["-qec", &agent, "/dev/null"]);
        let is_coloured = |command: Command| -> Result<bool> {
            let output = command.output()?;
            let said = output.stdout + &output.stderr;
            assert!(
                said.contains("users other than its owner can read"),
                "{said}"
            );
            Ok(said.contains('\u{1b}'))
        };
        assert!(is_coloured(on_terminal())?);
        assert!(!is_coloured(on_terminal().env("NO_COLOR", "1"))?);
        assert!(!is_coloured(host.command("sh").args(["-c", &agent]))?);
        Ok(())
    });
}

#[test]
fn without_an_agent_or_vips_the_tools_say_so() {
    lab::test(|lab| {
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let no_agent = "no agent answers on /run/lab/state/agent.sock";
        let expected = [no_agent, "nothing is pinned under /sys/fs/bpf/speaker"];
        refused(node.speaker("status")?, 1, &expected)?;
        refused(node.speaker("watch")?, 1, &[no_agent])?;

        node.start()?;
        let elsewhere = node.host.speaker()?.args(["status", "--state-dir", "/run"]);
        let told = elsewhere.output()?.stderr;
        assert!(
            told.contains("but does not listen on /run/agent.sock"),
            "{told}"
        );
        let said = node.speaker("status")?.run()?;
        let nothing = "no VIPs: no Service of type LoadBalancer has an address here";
        assert!(said.contains(nothing), "{said}");
        node.stop()?;
        let pinned = node.speaker("status")?.output()?;
        assert!(pinned.status.success(), "{pinned:?}");
        assert!(
            pinned.stderr.contains("this is what its pinned maps hold"),
            "{pinned:?}"
        );
        refused(node.speaker("watch")?, 1, &[no_agent])
    });
}

#[test]
fn a_program_detached_while_no_agent_runs_is_reported() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &[VIP_V4.into()])?;
        node.stop()?;
        let detach = "link detach pinned /sys/fs/bpf/speaker/links/2".split(' ');
        node.host.command("bpftool").args(detach).run()?;
        let status = node.speaker("status")?.run()?;
        let told = "eth0: the program no longer runs there";
        assert!(status.contains(told), "{status}");
        Ok(())
    });
}

#[test]
fn a_hung_agent_is_reported_and_its_maps_are_shown() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &[VIP_V4.into()])?;
        node.agent().freeze()?;
        let silent = "the agent on /run/lab/state/agent.sock has not answered for 5s";
        let explain = node.speaker("explain")?.arg("10.0.0.240");
        refused(explain, 1, &[silent, "see its log"])?;
        let status = node.speaker("status")?.output()?;
        assert!(status.status.success(), "{status:?}");
        for part in [silent, "this is what its pinned maps hold"] {
            assert!(
                status.stderr.contains(part),
                "{part:?} is not in {status:?}"
            );
        }
        assert!(status.stdout.contains("10.0.0.240"), "{status:?}");
        node.agent().thaw()
    });
}

#[test]
fn a_manifest_in_place_of_their_directory_is_refused_with_the_remedy() {
    lab::test(|lab| {
        let host = lab.host("node-a")?;
        let agent = host.agent(["--manifests", "/etc/hostname"])?;
        let told = "/etc/hostname: not a directory: put the manifests into one, and name that";
        agent.wait_for_line(told, SOON)?;
        Ok(())
    });
}

/// It may appear later, for example by a mount.
#[test]
fn a_missing_manifest_directory_is_reported_and_awaited() {
    lab::test(|lab| {
        let host = lab.host("node-a")?;
        let manifests = Manifests::new()?;
        let later = manifests.path().join("later");
        let agent = host.agent([OsStr::new("--manifests"), later.as_os_str()])?;
        let told = format!("{}: no such directory: create it", later.display());
        agent.wait_for_line(&told, SOON)?;
        agent.wait_for_line("ready", SOON)?;

        fs::create_dir(&later)?;
        let pool = manifest::pool("all", &["10.0.0.0/8"]);
        let advertisement = manifest::advertisement("all", &[], &[]);
        let service = manifest::service("web", &[VIP_V4]);
        fs::write(later.join("all.yaml"), pool + &advertisement + &service)?;
        agent.wait_for_line("answering for 10.0.0.240 on eth0", SOON)?;
        Ok(())
    });
}

/// The reader of the output may have seen enough.
#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    lab::test(|lab| {
        let node = Node::serving(lab, Mode::Generic, &[VIP_V4.into()])?;
        let client = lab.host("client")?;
        let speaker = speaker_program()?.display().to_string();
        let state = "--state-dir /run/lab/state";
        let piped = |command: &str| {
            // The reader is gone before anything is written.
            let line = format!("(sleep 0.2; {speaker} {command} {state}) | true");
            node.host.command("sh").args(["-c", &line])
        };
        for command in [
            "status",
            "status -o json",
            "explain 10.0.0.240",
            "rebalance",
        ] {
            let output = piped(command).output()?;
            assert_eq!(output.stderr, "", "{command}");
        }
        let mut watch = piped("watch").spawn()?;
        watch.wait_for_line("watching", SOON)?;
        answer(&client, &client.eth0, VIP_V4.into())?;
        watch.wait(SOON)?;
        assert_eq!(watch.stderr(), ["watching; press ctrl-C to stop"]);
        Ok(())
    });
}

#[test]
fn a_watch_whose_agent_stops_says_so() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &[VIP_V4.into()])?;
        let mut watch = node.speaker("watch")?.spawn()?;
        watch.wait_for_line("watching", SOON)?;
        node.stop()?;
        assert_eq!(watch.wait(SOON)?.code(), Some(1));
        let expected = [
            "watching; press ctrl-C to stop",
            "error: the agent has stopped: watch again once it runs",
        ];
        assert_eq!(watch.stderr(), expected);
        Ok(())
    });
}

/// A drained node relies on what is written to disk.
#[test]
fn a_drain_that_cannot_be_saved_is_refused() {
    lab::test(|lab| {
        let node = Node::serving(lab, Mode::Generic, &[VIP_V4.into()])?;
        let file = "/run/lab/state/drained";
        node.host.command("mkdir").arg(file).run()?;
        for (command, action) in [("drain", "write"), ("undrain", "remove")] {
            let expected = format!("cannot {action} {file}, which keeps the node drained");
            refused(node.speaker(command)?, 1, &[&expected, "--state-dir"])?;
        }
        Ok(())
    });
}

/// Asserts that a command fails with this code, and prints all of these texts, and nothing that
/// only its authors understand.
#[track_caller]
fn refused(command: Command, code: i32, expected: &[&str]) -> Result<()> {
    let output = command.output()?;
    let said = &output.stderr;
    assert_eq!(output.status.code(), Some(code), "{said}");
    for part in expected {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    for part in ["panicked", "backtrace", "RUST_", "Os {", "os error 0"] {
        assert!(!said.contains(part), "{part:?} is in {said}");
    }
    Ok(())
}

/// The agent with more arguments, started by another program, given as a command line.
fn agent(host: &Host, by: &str, manifests: &Manifests, more: &[&str]) -> Result<Command> {
    let command = started_by(host, by, speaker_program()?)
        .args(["agent", "--node-name", host.name(), "--manifests"])
        .arg(manifests.path());
    let state: &[&str] = match more.contains(&"--state-dir") {
        true => &[],
        false => &["--state-dir", "/run/lab/state"],
    };
    Ok(command.args(state).args(more))
}

fn started_by(host: &Host, by: &str, program: impl AsRef<OsStr>) -> Command {
    let mut words = by.split_whitespace();
    let by = words.next().expect("it names a program");
    host.command(by).args(words).arg(program)
}

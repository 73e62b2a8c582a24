//! Other programs on the interfaces, and people who detach ours.

use std::{net::IpAddr, thread, time::Duration};

use speaker_tests::{
    agent::{Mode, Node},
    asker::Asker,
    lab,
};

use crate::{SOON, VIPS, wait_until};

/// An interface has room for one program.
#[test]
fn a_foreign_program_is_named_and_replaced_once_it_is_gone() {
    lab::test(|lab| {
        let mut node = Node::new(lab, "node-a", Mode::Native)?;
        let foreign = node.host.occupy_xdp("eth0")?;
        node.serve("web", &VIPS)?;
        node.start()?;
        let myself = std::process::id();
        for part in [
            "eth0 already runs an XDP program in native mode".to_owned(),
            format!("\"lab_{myself}\""),
            "leave eth0 to it and announce on other interfaces".to_owned(),
            // Found out meanwhile, and reported at the next attempt.
            format!("(pid {myself})"),
        ] {
            node.agent().wait_for_line(&part, 2 * SOON)?;
            let state = node.state(VIPS[0])?;
            assert!(state.contains(&part), "{part:?} is not in {state:?}");
        }
        let told = node.log("answering for");
        assert!(told.is_empty(), "nobody answers, but {told:?}");

        drop(foreign);
        // It is retried every five seconds.
        thread::sleep(SOON);
        wait_until("it answers", || Ok(node.state(VIPS[0])? == "answering"))
    });
}

/// The kernel allows a program on a device above one that is occupied.
#[test]
fn a_foreign_program_on_the_parent_does_not_affect_a_macvlan() {
    lab::test(|lab| {
        lab.needs("macvlan")?;
        let above: IpAddr = "10.0.5.240".parse()?;
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let client = lab.host("client")?;
        node.host.ip(
            "link add link eth0 name above address 02:00:00:00:05:01 type macvlan mode bridge",
        )?;
        node.host.ip("link set above up")?;
        node.host.ip("address add 10.0.5.1/24 dev above")?;
        let _foreign = node.host.occupy_xdp("eth0")?;
        node.serve("web", &[above])?;
        node.serve("below", &VIPS)?;
        node.start()?;
        wait_until("it answers", || Ok(node.state(above)? == "answering"))?;
        let asker = Asker::start(&client, above, Duration::from_millis(5))?;
        // The card is retried every five seconds.
        thread::sleep(Duration::from_secs(12));
        let asked = asker.stop()?;
        asked.assert_all_answered(1_000, [2, 0, 0, 0, 5, 1]);
        let state = node.state(VIPS[0])?;
        assert!(state.contains("already runs an XDP program"), "{state}");
        assert_eq!(node.log(&format!("answering for {above}")).len(), 1);
        Ok(())
    });
}

#[test]
fn a_program_that_is_taken_off_is_attached_again_and_pins_that_are_removed_are_made_again() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let pins = "/sys/fs/bpf/speaker";
        node.host.command("rm").args(["-r", pins]).run()?;
        let line = "something else removed pins under /sys/fs/bpf/speaker: restored them";
        node.agent().wait_for_line(line, 2 * SOON)?;
        assert_eq!(node.state(VIPS[0])?, "answering");

        let pin = format!("{pins}/links/2");
        let detach = node.host.command("bpftool");
        detach.args(["link", "detach", "pinned", &pin]).run()?;
        let line = "something else detached the program from eth0: attaching it again";
        node.agent().wait_for_line(line, 2 * SOON)?;
        wait_until("it answers", || Ok(node.state(VIPS[0])? == "answering"))?;
        let client = lab.host("client")?;
        for vip in VIPS {
            let answered = crate::answer(&client, &client.eth0, vip)?;
            assert!(answered.is_some(), "{vip}");
        }
        Ok(())
    });
}

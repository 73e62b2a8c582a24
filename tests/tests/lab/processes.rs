//! Processes in hosts: their output, control and end.

use std::{collections::BTreeSet, fs, thread, time::Instant};

use speaker_tests::lab;

use super::{MEANWHILE, SOON, processes_in, wait_until};

#[test]
fn a_process_can_be_followed_and_controlled() {
    lab::test(|lab| {
        let host = lab.host("a")?;
        let count = "i=0; while :; do echo count $i; echo odd >&2; i=$((i+1)); sleep 0.02; done";
        let mut process = host.command("sh").args(["-c", count]).spawn()?;
        assert_eq!(process.wait_for_line("count 3", SOON)?, "count 3");
        assert_eq!(
            process.wait_for_line("count 1", SOON)?,
            "count 1",
            "lines of the past count"
        );
        assert_eq!(process.stderr()[0], "odd");

        process.freeze()?;
        thread::sleep(MEANWHILE / 4);
        let before = process.stdout().len();
        thread::sleep(MEANWHILE);
        assert_eq!(process.stdout().len(), before, "it stands still");
        process.thaw()?;
        process.wait_for_line(&format!("count {}", before + 3), SOON)?;

        let error = process
            .wait_for_line("never", MEANWHILE)
            .expect_err("it is not said");
        assert!(
            error.to_string().contains("count 3"),
            "what was said instead: {error}"
        );
        let status = process.terminate(SOON)?;
        assert!(!status.success());
        let error = process.thaw().expect_err("it has ended");
        assert!(error.to_string().contains("sh on a has ended"), "{error}");
        Ok(())
    });
}

#[test]
fn a_frozen_process_can_be_killed() {
    lab::test(|lab| {
        let host = lab.host("a")?;
        let mut process = host.command("sleep").arg("1000").spawn()?;
        process.freeze()?;
        process.freeze()?;
        let state = fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
        assert!(state.contains(") T "), "{state}");
        process.kill()?;
        process.freeze().expect_err("it has ended");
        Ok(())
    });
}

#[test]
fn a_process_that_has_ended_is_not_waited_for() {
    lab::test(|lab| {
        let host = lab.host("a")?;
        let process = host
            .command("sh")
            .args(["-c", "echo $WORD"])
            .env("WORD", "bye")
            .spawn()?;
        let started = Instant::now();
        assert!(process.wait_for_line("never", 10 * SOON).is_err());
        assert!(started.elapsed() < 5 * SOON, "both streams have ended");
        assert_eq!(process.stdout(), ["bye"]);
        Ok(())
    });
}

#[test]
fn output_has_a_time_limit() {
    lab::test(|lab| {
        let host = lab.host("a")?;
        let shell = |script| host.command("sh").args(["-c", script]);
        let output = shell("echo out; echo err >&2; exit 3").output()?;
        assert_eq!((&*output.stdout, &*output.stderr), ("out\n", "err\n"));
        assert_eq!(output.status.code(), Some(3));
        let error = shell("echo why >&2; false").run().expect_err("it failed");
        let error = error.to_string();
        assert!(
            error.contains("sh on a failed") && error.contains("why"),
            "{error}"
        );

        let started = Instant::now();
        let error = shell("echo so far; sleep 1000")
            .limit(MEANWHILE)
            .output()
            .expect_err("it takes longer");
        assert!(started.elapsed() < SOON);
        assert!(error.to_string().contains("so far"), "{error}");
        Ok(())
    });
}

#[test]
fn a_process_takes_its_group_with_it_and_a_host_everything() {
    lab::test(|lab| {
        let host = lab.host("a")?;
        let script = "sleep 1001 & setsid sh -c 'echo started; exec sleep 1002' & wait";
        let process = host.command("sh").args(["-c", script]).spawn()?;
        process.wait_for_line("started", SOON)?;
        let network = fs::read_link(format!("/proc/{}/ns/net", host.init()))?;
        let networks = BTreeSet::from([network]);
        let count = || processes_in(&networks).len();
        wait_until("init, sh and two sleeps are there", || count() == 4)?;
        drop(process);
        wait_until("init and the one that left the group are there", || {
            count() == 2
        })?;
        drop(host);
        assert_eq!(count(), 0);
        Ok(())
    });
}

#[test]
fn a_host_may_be_dropped_before_its_processes() {
    lab::test(|lab| {
        let host = lab.host("a")?;
        let mut process = host.command("sleep").arg("1000").spawn()?;
        drop(host);
        process.wait(SOON)?;
        Ok(())
    });
}

#[test]
fn missing_devices_and_programs_are_reported() {
    lab::test(|lab| {
        assert!(lab.has("veth") && lab.has("bridge"));
        assert!(!lab.has("nonesuch"));
        let error = lab.needs("nonesuch").expect_err("no kernel has it");
        assert_eq!(error.to_string(), "this kernel has no \"nonesuch\" devices");
        let error = lab.host("a")?.command("no-such-program").run();
        let error = error.expect_err("there is none");
        let missing = error.downcast_ref::<lab::Missing>();
        assert!(
            matches!(missing, Some(lab::Missing::Program(_))),
            "{error:?}"
        );
        Ok(())
    });
}

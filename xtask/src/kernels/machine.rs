//! A virtual machine: boots a kernel, and reads the checks' results from its serial port.

use std::{
    io::{self, PipeReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::package::Kernel;
use crate::shell;

/// How long a machine may take. Two minutes are enough on an idle computer.
const PATIENCE: Duration = Duration::from_mins(30);

/// The machine's clock counts instructions, a nanosecond for each, and skips the time in which its
/// processors wait: however busy this computer is, nothing in the machine is late, and a pause of
/// ten minutes costs nothing.
const CLOCK: &str = "shift=0,sleep=off";

/// Offloads that virtio_net must not have to run a program in native mode.
const NATIVE: &str = "guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off";

/// The result of a machine.
pub(crate) struct Run {
    /// All of its output.
    pub(crate) console: String,
    pub(crate) verdict: Verdict,
}

/// The outcome of the checks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They ran to the end.
    Checked {
        passed: usize,
        failed: usize,
        took: Duration,
    },
    /// They did not run to the end.
    Broken(String),
}

/// Boots a kernel and waits until the machine is switched off.
pub(crate) fn boot(kernel: &Kernel, initramfs: &Path, checks: &[String]) -> Result<Run> {
    let start = Instant::now();
    let (machine, console) = Machine::start(qemu(kernel, initramfs, checks))?;
    let console = read(console, start + PATIENCE);
    drop(machine);
    let took = start.elapsed();
    let verdict = match counts(&console) {
        Some((passed, failed)) => Verdict::Checked {
            passed,
            failed,
            took,
        },
        None if took < PATIENCE => {
            Verdict::Broken("the machine went down before the checks had ended".to_owned())
        }
        None => Verdict::Broken(format!("no end after {} s", PATIENCE.as_secs())),
    };
    Ok(Run { console, verdict })
}

fn qemu(kernel: &Kernel, initramfs: &Path, checks: &[String]) -> Command {
    // However this process ends, the machine does too.
    let mut qemu = shell::command("setpriv");
    qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    // One processor: under this clock, Linux 5.10 waits forever for a second one. QEMU 7.2 gets the
    // flags wrong after cmpxchg16b, and kernels that use it trip.
    qemu.args(["-accel", "tcg", "-cpu", "max,cx16=off"])
        .args(["-icount", CLOCK])
        .args(["-m", "2G"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-append")
        // A kernel panic is a failure, noticed at once: it reboots, which ends the machine. Nobody
        // attacks it. What follows `--` goes to the first process.
        .arg(format!(
            "console=ttyS0 quiet mitigations=off oops=panic panic=-1 -- {}",
            checks.join(" ")
        ));
    // All on one wire.
    let virtio = format!("virtio-net-pci,{NATIVE}");
    for (number, card) in [&virtio, &virtio, "vmxnet3", "vmxnet3"].iter().enumerate() {
        qemu.args(["-netdev", &format!("hubport,id=port{number},hubid=0")]);
        qemu.arg("-device")
            .arg(format!("{card},netdev=port{number},romfile="));
    }
    qemu
}

/// A machine that ends with this process.
struct Machine(Child);

impl Machine {
    fn start(mut qemu: Command) -> Result<(Self, PipeReader)> {
        let (console, serial) = io::pipe()?;
        let as_typed = shell::as_typed(&qemu);
        let child = qemu
            .stdin(Stdio::null())
            .stderr(serial.try_clone()?)
            .stdout(serial)
            .spawn()
            .context(as_typed)?;
        // Dropping the command closes our end of the pipe that the machine writes to.
        Ok((Self(child), console))
    }
}

/// The output of a console until its machine ends, or until the deadline.
fn read(mut console: PipeReader, deadline: Instant) -> String {
    let (sender, chunks) = mpsc::channel();
    thread::spawn(move || -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let length = console.read(&mut buffer)?;
            if length == 0 || sender.send(buffer[..length].to_vec()).is_err() {
                return Ok(());
            }
        }
    });
    let mut bytes = Vec::new();
    while let Ok(chunk) = chunks.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        bytes.extend(chunk);
    }
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _: io::Result<()> = self.0.kill();
        let _: io::Result<_> = self.0.wait();
    }
}

/// The counts in the last line of the checks: `vm: 3 passed, 0 failed`.
fn counts(console: &str) -> Option<(usize, usize)> {
    console.lines().rev().find_map(|line| {
        let (passed, failed) = line.strip_prefix("vm: ")?.split_once(" passed, ")?;
        Some((
            passed.parse().ok()?,
            failed.strip_suffix(" failed")?.parse().ok()?,
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_checks_counts() {
        let console = "[    0.1] Linux version\nok arp\nvm: 3 passed, 1 failed\n[ 2.0] reboot\n";
        assert_eq!(counts(console), Some((3, 1)));
        assert_eq!(counts("ok arp\n[    2.1] Kernel panic\n"), None);
    }
}

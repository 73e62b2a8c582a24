//! Programs that run in a host.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt as _,
    process::{self, Child, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    sys::{
        signal::{Signal, kill, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

use super::{
    Missing,
    journal::{Journal, Stream, Transcript},
    namespace::Namespace,
};

/// A program about to be started in a host, with its arguments.
#[derive(Debug)]
#[must_use = "a command does nothing until it is run or spawned"]
pub struct Command {
    command: process::Command,
    host: Arc<Namespace>,
    journal: Journal,
    /// "arping on client"
    title: String,
    limit: Duration,
}

/// The output of a program that has ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Command {
    pub(super) fn new(
        program: impl AsRef<OsStr>,
        host_name: &str,
        host: Arc<Namespace>,
        journal: Journal,
    ) -> Self {
        let program = program.as_ref();
        let name = std::path::Path::new(program).file_name().unwrap_or(program);
        let mut command = process::Command::new(program);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C from a terminal is for the process that created the lab.
            .process_group(0);
        Self {
            command,
            host,
            journal,
            title: format!("{} on {host_name}", name.display()),
            limit: Duration::from_secs(10),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// How long [`output`](Self::output) and [`run`](Self::run) wait for its end; the default is 10
    /// s.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Omits its output from what a failing test prints.
    pub fn unheard(mut self) -> Self {
        self.journal = Journal::new();
        self
    }

    /// Starts it, and leaves it running until the guard is dropped.
    pub fn spawn(mut self) -> Result<Process> {
        let mut child = self
            .host
            .run_spawning(|| self.command.spawn())
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    Missing::Program(self.command.get_program().display().to_string()).into()
                }
                _ => anyhow!(error),
            })
            .with_context(|| format!("starting {}", self.title))?;
        let transcript = Arc::new(Transcript::default());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // From here on, the guard ends the process.
        let process = Process {
            child,
            title: self.title,
            transcript,
            _host: self.host,
        };
        let follow = |stream, source: Option<Box<dyn io::Read + Send>>| match source {
            Some(source) => process.transcript.follow(
                stream,
                source,
                process.title.clone(),
                self.journal.clone(),
            ),
            None => Ok(()),
        };
        follow(Stream::Output, stdout.map(|source| Box::new(source) as _))?;
        follow(Stream::Error, stderr.map(|source| Box::new(source) as _))?;
        Ok(process)
    }

    /// Runs it to completion. It is an error if it does not start, or does not end in time; the
    /// caller judges its output and exit status.
    pub fn output(self) -> Result<Output> {
        let limit = self.limit;
        let mut process = self.spawn()?;
        let status = process.wait(limit)?;
        let text = |stream| {
            let lines = process.transcript.lines(stream).into_iter();
            lines.map(|line| line + "\n").collect()
        };
        Ok(Output {
            status,
            stdout: text(Stream::Output),
            stderr: text(Stream::Error),
        })
    }

    /// Runs it to completion and returns its standard output; a failure is an error.
    pub fn run(self) -> Result<String> {
        let title = self.title.clone();
        let Output {
            status,
            stdout,
            stderr,
        } = self.output()?;
        if !status.success() {
            bail!("{title} failed with {status}:\n{stdout}{stderr}");
        }
        Ok(stdout)
    }
}

/// A program that runs in a host. It is killed with its process group when this is dropped, and at
/// the latest, with everything it has started, when the host is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    title: String,
    transcript: Arc<Transcript>,
    /// The host lives until the last of its processes is reaped: its init would wait for it.
    _host: Arc<Namespace>,
}

impl Process {
    /// Its process id outside the host.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The first line of its standard output or error, past ones included, that contains `text`.
    pub fn wait_for_line(&self, text: &str, limit: Duration) -> Result<String> {
        self.transcript
            .wait_for_line(text, limit)
            .ok_or_else(|| self.complaint(&format!("did not say {text:?} within {limit:?}")))
    }

    /// The lines of its standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.transcript.lines(Stream::Output)
    }

    /// The lines of its standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.transcript.lines(Stream::Error)
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.read_the_rest();
                return Ok(status);
            }
            if Instant::now() > end {
                return Err(self.complaint(&format!("did not end within {limit:?}")));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Freezes it (SIGSTOP); returns once it is stopped.
    pub fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let or_ended = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.pid()), or_ended)?;
        Ok(())
    }

    /// Resumes it (SIGCONT).
    pub fn thaw(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Terminates it (SIGTERM), and waits until it has ended.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)
    }

    /// Kills it (SIGKILL), and waits until it has ended.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.read_the_rest();
        Ok(())
    }

    /// Sends it a signal; an error if it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(self.complaint(&format!("has ended with {status}")));
        }
        // It has not been reaped, so no other process has its number.
        kill(self.pid(), signal).with_context(|| format!("sending {signal} to {}", self.title))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for the lines it wrote before its end. Its children may keep its streams open forever.
    fn read_the_rest(&self) {
        self.transcript.wait_for_end(Duration::from_millis(500));
    }

    fn complaint(&self, what: &str) -> anyhow::Error {
        anyhow!("{} {what}; it said:\n{}", self.title, self.transcript)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it has ended before.
        if let Ok(None) = self.child.try_wait() {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
        self.read_the_rest();
    }
}

//! What the monitor holds for one container, from `runtime create` until it is forgotten.

use crate::cri_log::Stream;
use crate::early_output::EarlyOutput;
use crate::logs::LogId;
use crate::stdio::{Input, NearEnds};
use knarr_monitor::exit_file::Exit;
use knarr_monitor::protocol::Create;
use rustix::process::Pid;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the report of an exit waits for the last output to reach the log. The exit itself is recorded at once;
/// on a machine that has time for it this takes microseconds, and a stalled disk must not hold up whoever waits for the
/// container.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// A connection's number.
pub(crate) type Key = u64;

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    /// `None` once it has been reaped: the number may then be somebody else's.
    pub(crate) pid: Option<Pid>,
    /// The process of an earlier monitor, which is not our child: readable when it has ended.
    pub(crate) adopted: Option<OwnedFd>,
    pub(crate) ended: Option<Ended>,
    pub(crate) input: Option<Input>,
    pub(crate) stdin_once: bool,
    /// To be run when it has ended; empty where nothing is.
    pub(crate) on_exit: Vec<String>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) terminal: bool,
    pub(crate) log: Option<LogId>,
    pub(crate) oom_counter: Option<PathBuf>,
    /// Connections that wait for the exit.
    pub(crate) waiters: BTreeSet<Key>,
    /// Connections that are attached.
    pub(crate) attached: BTreeSet<Key>,
    /// Output for the first client that attaches, until it has.
    pub(crate) early: Option<EarlyOutput>,
}

/// A container that has ended, and how far its report is.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) report: Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// Waiting, until this time, for output to end and reach the log.
    DueBy(Instant),
    /// Everyone who asks is told at once.
    Made,
}

impl Container {
    pub(crate) fn new(request: Create, pid: Pid, near: NearEnds, log: Option<LogId>) -> io::Result<Self> {
        let mut container = Self {
            id: request.id,
            pid: Some(pid),
            adopted: None,
            ended: None,
            input: None,
            stdin_once: request.stdin_once,
            on_exit: request.on_exit,
            stdout: near.stdout,
            stderr: near.stderr,
            terminal: near.terminal,
            log,
            oom_counter: None,
            waiters: BTreeSet::new(),
            attached: BTreeSet::new(),
            early: (request.stdin || request.tty).then(EarlyOutput::default),
        };
        let stdin = match (&container.stdout, near.terminal) {
            (Some(master), true) => {
                rustix::io::ioctl_fionbio(master, true)?;
                Some(master.try_clone()?)
            }
            _ => near.stdin,
        };
        container.input = stdin.filter(|_| request.stdin).map(Input::new);
        Ok(container)
    }

    pub(crate) fn output(&mut self, stream: Stream) -> &mut Option<OwnedFd> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Nothing can come any more.
    pub(crate) fn output_ended(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    pub(crate) fn end(&mut self, exit: Exit) {
        self.pid = None;
        self.ended = Some(Ended { exit, report: Report::DueBy(Instant::now() + DRAIN_GRACE) });
    }

    /// The time by which the exit must be reported, while it has not been.
    pub(crate) fn report_deadline(&self) -> Option<Instant> {
        match self.ended.as_ref()?.report {
            Report::DueBy(time) => Some(time),
            Report::Made => None,
        }
    }
}

//! Everything one monitor holds, and how it is asked for things.
//!
//! One thread, one owner: each file of this crate adds the methods of its concept (`requests`, `output`, `attach`,
//! `reap`), `poll_loop` calls them when the kernel has something to say. None of them ever waits.

use crate::connection::{Connection, Phase};
use crate::container::{Container, Key};
use crate::error_log::ErrorLog;
use crate::forget::Forgetting;
use crate::logs::{Logs, Ticket};
use crate::runtime_call::RuntimeCall;
use knarr_monitor::cgroup_mounts::CgroupMount;
use knarr_monitor::exit_file::Exit;
use knarr_monitor::protocol::{Answer, Create};
use nix::sys::signalfd::SignalFd;
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub(crate) struct Monitor {
    /// Absolute; also the working directory.
    pub(crate) directory: PathBuf,
    pub(crate) listener: OwnedFd,
    pub(crate) signals: SignalFd,
    pub(crate) cgroup_mounts: Vec<CgroupMount>,
    pub(crate) connections: BTreeMap<Key, Connection>,
    pub(crate) containers: BTreeMap<Key, Container>,
    pub(crate) calls: BTreeMap<Key, (RuntimeCall, Purpose)>,
    pub(crate) execs: BTreeMap<Key, Exec>,
    /// Terminals of execs that nobody stays with.
    pub(crate) unread: BTreeMap<Key, OwnedFd>,
    /// Exits of processes that may yet turn out to be what a call in flight has started.
    pub(crate) unclaimed: BTreeMap<i32, i32>,
    pub(crate) logs: Logs,
    pub(crate) tickets: BTreeMap<Ticket, Awaited>,
    pub(crate) forgetting: Vec<Forgetting>,
    pub(crate) errors: ErrorLog,
    /// One read's worth of bytes, allocated once.
    pub(crate) buffer: Vec<u8>,
    pub(crate) stopping: bool,
    last_key: Key,
}

/// Bytes read at a time.
const BUFFER: usize = 16 << 10;

/// What a runtime call is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    Create { connection: Key, request: Create, log: Option<crate::logs::LogId> },
    Exec { connection: Key, container_id: String, timeout: Option<Duration>, detached: bool },
}

/// What happens when the log writer answers a ticket.
#[derive(Debug)]
pub(crate) enum Awaited {
    /// The log is open: the container can be created.
    Create { connection: Key, command: Vec<String>, request: Create, log: crate::logs::LogId },
    /// The log was opened again.
    Reopen { connection: Key },
    /// A container's last output is written.
    Drain { container: Key },
}

/// A process started by `runtime exec`.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) pid: Pid,
    /// The client; gone when it has hung up.
    pub(crate) connection: Option<Key>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) timed_out: bool,
}

impl Monitor {
    pub(crate) fn new(
        directory: PathBuf,
        listener: OwnedFd,
        signals: SignalFd,
        cgroup_mounts: Vec<CgroupMount>,
    ) -> Self {
        Self {
            directory,
            listener,
            signals,
            cgroup_mounts,
            connections: BTreeMap::new(),
            containers: BTreeMap::new(),
            calls: BTreeMap::new(),
            execs: BTreeMap::new(),
            unread: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
            logs: Logs::default(),
            tickets: BTreeMap::new(),
            forgetting: Vec::new(),
            errors: ErrorLog::default(),
            buffer: vec![0; BUFFER],
            stopping: false,
            last_key: 0,
        }
    }

    pub(crate) fn next_key(&mut self) -> Key {
        self.last_key += 1;
        self.last_key
    }

    pub(crate) fn find(&self, id: &str) -> Option<Key> {
        self.containers.iter().find(|(_, container)| container.id == id).map(|(key, _)| *key)
    }

    /// Sends the last answer of a connection and closes it.
    pub(crate) fn answer(&mut self, connection: Key, answer: &Answer) {
        if let Some(connection) = self.connections.remove(&connection) {
            connection.answer(answer, &[]);
        }
    }

    /// Sends an answer that another one, or frames, will follow. False when the client has gone.
    pub(crate) fn answer_and_keep(
        &mut self,
        connection: Key,
        answer: &Answer,
        descriptors: &[BorrowedFd<'_>],
        phase: Phase,
    ) -> bool {
        let Some(client) = self.connections.get_mut(&connection) else { return false };
        client.phase = phase;
        client.answer(answer, descriptors)
    }

    pub(crate) fn refuse(&mut self, connection: Key, message: impl Into<String>) {
        self.answer(connection, &Answer::Error { message: message.into() });
    }

    /// Answers everyone who waits for this container.
    pub(crate) fn report_exit(&mut self, container: Key) {
        let Some(container) = self.containers.get_mut(&container) else { return };
        let Some(ended) = &mut container.ended else { return };
        ended.report = crate::container::Report::Made;
        let answer = Answer::Exited(ended.exit.clone());
        for waiter in std::mem::take(&mut container.waiters) {
            self.answer(waiter, &answer);
        }
    }
}

/// An exit that happened just now.
pub(crate) fn exit_now(code: i32) -> Exit {
    Exit { code, oom_killed: false, finished_at: now(), timed_out: false }
}

/// Nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

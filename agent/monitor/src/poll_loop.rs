//! The one place that waits.
//!
//! What to watch follows from the state, anew each round, so nothing is ever watched by mistake or forgotten; a pod
//! has a few dozen descriptors at most. A source that we do not want to read now is left out altogether: poll reports
//! a hang-up even when nothing is asked for, and would spin.

use crate::connection::{Arrival, Connection, Phase};
use crate::container::Key;
use crate::cri_log::Stream;
use crate::monitor::Monitor;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

#[derive(Debug, Clone, Copy)]
enum Source {
    Listener,
    Signals,
    Logs,
    Console(Key),
    Connection(Key),
    Output(Key, Stream),
    Input(Key),
    Adopted(Key),
    Unread(Key),
}

type Watched<'a> = (Source, BorrowedFd<'a>, PollFlags);

impl Monitor {
    /// Runs until a client asks for the end.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.stopping {
            let events = self.wait_for_events()?;
            // Children last: what a process wrote before it ended is then already on its way.
            let (signals, others): (Vec<_>, Vec<_>) =
                events.into_iter().partition(|(source, _)| matches!(source, Source::Signals));
            others.into_iter().for_each(|(source, flags)| self.dispatch(source, flags));
            if !signals.is_empty() {
                self.take_signals();
            }
            let now = Instant::now();
            self.kill_overdue(now);
            self.report_overdue(now);
            self.forget_what_is_gone();
            self.drop_stalled(now);
        }
        self.logs.finish();
        Ok(())
    }

    fn wait_for_events(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let watched = self.watched();
        let mut polled: Vec<_> =
            watched.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let timeout = self.next_deadline().map(until);
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        }
        let ready = watched.iter().zip(&polled).map(|((source, ..), polled)| (*source, polled.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn watched(&self) -> Vec<Watched<'_>> {
        let mut watched = vec![
            (Source::Listener, self.listener.as_fd(), PollFlags::IN),
            (Source::Signals, self.signals.as_fd(), PollFlags::IN),
        ];
        if let Some(channel) = self.logs.channel() {
            let room = if self.logs.is_ready() { PollFlags::empty() } else { PollFlags::OUT };
            watched.push((Source::Logs, channel, PollFlags::IN | room));
        }
        for (key, (call, _)) in &self.calls {
            watched.extend(call.console_source().map(|fd| (Source::Console(*key), fd, PollFlags::IN)));
        }
        let unread = self.unread.iter();
        watched.extend(unread.map(|(key, fd)| (Source::Unread(*key), fd.as_fd(), PollFlags::IN)));
        self.watch_connections(&mut watched);
        self.watch_containers(&mut watched);
        watched
    }

    fn watch_connections<'a>(&'a self, watched: &mut Vec<Watched<'a>>) {
        for (key, connection) in &self.connections {
            let flags = match &connection.phase {
                Phase::Request(_) | Phase::Waiting => PollFlags::IN,
                Phase::AwaitsContainer(_) => PollFlags::empty(),
                Phase::Attached(attached) => {
                    let mut flags = PollFlags::empty();
                    flags.set(PollFlags::IN, self.can_take_input(attached.container));
                    flags.set(PollFlags::OUT, attached.is_unread());
                    flags
                }
            };
            if !flags.is_empty() {
                watched.push((Source::Connection(*key), connection.socket.as_fd(), flags));
            }
        }
    }

    fn watch_containers<'a>(&'a self, watched: &mut Vec<Watched<'a>>) {
        for (key, container) in &self.containers {
            if self.can_take_output(*key) {
                for (stream, fd) in [(Stream::Stdout, &container.stdout), (Stream::Stderr, &container.stderr)]
                {
                    watched.extend(
                        fd.as_ref().map(|fd| (Source::Output(*key, stream), fd.as_fd(), PollFlags::IN)),
                    );
                }
            }
            watched.extend(
                container.adopted.as_ref().map(|fd| (Source::Adopted(*key), fd.as_fd(), PollFlags::IN)),
            );
            if let Some(input) = container.input.as_ref().filter(|input| input.is_pending()) {
                watched.push((Source::Input(*key), input.fd.as_fd(), PollFlags::OUT));
            }
        }
    }

    fn dispatch(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => {}
            Source::Logs => self.attend_logs(),
            Source::Console(key) => {
                if let Some((call, _)) = self.calls.get_mut(&key) {
                    call.advance_console();
                }
            }
            Source::Connection(key) => self.attend_connection(key, flags),
            Source::Output(key, stream) => self.read_output(key, stream),
            Source::Input(key) => self.flush_input(key),
            Source::Adopted(key) => self.adopted_ended(key),
            Source::Unread(key) => self.drop_unread(key),
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            let key = self.next_key();
            self.connections.insert(key, Connection::new(socket));
        }
    }

    fn attend_logs(&mut self) {
        self.logs.flush();
        while let Some((ticket, result)) = self.logs.receive() {
            self.log_answered(ticket, result);
        }
    }

    fn attend_connection(&mut self, key: Key, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) {
            self.flush_attached(key);
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let Some(connection) = self.connections.get_mut(&key) else { return };
        match connection.read(&mut self.buffer) {
            Arrival::Nothing => {}
            Arrival::Request(line) => self.handle(key, &line),
            Arrival::Frames => self.take_frames(key),
            Arrival::Gone => self.disconnect(key),
        }
    }

    /// SIGCHLD means reaping; a request to end is obeyed when the pod is empty.
    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let is_child = signal.ssi_signo == nix::sys::signal::Signal::SIGCHLD as u32;
            if !is_child && self.containers.values().all(|container| container.pid.is_none()) {
                self.stopping = true;
            }
        }
        self.reap();
    }

    fn drop_stalled(&mut self, now: Instant) {
        let stalled: Vec<_> = self
            .connections
            .iter_mut()
            .filter_map(|(key, connection)| {
                connection.attached()?.stall_deadline().filter(|at| *at <= now).map(|_| *key)
            })
            .collect();
        stalled.into_iter().for_each(|key| self.disconnect(key));
    }

    fn next_deadline(&self) -> Option<Instant> {
        let execs = self.execs.values().filter_map(|exec| exec.deadline);
        let reports = self.containers.values().filter_map(|container| container.report_deadline());
        let stalls = self.connections.values().filter_map(|connection| match &connection.phase {
            Phase::Attached(attached) => attached.stall_deadline(),
            _ => None,
        });
        execs.chain(reports).chain(stalls).chain(self.forget_deadline()).min()
    }
}

/// Never a moment too early, or the loop would turn without anything being due.
fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    }
}

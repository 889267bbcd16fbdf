//! The poll loop's end of the log writer: a bounded, non-blocking channel.
//!
//! `is_ready` is the backpressure: while one packet waits for room in the channel, no more output is read. Every open,
//! reopen and close has a ticket, which the writer answers when all that was sent before it is on its way to disk. A
//! writer that dies (killed for its memory, say) is replaced and opens the same logs again.

use crate::cri_log::Stream;
use crate::log_frame::{self, MAX_ANSWER, Message};
use crate::log_writer;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How long the writer may take to write its last lines when the monitor ends.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Names one container's log.
pub(crate) type LogId = u32;
/// Names something that the writer was asked to do.
pub(crate) type Ticket = u32;

/// All logs of the pod.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    writer: Option<Writer>,
    waiting: VecDeque<Vec<u8>>,
    open: BTreeMap<LogId, PathBuf>,
    last_number: u32,
}

#[derive(Debug)]
struct Writer {
    pid: Pid,
    channel: OwnedFd,
}

impl Logs {
    /// Opens a log; the ticket says whether that went well.
    pub(crate) fn open(&mut self, path: PathBuf) -> io::Result<(LogId, Ticket)> {
        self.ensure_writer()?;
        let (log, ticket) = (self.number(), self.number());
        self.send(log, &Message::Open { ticket, path: path.as_os_str().as_bytes() });
        self.open.insert(log, path);
        Ok((log, ticket))
    }

    /// Opens a log again, after a rotation.
    pub(crate) fn reopen(&mut self, log: LogId) -> Ticket {
        let ticket = self.number();
        self.send(log, &Message::Reopen { ticket });
        ticket
    }

    /// Writes what is held back and closes a log.
    pub(crate) fn close(&mut self, log: LogId, at: i64) -> Ticket {
        let ticket = self.number();
        self.open.remove(&log);
        self.send(log, &Message::Close { ticket, at });
        ticket
    }

    /// Takes output; call it only while `is_ready`.
    pub(crate) fn write(&mut self, log: LogId, stream: Stream, at: i64, data: &[u8]) {
        self.send(log, &Message::Output { stream, at, data });
    }

    /// Nothing waits for room in the channel.
    pub(crate) fn is_ready(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The writer's process.
    pub(crate) fn is_writer(&self, pid: Pid) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.pid == pid)
    }

    /// The channel, to wait for answers (and for room unless `is_ready`).
    pub(crate) fn channel(&self) -> Option<BorrowedFd<'_>> {
        self.writer.as_ref().map(|writer| writer.channel.as_fd())
    }

    /// Sends what waits for room.
    pub(crate) fn flush(&mut self) {
        while let (Some(writer), Some(packet)) = (&self.writer, self.waiting.front()) {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&writer.channel, packet, flags) {
                Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => return,
                // Sent, or the writer is dead: its successor gets the logs, not the lost packet.
                _ => drop(self.waiting.pop_front()),
            }
        }
    }

    /// The next answer of the writer.
    pub(crate) fn receive(&mut self) -> Option<(Ticket, Result<(), String>)> {
        let mut packet = [0; MAX_ANSWER];
        let channel = &self.writer.as_ref()?.channel;
        let (length, _) = rustix::net::recv(channel, packet.as_mut_slice(), RecvFlags::DONTWAIT).ok()?;
        log_frame::decode_answer(packet.get(..length)?)
    }

    /// Replaces a writer that has died. Tickets that it has not answered are the caller's to settle.
    pub(crate) fn replace_writer(&mut self) -> io::Result<()> {
        self.writer = None;
        self.waiting.clear();
        if self.open.is_empty() {
            return Ok(());
        }
        self.ensure_writer()?;
        for (log, path) in self.open.clone() {
            self.send(log, &Message::Open { ticket: 0, path: path.as_os_str().as_bytes() });
        }
        Ok(())
    }

    /// Lets the writer write what it has got and end; one that hangs is killed after a second.
    pub(crate) fn finish(&mut self) {
        let Some(Writer { pid, channel }) = self.writer.take() else { return };
        drop(channel);
        if !ends_within(pid, PATIENCE) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            ends_within(pid, PATIENCE);
        }
        // The last of our children: nobody else would reap it.
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
    }

    fn ensure_writer(&mut self) -> io::Result<()> {
        if self.writer.is_some() {
            return Ok(());
        }
        let (channel, far) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let pid = knarr_sys::fork::spawn_worker(far, log_writer::run)?;
        self.writer = Some(Writer { pid, channel });
        Ok(())
    }

    fn send(&mut self, log: LogId, message: &Message<'_>) {
        self.waiting.push_back(log_frame::encode(log, message));
        self.flush();
    }

    /// Zero is never given out: it is the ticket that nobody waits for.
    fn number(&mut self) -> u32 {
        self.last_number = self.last_number.checked_add(1).unwrap_or(1);
        self.last_number
    }
}

/// A child that has been reaped has ended, too.
fn ends_within(child: Pid, timeout: Timespec) -> bool {
    let Ok(pidfd) = rustix::process::pidfd_open(child, PidfdFlags::empty()) else { return true };
    rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))
        .is_ok_and(|ready| ready > 0)
}

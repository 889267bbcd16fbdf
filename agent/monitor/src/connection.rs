//! One client of the monitor: a request line, then answers, or attach frames both ways.
//!
//! Clients are never waited for. An answer is small and its socket empty, so it is sent at once or the client is
//! dropped; what an attached client has not read yet is kept up to a limit.

use crate::container::Key;
use crate::stdio::drain;
use knarr_monitor::attach_frame::{self, Decoder, Kind};
use knarr_monitor::protocol::{Answer, MAX_DESCRIPTORS, MAX_REQUEST};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Output kept for an attached client that reads slowly; beyond it the container's output waits.
const MAX_UNREAD: usize = 128 << 10;

/// An attached client that has not read anything for this long, while output waited for it, is dropped: it must not
/// hold the container for ever.
const STALL_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) phase: Phase,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// The request line so far.
    Request(Vec<u8>),
    /// The answer is not known yet, or another one follows.
    Waiting,
    /// To be attached to the container of this id when it is created. What this client sends waits in its socket.
    AwaitsContainer(String),
    /// Frames.
    Attached(Attached),
}

/// What a read brought.
pub(crate) enum Arrival {
    /// Nothing whole yet.
    Nothing,
    /// A request line.
    Request(Vec<u8>),
    /// Bytes of attach frames.
    Frames,
    /// The client has gone or misbehaves.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) container: Key,
    pub(crate) decoder: Decoder,
    unread: VecDeque<u8>,
    /// When the unread output last became smaller (or began).
    progress: Instant,
    /// The client has sent input, so its going is the end of it. One that only watched leaves the input alone.
    pub(crate) has_input: bool,
    /// The client has ended its input.
    pub(crate) input_ended: bool,
    /// The client reads nothing any more.
    deaf: bool,
    /// The container's output has ended: close when all is sent.
    pub(crate) finishing: bool,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, phase: Phase::Request(Vec::new()) }
    }

    /// Reads once.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Arrival {
        let data = match rustix::io::read(&self.socket, &mut *buffer) {
            Err(Errno::AGAIN | Errno::INTR) => return Arrival::Nothing,
            Ok(0) | Err(_) => return Arrival::Gone,
            Ok(length) => buffer.get(..length).unwrap_or_default(),
        };
        match &mut self.phase {
            Phase::Request(line) => {
                line.extend_from_slice(data);
                if line.last() == Some(&b'\n') {
                    return Arrival::Request(std::mem::take(line));
                }
                if line.len() > MAX_REQUEST { Arrival::Gone } else { Arrival::Nothing }
            }
            Phase::Waiting | Phase::AwaitsContainer(_) => Arrival::Nothing,
            Phase::Attached(attached) => {
                attached.decoder.push(data);
                Arrival::Frames
            }
        }
    }

    /// Sends one answer; false when the client cannot take it.
    pub(crate) fn answer(&self, answer: &Answer, descriptors: &[BorrowedFd<'_>]) -> bool {
        let Ok(mut line) = serde_json::to_vec(answer) else { return false };
        line.push(b'\n');
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return false;
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = rustix::net::sendmsg(&self.socket, &[IoSlice::new(&line)], &mut control, flags);
        sent.is_ok_and(|count| count == line.len())
    }

    pub(crate) fn attached(&mut self) -> Option<&mut Attached> {
        match &mut self.phase {
            Phase::Attached(attached) => Some(attached),
            _ => None,
        }
    }

    /// Sends unread output; false when this client is done with.
    pub(crate) fn flush(&mut self) -> bool {
        let Phase::Attached(attached) = &mut self.phase else { return true };
        attached.flush(&self.socket)
    }
}

impl Attached {
    pub(crate) fn new(container: Key) -> Self {
        Self {
            container,
            decoder: Decoder::default(),
            unread: VecDeque::new(),
            progress: Instant::now(),
            has_input: false,
            input_ended: false,
            deaf: false,
            finishing: false,
        }
    }

    pub(crate) fn push(&mut self, kind: Kind, data: &[u8]) {
        if self.deaf {
            return;
        }
        if self.unread.is_empty() {
            self.progress = Instant::now();
        }
        attach_frame::encode(kind, data, &mut self.unread);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.unread.len() < MAX_UNREAD
    }

    pub(crate) fn is_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// When this client is dropped if it reads nothing until then.
    pub(crate) fn stall_deadline(&self) -> Option<Instant> {
        (!self.has_room()).then(|| self.progress + STALL_LIMIT)
    }

    /// False when there is nothing left to do for this client.
    fn flush(&mut self, socket: &OwnedFd) -> bool {
        let before = self.unread.len();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if drain(&mut self.unread, |data| rustix::net::send(socket, data, flags)).is_err() {
            // It may still have input on its way to us, so only its output is over.
            self.deaf = true;
            self.unread = VecDeque::new();
        }
        if self.unread.len() < before {
            self.progress = Instant::now();
        }
        !(self.unread.is_empty() && (self.finishing || (self.deaf && self.input_ended)))
    }
}

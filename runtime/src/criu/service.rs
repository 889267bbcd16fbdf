//! Running criu as a worker, and answering what it says until it is done.

use super::message::{self, Fields, Response, Sort};
use crate::error::{Context, Error, Kind, Result};
use crate::socket;
use rustix::io::FdFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketType};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command};

/// No message of criu is longer.
const LONGEST: usize = 65536;

/// A worker that waits for its request.
pub(crate) struct Service {
    child: Child,
    socket: OwnedFd,
}

/// What criu says on its way; it goes on when this returns.
pub(crate) trait Listener {
    /// `script` names the moment, `pid` the process it is about, and a terminal's master may come with it.
    fn notified(&mut self, script: &str, pid: i32, fd: Option<OwnedFd>) -> Result<()>;
}

impl Service {
    /// Starts the worker. It gets our standard input and outputs, and what else is open to it.
    pub(crate) fn start(inherited: &[OwnedFd]) -> Result<Self> {
        let (ours, theirs) = socket::pair(SocketType::SEQPACKET)?;
        for fd in inherited.iter().chain([&theirs]) {
            rustix::io::fcntl_setfd(fd, FdFlags::empty()).context(|| "fcntl(F_SETFD)")?;
        }
        let number = theirs.as_raw_fd().to_string();
        let spawned = Command::new("criu").args(["swrk", &number]).spawn();
        let child = spawned.context(|| "exec: \"criu\"")?;
        // Ours would keep the conversation open when it dies.
        drop(theirs);
        Ok(Service { child, socket: ours })
    }

    /// The worker's own process, before it does anything.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request and answers notifications until the response to it comes.
    pub(crate) fn ask(&self, sort: Sort, options: &Fields, listener: &mut dyn Listener) -> Result<Response> {
        self.send(&message::request(sort, options))?;
        loop {
            let (response, fd) = self.receive()?;
            if !response.success {
                return Err(failure(sort, &response));
            }
            if response.sort != Sort::Notify as u64 {
                return Ok(response);
            }
            listener.notified(&response.script, response.pid, fd)?;
            self.send(&message::acknowledgement())?;
        }
    }

    /// Whether criu and the kernel can do these.
    pub(crate) fn require(memory_tracking: bool, lazy_pages: bool) -> Result<()> {
        let service = Service::start(&[])?;
        service.send(&message::feature_request(memory_tracking, lazy_pages))?;
        let (response, _) = service.receive()?;
        service.finish()?;
        let missing = [
            ("MemTrack", memory_tracking && !response.memory_tracking),
            ("LazyPages", lazy_pages && !response.lazy_pages),
        ];
        let names: Vec<&str> =
            missing.iter().filter(|(_, missing)| *missing).map(|(name, _)| *name).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::Unsupported, format!("criu is missing features: [{}]", names.join(" "))))
    }

    /// After the last answer it ends by itself.
    pub(crate) fn finish(mut self) -> Result<()> {
        // The end of the conversation, for one that waits for more.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
        self.child.wait().map(drop).context(|| "wait4(<criu>)")
    }

    /// One that waits for what will not come, or failed.
    pub(crate) fn kill(mut self) -> Result<()> {
        let killed = self.child.kill().context(|| "kill(<criu>)");
        killed.and(self.child.wait().map(drop).context(|| "wait4(<criu>)"))
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        rustix::net::send(&self.socket, bytes, rustix::net::SendFlags::NOSIGNAL)
            .map(drop)
            .context(|| "send(<criu>)")
    }

    fn receive(&self) -> Result<(Response, Option<OwnedFd>)> {
        let mut bytes = vec![0_u8; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(
                self.socket.as_fd(),
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        });
        let length = received.context(|| "recvmsg(<criu>)")?.bytes;
        if length == 0 {
            return Err(Error::new(Kind::Os, "criu ended without an answer"));
        }
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok((message::response(bytes.get(..length).unwrap_or_default())?, fd))
    }
}

fn failure(sort: Sort, response: &Response) -> Error {
    let sort = match sort {
        Sort::Dump => "DUMP",
        Sort::Restore => "RESTORE",
        Sort::PreDump => "PRE_DUMP",
        Sort::Notify => "NOTIFY",
        Sort::FeatureCheck => "FEATURE_CHECK",
    };
    let why = if response.message.is_empty() { String::new() } else { format!(": {}", response.message) };
    Error::new(Kind::Os, format!("criu failed: type {sort} errno {}{why}", response.errno))
}

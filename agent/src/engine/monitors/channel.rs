//! One connection to a monitor: a request, then its answers, with the descriptors that come along.

use anyhow::{Context, bail};
use knarr_monitor::protocol::{Answer, Envelope, MAX_DESCRIPTORS, Request, SOCKET, VERSION};
use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Longest answer, in bytes: an error text is at most a few KiB.
const MAX_ANSWER: usize = 64 << 10;

/// A living monitor's (or the runtime's) own words for why not; every other error is about the connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(String);

#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    received: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Connects to the monitor of `directory`; `None` where none lives.
    pub(super) async fn connect(directory: &Path) -> anyhow::Result<Option<Self>> {
        match connect(directory).await {
            Ok(stream) => Ok(Some(Self { stream, received: Vec::new(), descriptors: Vec::new() })),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => {
                Err(error).with_context(|| format!("connect to the monitor in {}", directory.display()))
            }
        }
    }

    /// Sends the request.
    pub(super) async fn send(&mut self, request: Request) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&Envelope { version: VERSION, request })?;
        line.push(b'\n');
        self.stream.write_all(&line).await.context("send a request to the monitor")
    }

    /// The next answer; an error answer becomes an error with the monitor's (or the runtime's) own text.
    pub(super) async fn answer(&mut self) -> anyhow::Result<Answer> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let rest = self.received.split_off(end + 1);
                let line = std::mem::replace(&mut self.received, rest);
                return match serde_json::from_slice(&line)
                    .context("the monitor's answer is not understood")?
                {
                    Answer::Error { message } => Err(Refused(message).into()),
                    answer => Ok(answer),
                };
            }
            if self.received.len() > MAX_ANSWER {
                bail!("the monitor's answer is too long");
            }
            self.receive().await.context("the monitor's answer did not come")?;
        }
    }

    /// The monitor's process.
    pub(super) fn monitor_pid(&self) -> Option<i32> {
        self.stream.peer_cred().ok()?.pid()
    }

    /// What came along with the answers so far.
    pub(super) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }

    /// The bare connection and what was read ahead, for a connection that goes on with attach frames.
    pub(super) fn into_stream(self) -> (UnixStream, Vec<u8>) {
        (self.stream, self.received)
    }

    async fn receive(&mut self) -> io::Result<()> {
        let Self { stream, received, descriptors } = self;
        let stream = &*stream;
        let read = || {
            // In here, and not in the future: one waits for the end of every container.
            let mut buffer = [0; 4096];
            let (count, with_it) = receive_with_descriptors(stream, &mut buffer)?;
            received.extend_from_slice(buffer.get(..count).unwrap_or_default());
            descriptors.extend(with_it);
            Ok(count)
        };
        if stream.async_io(Interest::READABLE, read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// A socket address is at most 107 bytes and a state directory may be longer, so the way goes through a descriptor.
async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let directory =
        rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd())).await
}

fn receive_with_descriptors(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok((received.bytes, descriptors))
}

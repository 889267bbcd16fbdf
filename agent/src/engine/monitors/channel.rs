//! One connection to a monitor: a request, then its answers, with the descriptors that come along.

use crate::descriptors;
use anyhow::{Context, bail};
use knarr_monitor::protocol::{Answer, Envelope, Request, SOCKET, VERSION};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use tokio::io::AsyncWriteExt;
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
        descriptors::receive(stream, received, descriptors).await
    }
}

/// A socket address is at most 107 bytes and a state directory may be longer, so the way goes through a descriptor.
async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let directory =
        rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd())).await
}

//! The system's message bus, as far as the agent speaks on it: one call after the other, and the signals it asked for.
//!
//! Only services that a machine may or may not have are spoken to over it, so nothing of a pod ever waits for it.

use crate::descriptors;
use anyhow::{Context, bail, ensure};
use knarr_runtime::dbus::{self, Body, DAEMON, Incoming, Sort, Target};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// A service may have to be started for the call.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the answers of the handshake end at the latest.
const LONGEST_HANDSHAKE: usize = 1024;

/// An open connection.
#[derive(Debug)]
pub(crate) struct SystemBus {
    stream: UnixStream,
    serial: u32,
    received: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    /// Signals that came while an answer was waited for.
    signals: VecDeque<Incoming>,
}

impl SystemBus {
    /// `None` where no bus listens.
    pub(crate) async fn connect(socket: &Path) -> anyhow::Result<Option<Self>> {
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("connect to {}", socket.display())),
        };
        let mut bus =
            Self { stream, serial: 0, received: vec![], descriptors: vec![], signals: VecDeque::new() };
        tokio::time::timeout(PATIENCE, bus.authenticate()).await.context("the system bus is silent")??;
        bus.call(&DAEMON, "Hello", &Body::new("")).await?;
        Ok(Some(bus))
    }

    /// By our user id, which the kernel vouches for; and descriptors may be sent.
    async fn authenticate(&mut self) -> anyhow::Result<()> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        let words = format!("\0AUTH EXTERNAL {hex}\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
        self.stream.write_all(words.as_bytes()).await?;
        for expected in ["OK ", "AGREE_UNIX_FD"] {
            let line = self.line().await?;
            ensure!(line.starts_with(expected), "the system bus refuses to talk to us: {line}");
        }
        Ok(())
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.received.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            ensure!(self.received.len() < LONGEST_HANDSHAKE, "the system bus speaks another protocol");
            self.receive().await?;
        }
    }

    /// Calls a method; a refusal is an error in the service's words.
    pub(crate) async fn call(
        &mut self,
        target: &Target,
        member: &str,
        body: &Body,
    ) -> anyhow::Result<Incoming> {
        let answer = tokio::time::timeout(PATIENCE, self.answer(target, member, body));
        match answer.await {
            Ok(answer) => answer.with_context(|| format!("{}.{member}", target.interface)),
            Err(_) => bail!("{}.{member}: no answer within {PATIENCE:?}", target.interface),
        }
    }

    async fn answer(&mut self, target: &Target, member: &str, body: &Body) -> anyhow::Result<Incoming> {
        self.serial += 1;
        self.stream.write_all(&dbus::call(target, member, self.serial, body)).await?;
        loop {
            let incoming = self.next().await?;
            match incoming.sort {
                Sort::Return if incoming.reply_to == self.serial => return Ok(incoming),
                Sort::Error if incoming.reply_to == self.serial => {
                    bail!("{}: {}", incoming.error, incoming.first_string().unwrap_or_default())
                }
                Sort::Signal => self.signals.push_back(incoming),
                _ => {}
            }
        }
    }

    /// Asks for the signals that a rule describes.
    pub(crate) async fn subscribe(&mut self, rule: &str) -> anyhow::Result<()> {
        let mut body = Body::new("s");
        body.string(rule);
        self.call(&DAEMON, "AddMatch", &body).await.map(drop)
    }

    /// The next signal, however long it takes.
    pub(crate) async fn signal(&mut self) -> anyhow::Result<Incoming> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(signal);
            }
            let incoming = self.next().await?;
            if incoming.sort == Sort::Signal {
                self.signals.push_back(incoming);
            }
        }
    }

    /// What came along with the last answer.
    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop()
    }

    async fn next(&mut self) -> anyhow::Result<Incoming> {
        loop {
            if let Some(head) = self.received.first_chunk::<16>() {
                let length = dbus::length(head)?;
                if self.received.len() >= length {
                    let message: Vec<u8> = self.received.drain(..length).collect();
                    return Ok(dbus::parse(&message)?);
                }
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        let Self { stream, received, descriptors, .. } = self;
        descriptors::receive(stream, received, descriptors).await.context("the system bus hung up")
    }
}

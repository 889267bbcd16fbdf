//! The process that writes the logs of a pod.
//!
//! Writing to a file cannot be made non-blocking: a full journal, a dying disk or a dead network file system holds
//! the writer for as long as it likes. So all of it happens in a forked child, and only the channel to that child is
//! bounded: when the disk stalls, the channel fills, the poll loop stops reading the containers' output (they then
//! wait in write(2), as under any runtime), and reaping, exec and stop go on. The child ends when the channel does,
//! after it has written everything, so no line is lost when the monitor dies.

use crate::cri_log::Lines;
use crate::log_frame::{self, Message};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest packet: one read of output and its header.
const MAX_PACKET: usize = 20 << 10;

/// One container's log.
struct Log {
    path: PathBuf,
    file: OwnedFd,
    lines: Lines,
    /// The last write stopped in the middle of a line (a full disk): the next one must begin a new line.
    torn: bool,
}

/// The child's whole life.
pub(crate) fn run(channel: OwnedFd) -> i32 {
    let mut logs = BTreeMap::new();
    let mut packet = vec![0; MAX_PACKET];
    loop {
        match rustix::net::recv(&channel, packet.as_mut_slice(), RecvFlags::empty()) {
            Ok((0, _)) => return 0,
            Ok((length, _)) => {
                if let Some((log, message)) = packet.get(..length).and_then(log_frame::decode) {
                    obey(&channel, &mut logs, log, message);
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return 1,
        }
    }
}

fn obey(channel: &OwnedFd, logs: &mut BTreeMap<u32, Log>, log: u32, message: Message<'_>) {
    match message {
        Message::Open { ticket, path } => answer(channel, ticket, open(logs, log, path)),
        Message::Reopen { ticket } => {
            let result = logs.get_mut(&log).map_or(Ok(()), Log::reopen);
            answer(channel, ticket, result);
        }
        Message::Close { ticket, at } => {
            if let Some(mut log) = logs.remove(&log) {
                let mut text = Vec::new();
                log.lines.finish(at, &mut text);
                log.write(&text);
            }
            answer(channel, ticket, Ok(()));
        }
        Message::Output { stream, at, data } => {
            if let Some(log) = logs.get_mut(&log) {
                let mut text = Vec::new();
                log.lines.push(stream, at, data, &mut text);
                log.write(&text);
            }
        }
    }
}

fn open(logs: &mut BTreeMap<u32, Log>, log: u32, path: &[u8]) -> Result<(), String> {
    let path = PathBuf::from(OsStr::from_bytes(path));
    let file = open_file(&path)?;
    logs.insert(log, Log { path, file, lines: Lines::default(), torn: false });
    Ok(())
}

fn open_file(path: &Path) -> Result<OwnedFd, String> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))
        .map_err(|errno| format!("open log file {}: {errno}", path.display()))
}

/// A monitor that is gone needs no answer, hence the ignored error.
fn answer(channel: &OwnedFd, ticket: u32, result: Result<(), String>) {
    let error = result.err().unwrap_or_default();
    let _ = rustix::net::send(channel, &log_frame::encode_answer(ticket, &error), SendFlags::NOSIGNAL);
}

impl Log {
    /// Opens the path again after a rotation renamed the file; the old file stays where that fails.
    fn reopen(&mut self) -> Result<(), String> {
        self.file = open_file(&self.path)?;
        self.torn = false;
        Ok(())
    }

    /// Writes whole lines. What a full disk refuses is lost, and only that: output must not pile up in memory, and a
    /// container must not stop because nobody can store what it says.
    fn write(&mut self, text: &[u8]) {
        if text.is_empty() || (self.torn && self.write_all(b"\n").is_err()) {
            return;
        }
        self.torn = self.write_all(text).is_err_and(|written| written > 0);
    }

    /// On failure says how much was written.
    fn write_all(&self, text: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
            match rustix::io::write(&self.file, rest) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }
}

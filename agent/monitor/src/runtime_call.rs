//! One `runtime create` or `runtime exec` in flight: its process, its files, its console.
//!
//! The container's (or exec's) stdio is handed to the runtime as its own and so inherited by the process it starts.
//! With a terminal the runtime makes the pty and sends its master to a socket that we listen on. The runtime's own
//! errors go to a log in JSON lines; the last one of level `error` is what the caller is told.

use crate::stdio::{FarEnds, NearEnds};
use knarr_monitor::protocol::CALLS;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};
use rustix::process::Pid;
use serde::Deserialize;
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Longest path in a unix socket address, without the final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Longest error text passed on, in bytes.
const MAX_ERROR: usize = 8 << 10;

/// What the runtime is asked to do.
pub(crate) struct Invocation<'a> {
    /// Program and global arguments.
    pub(crate) runtime: &'a [String],
    /// The command and its arguments, without what this file adds.
    pub(crate) command: Vec<String>,
    /// The container, the last argument.
    pub(crate) id: &'a str,
    /// A console socket is needed.
    pub(crate) tty: bool,
}

/// A runtime process that has not ended yet.
#[derive(Debug)]
pub(crate) struct RuntimeCall {
    /// The runtime.
    pub(crate) child: Pid,
    /// Our ends of the stdio, until the process that it is for exists.
    pub(crate) near: NearEnds,
    console: Console,
    files: CallFiles,
}

/// How far the runtime is with sending the pty.
#[derive(Debug)]
enum Console {
    NotWanted,
    Listening(OwnedFd),
    Connected(OwnedFd),
    Master(OwnedFd),
}

impl RuntimeCall {
    /// Starts the runtime. `number` is unique in this monitor's life; `directory` is the monitor's own, absolute.
    pub(crate) fn spawn(
        directory: &Path,
        number: u64,
        invocation: Invocation<'_>,
        near: NearEnds,
        far: FarEnds,
    ) -> io::Result<Self> {
        let files = CallFiles::new(directory, number);
        let console =
            if invocation.tty { Console::Listening(files.listen_for_console()?) } else { Console::NotWanted };
        let Some((program, global)) = invocation.runtime.split_first() else {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no runtime was named"));
        };
        let mut command = Command::new(program);
        command.args(global).arg("--log").arg(&files.log).args(["--log-format", "json"]);
        command.args(invocation.command).arg("--pid-file").arg(&files.pid);
        if invocation.tty {
            command.arg("--console-socket").arg(files.console_address());
        }
        // Should we be killed, nothing that we began goes on behind the back of whoever cleans up after us.
        knarr_sys::process::end_with_parent(&mut command);
        command.arg(invocation.id).current_dir("/").stdin(far.stdin).stdout(far.stdout).stderr(far.stderr);
        let child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("run OCI runtime {program}: {error}")))?;
        // The handle is dropped on purpose: every child is reaped in one place, by its pid.
        let child = Pid::from_child(&child);
        Ok(Self { child, near, console, files })
    }

    /// What to watch for the console, if anything.
    pub(crate) fn console_source(&self) -> Option<BorrowedFd<'_>> {
        match &self.console {
            Console::Listening(fd) | Console::Connected(fd) => Some(fd.as_fd()),
            Console::NotWanted | Console::Master(_) => None,
        }
    }

    /// Takes the next steps of receiving the pty master that are possible without waiting.
    pub(crate) fn advance_console(&mut self) {
        loop {
            let next = match &self.console {
                Console::Listening(listener) => {
                    rustix::net::accept_with(listener, SocketFlags::CLOEXEC).map(Console::Connected)
                }
                Console::Connected(socket) => receive_descriptor(socket).map(Console::Master),
                Console::NotWanted | Console::Master(_) => return,
            };
            match next {
                Ok(next) => self.console = next,
                Err(_) => return,
            }
        }
    }

    /// The runtime has ended well: the pid of what it started, and our ends of the stdio.
    pub(crate) fn succeeded(mut self) -> Result<(Pid, NearEnds), String> {
        self.advance_console();
        let pid = self.files.read_pid()?;
        match self.console {
            Console::NotWanted => Ok((pid, self.near)),
            Console::Master(master) => Ok((pid, NearEnds::terminal(master))),
            _ => Err("the OCI runtime sent no terminal to the console socket".to_owned()),
        }
    }

    /// The runtime has failed: why.
    pub(crate) fn failed(&mut self, code: i32) -> String {
        self.files
            .read_error()
            .or_else(|| self.near.read_error_text(MAX_ERROR))
            .unwrap_or_else(|| format!("the OCI runtime ended with exit status {code} and said nothing"))
    }
}

/// Receives one descriptor; `AGAIN` while it has not been sent.
fn receive_descriptor(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut name = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut name)], &mut control, flags)?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or(Errno::BADMSG)
}

/// The files of one call; removed when it is over.
#[derive(Debug)]
struct CallFiles {
    pid: PathBuf,
    log: PathBuf,
    /// The process object of an exec, written by whoever asks for it.
    process: PathBuf,
    console: PathBuf,
    /// The console socket as seen from our working directory, which is the monitor's own directory.
    console_here: PathBuf,
}

impl CallFiles {
    fn new(directory: &Path, number: u64) -> Self {
        let calls = directory.join(CALLS);
        let console_here = Path::new(CALLS).join(format!("{number}.sock"));
        Self {
            pid: calls.join(format!("{number}.pid")),
            log: calls.join(format!("{number}.log")),
            process: process_file(directory, number),
            console: directory.join(&console_here),
            console_here,
        }
    }

    fn listen_for_console(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&self.console_here)?)?;
        rustix::net::listen(&socket, 1)?;
        Ok(socket)
    }

    /// A socket address is at most 107 bytes, a state directory may be longer: then the runtime goes through our
    /// working directory.
    fn console_address(&self) -> PathBuf {
        if self.console.as_os_str().len() <= MAX_SOCKET_PATH {
            return self.console.clone();
        }
        Path::new("/proc").join(std::process::id().to_string()).join("cwd").join(&self.console_here)
    }

    fn read_pid(&self) -> Result<Pid, String> {
        let text =
            std::fs::read_to_string(&self.pid).map_err(|e| format!("read {}: {e}", self.pid.display()))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| format!("the OCI runtime wrote {text:?} as a process id"))
    }

    /// The message of the last line of level `error`.
    fn read_error(&self) -> Option<String> {
        last_error(&std::fs::read_to_string(&self.log).ok()?)
    }
}

impl Drop for CallFiles {
    /// They may be absent, and lie on a file system in memory.
    fn drop(&mut self) {
        for file in [&self.pid, &self.log, &self.process, &self.console] {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn last_error(log: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        level: String,
        msg: String,
    }
    let mut message = log
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .find(|line| line.level == "error")?
        .msg;
    if let Some((end, _)) = message.char_indices().nth(MAX_ERROR) {
        message.truncate(end);
    }
    Some(message)
}

/// Where the process object of call `number` lies; removed with the call.
pub(crate) fn process_file(directory: &Path, number: u64) -> PathBuf {
    directory.join(CALLS).join(format!("{number}.json"))
}

/// Nothing to read, nowhere to write.
pub(crate) fn no_stdio() -> FarEnds {
    FarEnds { stdin: Stdio::null(), stdout: Stdio::null(), stderr: Stdio::null() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_the_one_that_counts() {
        let log = r#"{"level":"warning","msg":"w","time":"t"}
{"level":"error","msg":"first","time":"t"}
not json
{"level":"error","msg":"container with id exists: c","time":"t"}
{"level":"info","msg":"later","time":"t"}
"#;
        assert_eq!(last_error(log).as_deref(), Some("container with id exists: c"));
        assert_eq!(last_error(""), None);
    }
}

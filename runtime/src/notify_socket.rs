//! sd_notify(3) for a program that cannot reach the socket of the host's systemd: where `NOTIFY_SOCKET` is set, the
//! container gets a socket of its own, and its word that it is ready is passed on.
//!
//! Nothing else is passed on: a program in a container may say that it is ready, not which process systemd should watch.
//! That is said by us, together with a barrier that returns once systemd has acted on both.

use crate::error::{Context, Error, Result};
use crate::socket;
use crate::spec::{Mount, Spec};
use knarr_sys::clone::Child;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::process::Pid;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Below the container's own directory.
const DIRECTORY: &str = "notify";
const NAME: &str = "notify.sock";
/// Where the program finds that directory.
const INSIDE: &str = "/run/notify";

/// More than one message of the protocol holds.
const LONGEST: usize = 4096;

/// How long systemd may take to act on what it was told.
const BARRIER: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The container's socket, with the way to the host's.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    socket: OwnedFd,
    host: OwnedFd,
}

/// The host's socket, where somebody waits for the container.
pub(crate) fn wanted() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The program is told where its socket is. A directory is mounted, as the socket itself may come later.
pub(crate) fn add_to(spec: &mut Spec, container: &Path) {
    let words = ["bind", "nosuid", "noexec", "nodev", "ro"];
    spec.mounts.push(Mount {
        destination: INSIDE.into(),
        source: container.join(DIRECTORY).display().to_string(),
        options: words.map(String::from).to_vec(),
        ..Mount::default()
    });
    if let Some(process) = &mut spec.process {
        process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{NAME}"));
    }
}

/// Makes what `add_to` mounts.
pub(crate) fn make_directory(container: &Path) -> Result<()> {
    let directory = container.join(DIRECTORY);
    std::fs::create_dir(&directory).context(|| format!("mkdir {}", directory.display()))
}

impl NotifySocket {
    /// Listens, if somebody waits and the container was made to speak.
    pub(crate) fn bind(container: &Path) -> Result<Option<Self>> {
        let Some(host) = wanted() else { return Ok(None) };
        let path = container.join(DIRECTORY).join(NAME);
        if !container.join(DIRECTORY).exists() {
            return Ok(None);
        }
        let socket = datagram()?;
        socket::with_address(&path, |address| rustix::net::bind(&socket, address).context(|| "bind"))
            .context(|| format!("listen unixgram {}", path.display()))?;
        // Whoever the program is.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))
            .context(|| format!("chmod {}", path.display()))?;
        Ok(Some(NotifySocket { socket, host: connect(&host)? }))
    }

    /// Readable when the container said something.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes one message; whether it was the word that was waited for, which systemd then has heard. With a pid it is
    /// also told to watch that process from now on.
    pub(crate) fn pass_on(&self, main: Option<Pid>) -> Result<bool> {
        let mut bytes = [0_u8; LONGEST];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut bytes));
        let length = read.context(|| "read(<notify socket>)")?;
        let Some(ready) = ready_line(bytes.get(..length).unwrap_or_default()) else { return Ok(false) };
        self.tell(&[ready, b"\n"].concat())?;
        if let Some(pid) = main {
            self.tell(format!("MAINPID={}\n", pid.as_raw_nonzero()).as_bytes())?;
        }
        self.barrier()?;
        Ok(true)
    }

    /// For a command that ends once the program is ready, or has ended.
    pub(crate) fn until_ready(&self, init: &Child) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&init.pidfd, PollFlags::IN)];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None)).context(|| "poll")?;
            let [said, ended] = fds.map(|fd| !fd.revents().is_empty());
            if said && self.pass_on(Some(init.pid))? || ended {
                return Ok(());
            }
        }
    }

    fn tell(&self, message: &[u8]) -> Result<()> {
        rustix::net::send(&self.host, message, SendFlags::NOSIGNAL)
            .map(drop)
            .context(|| "send(<NOTIFY_SOCKET>)")
    }

    /// systemd closes its end of the pipe when it has acted on all that came before. Others never do, so it is not waited
    /// for without end, nor missed.
    fn barrier(&self) -> Result<()> {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "pipe2")?;
        socket::send_fd(self.host.as_fd(), b"BARRIER=1", theirs.as_fd())?;
        drop(theirs);
        let mut fds = [PollFd::new(&ours, PollFlags::HUP)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&BARRIER)))
            .map(drop)
            .context(|| "poll")
    }
}

fn datagram() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .context(|| "socket(AF_UNIX)")
}

/// A name that begins with `@` is in the abstract space.
fn connect(host: &Path) -> Result<OwnedFd> {
    let socket = datagram()?;
    let text = host.as_os_str().as_encoded_bytes();
    let connected = match text.strip_prefix(b"@") {
        Some(name) => rustix::net::SocketAddrUnix::new_abstract_name(name)
            .and_then(|address| rustix::net::connect(&socket, &address))
            .context(|| "connect"),
        None => {
            socket::with_address(host, |address| rustix::net::connect(&socket, address).context(|| "connect"))
        }
    };
    connected.context(|| format!("dial unixgram {}", host.display()))?;
    Ok(socket)
}

/// One datagram holds whole lines.
fn ready_line(message: &[u8]) -> Option<&[u8]> {
    message.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY="))
}

/// The process that a record names, for waiting.
pub(crate) fn process(pid: i32) -> Result<Child> {
    let pid = Pid::from_raw(pid).ok_or_else(|| Error::invalid("container not running"))?;
    let pidfd =
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).context(|| "pidfd_open")?;
    Ok(Child { pid, pidfd })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_ready_is_passed_on() {
        assert_eq!(ready_line(b"STATUS=x\nREADY=1\nMAINPID=1"), Some(b"READY=1".as_slice()));
        for message in [b"".as_slice(), b"STATUS=READY=1", b"MAINPID=7\n"] {
            assert_eq!(ready_line(message), None);
        }
    }

    #[test]
    fn the_program_is_told_where_its_socket_is() {
        let mut spec = Spec { process: Some(crate::spec::Process::default()), ..Spec::default() };
        add_to(&mut spec, Path::new("/run/x/id"));
        assert_eq!(spec.mounts[0].source, "/run/x/id/notify");
        assert_eq!(spec.process.unwrap().env, ["NOTIFY_SOCKET=/run/notify/notify.sock"]);
    }
}

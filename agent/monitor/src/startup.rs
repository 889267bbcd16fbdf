//! From a program just started to a monitor that listens: own session, one per directory, subreaper, own cgroup.
//!
//! The launcher reads our standard output until it ends: `ready`, or why not. From then on nothing connects us to it.

use crate::monitor::Monitor;
use knarr_monitor::cgroup_mounts::CgroupMount;
use knarr_monitor::exit_file::EXITS;
use knarr_monitor::protocol::{CALLS, KEPT, LOCK, SOCKET};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Pid;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Connections that may wait to be accepted: the engine's own concurrency in one pod.
const BACKLOG: i32 = 128;

/// How long a call of a monitor that died may take to begin its program or to die with it, on the slowest machine.
const LEFT_BEHIND: Duration = Duration::from_secs(10);

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Options {
    /// The monitor's directory, which exists: without one there is no pod.
    pub(crate) directory: PathBuf,
    /// The cgroup to live in, relative to each hierarchy's root; stay where we are if absent.
    pub(crate) cgroup: Option<PathBuf>,
}

impl Options {
    /// `knarr-monitor --directory DIR [--cgroup PATH]`
    pub(crate) fn parse(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Self, String> {
        let mut arguments = arguments;
        let (mut directory, mut cgroup) = (None, None);
        while let Some(argument) = arguments.next() {
            let target = match argument.to_str() {
                Some("--directory") => &mut directory,
                Some("--cgroup") => &mut cgroup,
                _ => return Err(format!("unknown argument {}", argument.display())),
            };
            let value = arguments.next().ok_or_else(|| format!("{} needs a value", argument.display()))?;
            *target = Some(PathBuf::from(value));
        }
        let directory = directory.ok_or("usage: knarr-monitor --directory DIR [--cgroup PATH]")?;
        Ok(Self { directory, cgroup })
    }
}

/// A monitor that listens, and what must be held for as long as it lives.
pub(crate) fn start(options: Options) -> io::Result<(Monitor, OwnedFd)> {
    // Containers inherit it where their spec does not say otherwise.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let directory = options.directory.canonicalize()?;
    std::env::set_current_dir(&directory)?;
    let lock = lock()?;
    // Fails only for the leader of a process group, which is as detached as we want to be.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let signals = block_signals()?;
    prepare_directories()?;
    let listener = listen()?;
    announce_ready()?;
    let mounts = CgroupMount::all()?;
    let mut monitor = Monitor::new(directory, listener, signals, mounts);
    if let Some(cgroup) = options.cgroup {
        for error in enter_cgroup(&cgroup, &monitor.cgroup_mounts) {
            monitor.errors.note(&error);
        }
    }
    monitor.adopt();
    Ok((monitor, lock))
}

/// One monitor per directory.
fn lock() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = rustix::fs::open(LOCK, flags, Mode::from_raw_mode(0o600))?;
    take(&lock)?;
    rustix::fs::ftruncate(&lock, 0)?;
    rustix::io::write(&lock, std::process::id().to_string().as_bytes())?;
    Ok(lock)
}

/// A monitor that was killed may have left the lock to a call that has not begun its own program yet. Only one that
/// lives keeps it.
fn take(lock: &OwnedFd) -> io::Result<()> {
    let end = Instant::now() + LEFT_BEHIND;
    while rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= end || lives(holder(lock)?) {
            return Err(io::Error::other("another monitor lives in this directory"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whoever had the lock last.
fn holder(lock: &OwnedFd) -> io::Result<Option<Pid>> {
    let mut text = [0; 16];
    let length = rustix::io::pread(lock, &mut text, 0)?;
    let text = std::str::from_utf8(text.get(..length).unwrap_or_default()).unwrap_or_default();
    Ok(text.trim().parse().ok().and_then(Pid::from_raw))
}

fn lives(holder: Option<Pid>) -> bool {
    holder.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// They are read from a descriptor in the poll loop instead.
fn block_signals() -> io::Result<SignalFd> {
    let signals: SigSet =
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Calls in flight died with the monitor that made them.
fn prepare_directories() -> io::Result<()> {
    std::fs::create_dir_all(EXITS)?;
    std::fs::create_dir_all(KEPT)?;
    match std::fs::remove_dir_all(CALLS) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir(CALLS)
}

/// Relative to the working directory, because a socket address is at most 107 bytes. Root only.
fn listen() -> io::Result<OwnedFd> {
    match std::fs::remove_file(SOCKET) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    rustix::fs::chmod(SOCKET, Mode::from_raw_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn announce_ready() -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(b"ready\n")?;
    stdout.flush()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(nix::unistd::dup2_stderr(&null)?)
}

/// Moves this process; done after the launcher was told, because the kernel takes milliseconds for each move.
fn enter_cgroup(cgroup: &Path, mounts: &[CgroupMount]) -> Vec<String> {
    let relevant = mounts.iter().filter(|mount| mount.matters_for_separation());
    let results = relevant.map(|mount| enter(&mount.point.join(cgroup.strip_prefix("/").unwrap_or(cgroup))));
    results.filter_map(Result::err).collect()
}

/// The engine removes the cgroup when its last monitor has gone, maybe just between our two steps: then once more.
fn enter(directory: &Path) -> Result<(), String> {
    let attempt = || {
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join("cgroup.procs"), "0")
    };
    attempt().or_else(|_| attempt()).map_err(|error| format!("enter cgroup {}: {error}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_a_dead_monitor_left_is_waited_for_and_one_of_a_living_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || OwnedFd::from(file.reopen().unwrap());
        let left = open();
        take(&left).unwrap();
        rustix::io::pwrite(&left, std::process::id().to_string().as_bytes(), 0).unwrap();
        assert!(take(&open()).is_err());
        let mut dead = std::process::Command::new("/bin/true").spawn().unwrap();
        dead.wait().unwrap();
        rustix::fs::ftruncate(&left, 0).unwrap();
        rustix::io::pwrite(&left, dead.id().to_string().as_bytes(), 0).unwrap();
        let next = open();
        let waiting = std::thread::spawn(move || take(&next));
        drop(left);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn arguments() {
        let parse = |words: &[&str]| Options::parse(words.iter().map(Into::into));
        let options = parse(&["--directory", "/d", "--cgroup", "/m"]).unwrap();
        assert_eq!((options.directory, options.cgroup), ("/d".into(), Some("/m".into())));
        assert!(parse(&[]).is_err());
        assert!(parse(&["--directory"]).is_err());
        assert!(parse(&["--nonsense", "1"]).is_err());
    }
}

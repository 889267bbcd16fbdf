//! The container's terminal: a pty of its own devpts, whose master goes out through the console socket.
//!
//! The slave is asked of the master itself (`TIOCGPTPEER`), never opened by a name that the container could have
//! replaced, and both are checked to be what they should (CVE-2025-52565).

use crate::error::{Context, Error, Result};
use crate::{safe_path, socket};
use knarr_sys::mount;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, OutputModes, Winsize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Makes it ours: standard input and outputs, controlling terminal, `/dev/console`.
pub(crate) fn set_up(
    root: BorrowedFd<'_>,
    console: BorrowedFd<'_>,
    size: (u16, u16),
    bind: bool,
) -> Result<()> {
    let master = open_master(root).context(|| "open /dev/ptmx of the container")?;
    rustix::pty::unlockpt(&master).context(|| "ioctl(TIOCSPTLCK)")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).context(|| "ioctl(TIOCGPTPEER)")?;
    if size != (0, 0) {
        let size = Winsize { ws_col: size.0, ws_row: size.1, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).context(|| "ioctl(TIOCSWINSZ)")?;
    }
    if is_ours(console) {
        keep_newlines(slave.as_fd())?;
    }
    if bind {
        bind_console(root, slave.as_fd()).context(|| "mount /dev/console")?;
    }
    socket::send_fd(console, b"/dev/ptmx", master.as_fd()).context(|| "console socket")?;
    rustix::stdio::dup2_stdin(&slave).context(|| "dup2(0)")?;
    rustix::stdio::dup2_stdout(&slave).context(|| "dup2(1)")?;
    rustix::stdio::dup2_stderr(&slave).context(|| "dup2(2)")?;
    rustix::process::ioctl_tiocsctty(&slave).context(|| "ioctl(TIOCSCTTY)")
}

/// Whether the master goes to the command itself, which stands before the program and passes on what it says: a pair of
/// sockets has no name, the socket of a caller has one.
fn is_ours(console: BorrowedFd<'_>) -> bool {
    let Ok(peer) = rustix::net::getpeername(console) else { return false };
    // The address of a pair is the family alone.
    peer.is_none_or(|peer| peer.addr_len() as usize <= size_of::<libc::sa_family_t>())
}

/// Newlines come out as they went in: the reader may be a file or a pipe, and a terminal makes its own lines.
pub(crate) fn keep_newlines(terminal: BorrowedFd<'_>) -> Result<()> {
    let mut modes = rustix::termios::tcgetattr(terminal).context(|| "tcgetattr")?;
    modes.output_modes -= OutputModes::ONLCR;
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &modes).context(|| "tcsetattr")
}

fn open_master(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let master = safe_path::open(root, Path::new("/dev/pts/ptmx"), OFlags::RDWR | OFlags::NOCTTY)?;
    let kind = rustix::fs::fstatfs(&master).context(|| "fstatfs")?.f_type as u64;
    let stat = rustix::fs::fstat(&master).context(|| "fstat")?;
    if kind == DEVPTS_MAGIC && crate::plan::is_device(&stat, 'c', (5, 2)) {
        return Ok(master);
    }
    Err(Error::invalid("/dev/pts/ptmx is not a pty multiplexer on devpts"))
}

/// The place is a file of `/dev` itself. A link there could lead to what a mask hides, or to a file that is about to be
/// covered by a terminal the container controls.
fn bind_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<()> {
    let (directory, name) = safe_path::make_parent(root, Path::new("/dev/console"))?;
    let create = OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::openat(&directory, &name, create | OFlags::EXCL | OFlags::CLOEXEC, mode) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).context(|| "openat(O_CREAT|O_EXCL)"),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(&directory, &name, flags, Mode::empty()).context(|| "openat(O_PATH)")?;
    let stat = rustix::fs::fstat(&target).context(|| "fstat")?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(Error::invalid("/dev/console is a symbolic link"));
    }
    let tree = mount::clone_tree(slave, "", false)?;
    Ok(mount::move_to_fd(&tree, &target)?)
}

//! Unix sockets: connecting to a path of any length, and passing descriptors.

use crate::error::{Context, Error, Kind, Result};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Connects a stream. An address holds 108 bytes; a longer path is reached through a descriptor of its directory.
pub(crate) fn connect(path: &Path) -> Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .context(|| "socket(AF_UNIX)")?;
    let connected =
        with_address(path, |address| rustix::net::connect(&socket, address).context(|| "connect"));
    connected.context(|| format!("dial unix {}", path.display()))?;
    Ok(socket)
}

/// Hands out the address of a path, short enough in any case.
pub(crate) fn with_address<T>(path: &Path, act: impl FnOnce(&SocketAddrUnix) -> Result<T>) -> Result<T> {
    if let Ok(address) = SocketAddrUnix::new(path) {
        return act(&address);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::invalid("not a path of a socket"));
    };
    let directory =
        rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .context(|| "open")?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    act(&SocketAddrUnix::new(short).context(|| "address")?)
}

/// A connected pair that keeps message borders.
pub(crate) fn pair(kind: SocketType) -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .context(|| "socketpair(AF_UNIX)")
}

/// More than any message carries: one for each hierarchy of version 1.
const MOST: usize = 32;

/// Sends bytes with one descriptor.
pub(crate) fn send_fd(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    send_fds(socket, bytes, &[fd])
}

/// Sends bytes with any number of descriptors.
pub(crate) fn send_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds))) {
        return Err(Error::new(Kind::Os, format!("no room for {} descriptors", fds.len())));
    }
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        .context(|| "sendmsg(SCM_RIGHTS)")?;
    if sent == bytes.len() { Ok(()) } else { Err(Error::new(Kind::Os, "sendmsg: short write")) }
}

/// Receives the descriptor that somebody sends.
pub(crate) fn receive_fd(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let (_, fds) = receive_fds(socket, &mut [0_u8; 4096])?;
    fds.into_iter().next().ok_or_else(|| Error::new(Kind::Os, "recvmsg: no descriptor came"))
}

/// Receives bytes, and tells how many, with the descriptors that come with them.
pub(crate) fn receive_fds(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let bytes = &mut [IoSliceMut::new(bytes)];
    let receive = || rustix::net::recvmsg(socket, bytes, &mut control, RecvFlags::CMSG_CLOEXEC);
    let got = rustix::io::retry_on_intr(receive).context(|| "recvmsg")?;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok((got.bytes, fds.flatten().collect()))
}

//! The other end of what the runtime hands out: a descriptor over a unix socket, and what a terminal says.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// An emulated machine is slow.
const DEADLINE: Duration = Duration::from_secs(60);

/// Accepts one connection and takes the descriptor that comes over it, with the bytes beside it.
///
/// # Panics
/// When nobody connects, or nothing comes.
pub fn receive(listener: &UnixListener) -> (OwnedFd, Vec<u8>) {
    let timeout = Timespec::try_from(DEADLINE).expect("a time");
    let ready = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)).expect("polling");
    assert!(ready > 0, "nobody connects");
    let (peer, _) = listener.accept().expect("a connection");
    let mut bytes = [0_u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let got =
        rustix::net::recvmsg(&peer, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC).expect("a message");
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (fd.expect("a descriptor"), bytes.get(..got.bytes).unwrap_or_default().to_vec())
}

/// Reads a terminal until it has said the text.
///
/// # Panics
/// When it ends, or does not say it.
pub fn read_until(terminal: &mut std::fs::File, wanted: &str) -> String {
    let mut said = String::new();
    let mut buffer = [0_u8; 1024];
    let timeout = Timespec::try_from(DEADLINE).expect("a time");
    while !said.contains(wanted) {
        let ready = poll(&mut [PollFd::new(&*terminal, PollFlags::IN)], Some(&timeout)).expect("polling");
        assert!(ready > 0, "{said}");
        let count = terminal.read(&mut buffer).unwrap_or(0);
        assert!(count > 0, "the terminal ended: {said}");
        said.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
    }
    said
}

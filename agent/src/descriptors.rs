//! Descriptors that come along with bytes over a unix socket.

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Most of them with one read; no peer of ours sends more.
const MOST: usize = 3;
const PIECE: usize = 4096;

/// Waits for bytes, appends them and what came along. The end of the stream is an error.
pub(crate) async fn receive(
    stream: &UnixStream,
    received: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<()> {
    let read = || {
        // In here, and not in the future: one waits for the end of every container.
        let mut buffer = [0; PIECE];
        let (count, with_it) = receive_now(stream, &mut buffer)?;
        received.extend_from_slice(buffer.get(..count).unwrap_or_default());
        descriptors.extend(with_it);
        Ok(count)
    };
    match stream.async_io(Interest::READABLE, read).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn receive_now(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
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

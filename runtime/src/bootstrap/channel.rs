//! What runtime and init say to each other: one message per packet, the first byte says which.

use crate::error::{Context, Error, Kind, Result};
use crate::socket;
use rustix::net::SocketType;
use std::os::fd::{AsFd, OwnedFd};

/// A message; see the diagram in `bootstrap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// Ids are mapped, network devices moved. Carries init's pid as the host sees it, and comes with the entrances to the
    /// cgroups that were made meanwhile.
    Released(i32),
    WantHooks,
    HooksDone,
    /// The number of the notify descriptor in init.
    Listener(i32),
    /// The number, in init, of a detached mount whose ids the runtime is to map.
    Tree(i32),
    /// What was asked for is done.
    Sent,
    /// A stage has cloned init: its pid.
    Cloned(i32),
    /// A stage is in its new user namespace and needs ids.
    WantIds,
    /// A stage has made a time namespace and needs its clocks set.
    WantClocks,
    Ready,
    Go,
    Failed(Error),
    /// A part of the timeline.
    Timeline(Vec<u8>),
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// No message is longer: errors are cut.
const MAX: usize = 65536;

impl Channel {
    /// Both ends.
    pub(crate) fn pair() -> Result<(Channel, Channel)> {
        let (one, other) = socket::pair(SocketType::SEQPACKET)?;
        Ok((Channel(one), Channel(other)))
    }

    /// Says something. The other end being gone is an error.
    pub(crate) fn send(&self, message: &Message) -> Result<()> {
        let bytes = encode(message);
        let cut = bytes.get(..bytes.len().min(MAX)).unwrap_or_default();
        // read and write, not send and recv: a strict seccomp filter may be loaded already and allows at least these.
        rustix::io::write(&self.0, cut).context(|| "write to the other half of the runtime")?;
        Ok(())
    }

    /// Says something and hands over descriptors, to one that waits for them by [`Channel::receive_fds`].
    pub(crate) fn send_fds(&self, message: &Message, fds: &[OwnedFd]) -> Result<()> {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        socket::send_fds(self.0.as_fd(), &encode(message), &fds)
    }

    /// The next message, with what came with it. Only before a seccomp filter.
    pub(crate) fn receive_fds(&self) -> Result<(Option<Message>, Vec<OwnedFd>)> {
        // A release, or why there is none.
        let mut bytes = [0; 4096];
        let (length, fds) = socket::receive_fds(self.0.as_fd(), &mut bytes)?;
        let said = bytes.get(..length).filter(|said| !said.is_empty());
        Ok((said.map(decode).transpose()?, fds))
    }

    /// The next message; nothing when the other end has closed.
    pub(crate) fn receive(&self) -> Result<Option<Message>> {
        // Not filled with zeros first: what the kernel does not write to costs no page.
        let mut bytes = Vec::with_capacity(MAX);
        loop {
            match rustix::io::read(&self.0, rustix::buffer::spare_capacity(&mut bytes)) {
                Ok(0) => return Ok(None),
                Ok(_) => return decode(&bytes).map(Some),
                // A peer that ended without reading everything resets us, once; what it said before is still there.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                Err(errno) => return Err(errno).context(|| "read from the other half of the runtime"),
            }
        }
    }

    /// Why the other end, which is dead by now, had failed: talking to it fails too, but that is not the reason.
    pub(crate) fn last_words(&self, context: &str) -> Option<Error> {
        while let Ok(Some(message)) = self.receive() {
            if let Message::Failed(error) = message {
                return Some(error.in_context(context));
            }
        }
        None
    }

    /// Waits for exactly this kind of message.
    pub(crate) fn expect<T>(&self, what: &str, pick: impl FnOnce(Message) -> Option<T>) -> Result<T> {
        expected(self.receive()?, what, pick)
    }
}

/// Exactly this kind of message, or why it is not.
pub(crate) fn expected<T>(
    message: Option<Message>,
    what: &str,
    pick: impl FnOnce(Message) -> Option<T>,
) -> Result<T> {
    match message {
        None => Err(Error::new(Kind::Os, format!("the other half of the runtime ended before {what}"))),
        Some(Message::Failed(error)) => Err(error),
        Some(message) => {
            pick(message).ok_or_else(|| Error::new(Kind::Os, format!("unexpected message, not {what}")))
        }
    }
}

fn encode(message: &Message) -> Vec<u8> {
    let numbered = |tag: u8, number: i32| [&[tag], number.to_ne_bytes().as_slice()].concat();
    match message {
        Message::Released(pid) => numbered(b'P', *pid),
        Message::WantHooks => vec![b'H'],
        Message::HooksDone => vec![b'D'],
        Message::Listener(fd) => numbered(b'L', *fd),
        Message::Tree(fd) => numbered(b'M', *fd),
        Message::Sent => vec![b'S'],
        Message::Cloned(pid) => numbered(b'C', *pid),
        Message::WantIds => vec![b'I'],
        Message::WantClocks => vec![b'K'],
        Message::Ready => vec![b'R'],
        Message::Go => vec![b'G'],
        Message::Failed(error) => [b"E".as_slice(), &error.to_bytes()].concat(),
        Message::Timeline(json) => [b"T".as_slice(), json].concat(),
    }
}

fn decode(bytes: &[u8]) -> Result<Message> {
    let (tag, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let number =
        || rest.try_into().map(i32::from_ne_bytes).map_err(|_| Error::new(Kind::Os, "malformed message"));
    Ok(match tag {
        b'P' => Message::Released(number()?),
        b'H' => Message::WantHooks,
        b'D' => Message::HooksDone,
        b'L' => Message::Listener(number()?),
        b'M' => Message::Tree(number()?),
        b'S' => Message::Sent,
        b'C' => Message::Cloned(number()?),
        b'I' => Message::WantIds,
        b'K' => Message::WantClocks,
        b'R' => Message::Ready,
        b'G' => Message::Go,
        b'E' => Message::Failed(Error::from_bytes(rest)),
        b'T' => Message::Timeline(rest.to_vec()),
        _ => return Err(Error::new(Kind::Os, "malformed message")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way_with_the_kind_of_an_error() {
        let (one, other) = Channel::pair().unwrap();
        let messages = [
            Message::Released(-7),
            Message::Ready,
            Message::Failed(Error::new(Kind::Exec, "exec: \"x\"")),
            Message::Timeline(b"[]".to_vec()),
        ];
        for message in &messages {
            one.send(message).unwrap();
        }
        for message in messages {
            assert_eq!(other.receive().unwrap(), Some(message));
        }
        drop(one);
        assert_eq!(other.receive().unwrap(), None);
    }

    #[test]
    fn descriptors_come_with_their_message() {
        let (one, other) = Channel::pair().unwrap();
        let fds: Vec<OwnedFd> = (0..12).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        one.send_fds(&Message::Released(7), &fds).unwrap();
        one.send_fds(&Message::Ready, &[]).unwrap();
        drop(one);
        let (message, fds) = other.receive_fds().unwrap();
        assert_eq!((message, fds.len()), (Some(Message::Released(7)), 12));
        let (message, fds) = other.receive_fds().unwrap();
        assert_eq!((message, fds.len()), (Some(Message::Ready), 0));
        assert_eq!(other.receive_fds().unwrap().0, None);
    }

    #[test]
    fn the_last_words_of_a_peer_that_did_not_listen_are_heard() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&Message::Ready).unwrap();
        other.send(&Message::Go).unwrap();
        drop(one);
        assert_eq!(other.receive().unwrap(), Some(Message::Ready));
        assert_eq!(other.receive().unwrap(), None);
    }

    #[test]
    fn a_failure_is_what_a_wait_returns() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&Message::Failed(Error::invalid("x"))).unwrap();
        let error = other.expect("Ready", |m| (m == Message::Ready).then_some(())).unwrap_err();
        assert_eq!(error, Error::invalid("x"));
    }
}

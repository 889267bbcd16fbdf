//! rtnetlink(7), as far as moving a device needs it: requests out of a header and attributes, answers split into theirs.

use crate::error::{Context, Error, Kind, Result};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::os::fd::OwnedFd;

/// `NLM_F_REQUEST | NLM_F_ACK`
const REQUEST: u16 = 0x1 | 0x4;
/// `NLM_F_ROOT | NLM_F_MATCH`
const DUMP: u16 = 0x100 | 0x200;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;
/// The kernel never sends more at once.
const BUFFER: usize = 65536;

/// A socket in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Netlink(OwnedFd);

/// A message in the making.
#[derive(Debug)]
pub(crate) struct Request(Vec<u8>);

/// One message that came: its kind, and what follows the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A change, or a question about one thing; `fixed` is the structure that belongs to the kind.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0_u8; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((REQUEST | flags).to_ne_bytes());
        bytes.extend([0_u8; 8]);
        bytes.extend(fixed);
        Request(bytes)
    }

    /// A question about all of them.
    pub(crate) fn dump(kind: u16, fixed: &[u8]) -> Self {
        Self::new(kind, DUMP, fixed)
    }

    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = 4 + value.len();
        self.0.extend((length as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() as u32).to_ne_bytes();
        self.0.splice(..4, length);
        self.0
    }
}

impl Netlink {
    pub(crate) fn open() -> Result<Self> {
        // NETLINK_ROUTE is protocol 0.
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None);
        socket.map(Netlink).context(|| "socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)")
    }

    /// Sends it, and returns what came before the acknowledgement.
    pub(crate) fn ask(&self, request: Request) -> Result<Vec<Answer>> {
        rustix::net::send(&self.0, &request.finish(), SendFlags::empty()).context(|| "send(<netlink>)")?;
        let mut answers = Vec::new();
        let mut bytes = vec![0_u8; BUFFER];
        loop {
            let read = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.0, bytes.as_mut_slice(), RecvFlags::empty())
            });
            let (length, _) = read.context(|| "recv(<netlink>)")?;
            for answer in split(bytes.get(..length).unwrap_or_default())? {
                match answer.kind {
                    DONE => return Ok(answers),
                    ERROR => return acknowledged(&answer).map(|()| answers),
                    _ => answers.push(answer),
                }
            }
        }
    }
}

fn acknowledged(answer: &Answer) -> Result<()> {
    match number(&answer.body, 0).map(|code| code as i32) {
        Some(0) => Ok(()),
        Some(code) => {
            let errno = rustix::io::Errno::from_raw_os_error(code.saturating_neg());
            Err(Error::new(Kind::Os, knarr_sys::error::description(errno)))
        }
        None => Err(malformed()),
    }
}

fn split(mut bytes: &[u8]) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let length = number(bytes, 0).ok_or_else(malformed)? as usize;
        let message = bytes.get(..length).filter(|_| length >= HEADER).ok_or_else(malformed)?;
        answers.push(Answer {
            kind: short(message, 4).ok_or_else(malformed)?,
            body: message.get(HEADER..).unwrap_or_default().to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(answers)
}

/// The attribute of a kind, behind a structure of `fixed` bytes.
pub(crate) fn attribute(body: &[u8], fixed: usize, kind: u16) -> Option<&[u8]> {
    let mut rest = body.get(fixed..)?;
    while rest.len() >= 4 {
        let (length, found) = (short(rest, 0)? as usize, short(rest, 2)?);
        if length < 4 {
            return None;
        }
        if found == kind {
            return rest.get(4..length);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Four bytes of a message.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn malformed() -> Error {
    Error::new(Kind::Os, "malformed netlink message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_padded_and_attributes_are_found_again() {
        let message =
            Request::new(16, 0, &[0; 16]).attribute(3, b"ab\0").attribute(28, &[1, 0, 0, 0]).finish();
        assert_eq!(message.len(), 16 + 16 + 8 + 8);
        let answers = split(&message).unwrap();
        assert_eq!((answers.len(), answers[0].kind), (1, 16));
        assert_eq!(attribute(&answers[0].body, 16, 28), Some([1, 0, 0, 0].as_slice()));
        assert_eq!(attribute(&answers[0].body, 16, 3), Some(b"ab\0".as_slice()));
        assert_eq!(attribute(&answers[0].body, 16, 4), None);
    }

    #[test]
    fn broken_messages_are_errors() {
        for bytes in [[0_u8; 3].as_slice(), &[1, 0, 0, 0], &[0xff; 20], &[0; 20]] {
            assert!(split(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(attribute(&[0; 8], 0, 1), None);
        assert_eq!(attribute(&[9, 0, 1, 0], 0, 1), None);
    }
}

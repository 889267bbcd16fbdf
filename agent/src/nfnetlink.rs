//! Messages of netfilter's socket: how they are framed, what an answer says. What they mean is the caller's business.
//!
//! Both subsystems we speak to (nf_tables, ctnetlink) have the same frame: a netlink header, netfilter's own header
//! (family of addresses), and attributes that may contain attributes. What the kernel sends is read without trust in
//! its lengths.

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};
use std::io;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
pub(crate) const NLA_F_NESTED: u16 = 0x8000;
/// Without the marks that an attribute's kind may bear.
const NLA_TYPE_MASK: u16 = 0x3fff;
const NETLINK_HEADER: usize = 16;
/// Netlink's header and netfilter's.
const HEADERS: usize = 20;

/// Opens a socket; it speaks for the network namespace of the calling thread.
pub(crate) fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// What a message is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// Subsystem and message.
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) family: u8,
    /// The subsystem that a batch is for.
    pub(crate) resource: u16,
}

/// Appends a message.
pub(crate) fn message(bytes: &mut Vec<u8>, head: Head, attributes: &[u8]) {
    let length = u32::try_from(attributes.len().saturating_add(HEADERS)).unwrap_or(u32::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(head.kind.to_ne_bytes());
    bytes.extend(head.flags.to_ne_bytes());
    bytes.extend(head.sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend([head.family, 0]);
    bytes.extend(head.resource.to_be_bytes());
    bytes.extend(attributes);
}

/// An attribute, padded.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// One message of the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    kind: u16,
    pub(crate) sequence: u32,
    /// All behind netlink's own header.
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Zero or a negative errno, of an acknowledgement, an error or the end of a list.
    pub(crate) fn code(&self) -> Option<i32> {
        let is_last = matches!(self.kind, NLMSG_ERROR | NLMSG_DONE);
        let code = self.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        is_last.then_some(code)
    }

    pub(crate) fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        attributes(self.body.get(HEADERS - NETLINK_HEADER..).unwrap_or_default())
    }
}

/// The messages of a datagram.
pub(crate) fn answers(mut datagram: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let header = datagram.first_chunk::<NETLINK_HEADER>()?;
        let word = |at: usize| {
            header.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
        };
        let (length, sequence) = ((word(0) as usize).max(NETLINK_HEADER), word(8));
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let body = datagram.get(NETLINK_HEADER..length.min(datagram.len())).unwrap_or_default();
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer { kind, sequence, body })
    })
}

/// Kind and value of each of the attributes that follow each other.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[a, b, c, d] = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK, value))
    })
}

/// The value of the first attribute of that kind.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_datagram_is_read(datagram in proptest::collection::vec(any::<u8>(), 0..200)) {
            for answer in answers(&datagram) {
                let _ = answer.code();
                for (_, value) in answer.attributes() {
                    let _ = attributes(value).count();
                }
            }
        }

        #[test]
        fn what_was_written_is_read(kinds in proptest::collection::vec((0_u16..100, proptest::collection::vec(any::<u8>(), 0..20)), 0..5)) {
            let written: Vec<u8> = kinds.iter().flat_map(|(kind, value)| attribute(kind | NLA_F_NESTED, value)).collect();
            let mut bytes = Vec::new();
            let head = Head { kind: 7, flags: 0, sequence: 3, family: 2, resource: 0 };
            message(&mut bytes, head, &written);
            message(&mut bytes, head, &[]);
            let read: Vec<_> = answers(&bytes).collect();
            prop_assert_eq!(read.len(), 2);
            let found: Vec<(u16, Vec<u8>)> = read[0].attributes().map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(found, kinds);
        }
    }
}

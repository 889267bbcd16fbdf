//! Messages between the poll loop and the log writer, one per packet of a SOCK_SEQPACKET pair.
//!
//! ```text
//! to the writer   kind (1 byte)  log (4)  ticket (4)  time (8)  payload: a path, or output
//! from it         ticket (4)  error text, empty where it went well
//! ```
//!
//! Both ends are the same program, so numbers are in the machine's own byte order and a broken packet is dropped.

use crate::cri_log::Stream;

const HEADER: usize = 17;

/// Longest answer of the writer, in bytes.
pub(crate) const MAX_ANSWER: usize = 1024;

/// What the writer is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Open { ticket: u32, path: &'a [u8] },
    Reopen { ticket: u32 },
    Close { ticket: u32, at: i64 },
    Output { stream: Stream, at: i64, data: &'a [u8] },
}

pub(crate) fn encode(log: u32, message: &Message<'_>) -> Vec<u8> {
    let (kind, ticket, at, payload): (u8, u32, i64, &[u8]) = match *message {
        Message::Open { ticket, path } => (0, ticket, 0, path),
        Message::Output { stream: Stream::Stdout, at, data } => (1, 0, at, data),
        Message::Output { stream: Stream::Stderr, at, data } => (2, 0, at, data),
        Message::Reopen { ticket } => (3, ticket, 0, &[]),
        Message::Close { ticket, at } => (4, ticket, at, &[]),
    };
    let mut packet = Vec::with_capacity(HEADER + payload.len());
    packet.push(kind);
    packet.extend_from_slice(&log.to_ne_bytes());
    packet.extend_from_slice(&ticket.to_ne_bytes());
    packet.extend_from_slice(&at.to_ne_bytes());
    packet.extend_from_slice(payload);
    packet
}

pub(crate) fn decode(packet: &[u8]) -> Option<(u32, Message<'_>)> {
    let (kind, rest) = packet.split_first()?;
    let (log, rest) = rest.split_first_chunk()?;
    let (ticket, rest) = rest.split_first_chunk()?;
    let (at, payload) = rest.split_first_chunk()?;
    let (ticket, at) = (u32::from_ne_bytes(*ticket), i64::from_ne_bytes(*at));
    let message = match kind {
        0 => Message::Open { ticket, path: payload },
        1 => Message::Output { stream: Stream::Stdout, at, data: payload },
        2 => Message::Output { stream: Stream::Stderr, at, data: payload },
        3 => Message::Reopen { ticket },
        4 => Message::Close { ticket, at },
        _ => return None,
    };
    Some((u32::from_ne_bytes(*log), message))
}

pub(crate) fn encode_answer(ticket: u32, error: &str) -> Vec<u8> {
    let mut packet = ticket.to_ne_bytes().to_vec();
    packet.extend(error.bytes().take(MAX_ANSWER - packet.len()));
    packet
}

pub(crate) fn decode_answer(packet: &[u8]) -> Option<(u32, Result<(), String>)> {
    let (ticket, error) = packet.split_first_chunk()?;
    let result = if error.is_empty() { Ok(()) } else { Err(String::from_utf8_lossy(error).into_owned()) };
    Some((u32::from_ne_bytes(*ticket), result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_comes_back() {
        let messages = [
            Message::Open { ticket: 7, path: b"/var/log/pods/x/0.log" },
            Message::Output { stream: Stream::Stdout, at: -5, data: b"out" },
            Message::Output { stream: Stream::Stderr, at: i64::MAX, data: b"" },
            Message::Reopen { ticket: u32::MAX },
            Message::Close { ticket: 1, at: 9 },
        ];
        for message in messages {
            assert_eq!(decode(&encode(3, &message)), Some((3, message)));
        }
        assert_eq!(decode(b"\x01short"), None);
        assert_eq!(decode_answer(&encode_answer(4, "no space")), Some((4, Err("no space".into()))));
        assert_eq!(decode_answer(&encode_answer(4, "")), Some((4, Ok(()))));
    }
}

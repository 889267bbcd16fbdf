//! Frames as data: parsing of whole control frames, encoding of what a server sends.

use super::header_block::{Deflater, Headers, Inflater};
use bytes::Bytes;
use std::io::{self, ErrorKind};

pub(in super::super) const HEADER: usize = 8;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const WINDOW_UPDATE: u16 = 9;

/// What a peer has sent.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Frame {
    /// A new stream.
    Open { stream: u32, headers: Headers, fin: bool },
    /// A piece of a stream; `fin` with its last one.
    Data { stream: u32, data: Bytes, fin: bool },
    /// The peer gives a stream up.
    Reset { stream: u32 },
    /// To be sent back.
    Ping { id: u32 },
    /// No more streams will be opened.
    GoAway,
    /// The peer knows of flow control.
    Windows,
    /// Nothing that concerns a server.
    Other,
}

/// The first eight bytes of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameHeader {
    first: u32,
    pub(super) fin: bool,
    pub(super) length: usize,
}

impl FrameHeader {
    pub(super) fn parse(bytes: [u8; HEADER]) -> Self {
        let [a, b, c, d, flags, x, y, z] = bytes;
        Self {
            first: u32::from_be_bytes([a, b, c, d]),
            fin: flags & FLAG_FIN != 0,
            length: u32::from_be_bytes([0, x, y, z]) as usize,
        }
    }

    /// The stream of a data frame; `None` for a control frame.
    pub(super) fn data_stream(self) -> Option<u32> {
        (self.first >> 31 == 0).then_some(self.first)
    }

    fn version(self) -> u16 {
        (self.first >> 16) as u16 & 0x7fff
    }

    fn kind(self) -> u16 {
        self.first as u16
    }
}

/// Parses a whole control frame.
pub(super) fn parse_control(
    header: FrameHeader,
    payload: &[u8],
    inflater: &mut Inflater,
) -> io::Result<Frame> {
    if header.version() != VERSION {
        return Err(invalid(format!("SPDY version {} is not supported", header.version())));
    }
    let number = |at: usize| {
        let bytes = payload.get(at..).and_then(|rest| rest.first_chunk());
        bytes
            .map(|bytes| u32::from_be_bytes(*bytes))
            .ok_or_else(|| invalid("SPDY frame is too short".to_owned()))
    };
    let stream = || Ok::<_, io::Error>(number(0)? & 0x7fff_ffff);
    Ok(match header.kind() {
        // After the stream's own number: the associated stream (4 bytes), priority and slot (2).
        SYN_STREAM => {
            let headers = inflater.headers(payload.get(10..).unwrap_or_default())?;
            Frame::Open { stream: stream()?, headers, fin: header.fin }
        }
        // Its block must go through the decompressor even though nobody reads it: the next one depends on it.
        SYN_REPLY | 8 => {
            inflater.headers(payload.get(4..).unwrap_or_default())?;
            Frame::Other
        }
        RST_STREAM => Frame::Reset { stream: stream()? },
        PING => Frame::Ping { id: number(0)? },
        GOAWAY => Frame::GoAway,
        SETTINGS | WINDOW_UPDATE => Frame::Windows,
        _ => Frame::Other,
    })
}

pub(super) fn reply(stream: u32, deflater: &mut Deflater) -> io::Result<Vec<u8>> {
    let mut payload = stream.to_be_bytes().to_vec();
    payload.extend(deflater.no_headers()?);
    Ok(control(SYN_REPLY, &payload))
}

pub(super) fn reset(stream: u32, status: u32) -> Vec<u8> {
    control(RST_STREAM, &[stream.to_be_bytes(), status.to_be_bytes()].concat())
}

pub(super) fn ping(id: u32) -> Vec<u8> {
    control(PING, &id.to_be_bytes())
}

/// The last stream that was taken, and status 0: all is well.
pub(super) fn go_away(last_stream: u32) -> Vec<u8> {
    control(GOAWAY, &[last_stream.to_be_bytes(), [0; 4]].concat())
}

pub(super) fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    control(WINDOW_UPDATE, &[stream.to_be_bytes(), bytes.to_be_bytes()].concat())
}

/// The header of a data frame; `length` is below 2^24.
pub(super) fn data_header(stream: u32, length: usize, fin: bool) -> [u8; HEADER] {
    let ([a, b, c, d], [_, x, y, z]) = (stream.to_be_bytes(), (length as u32).to_be_bytes());
    [a, b, c, d, if fin { FLAG_FIN } else { 0 }, x, y, z]
}

fn control(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = (0x8000 | VERSION).to_be_bytes().to_vec();
    frame.extend(kind.to_be_bytes());
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame
}

pub(super) fn invalid(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

//! SPDY/3.1 framing, the server's half of what kubectl's streams need.
//!
//! SPDY died on the web, but kubectl up to 1.30 execs, attaches and forwards ports over it, and every kubectl forwards
//! ports over it still (inside a WebSocket). Frames, big endian:
//!
//! ```text
//! control  1 bit 1, 15 bits version, 16 bits type | 8 bits flags, 24 bits length | payload
//! data     1 bit 0, 31 bits stream                | 8 bits flags, 24 bits length | payload
//! ```
//!
//! Flow control: the common peer (Go's spdystream) neither sends WINDOW_UPDATE nor expects it, and would wait for ever
//! if we did what the draft says. So a peer is sent window updates only once it has shown that it knows of windows
//! (by SETTINGS or a WINDOW_UPDATE of its own), and what we send is bounded by TCP alone.

mod dictionary;
mod frame;
mod header_block;
mod reader;
mod writer;

pub(super) use frame::Frame;
pub(super) use header_block::Headers;
pub(super) use reader::Reader;
pub(super) use writer::{Command, Writer};

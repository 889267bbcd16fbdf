//! The frames of one direction of HTTP/2, as far as their headers must be found (RFC 9113, section 4): bytes come in any
//! pieces, the first part of each block of headers is held until it is whole, all else goes through at once.

use super::header_block;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length in three bytes, type, flags, stream.
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
/// What a server takes that has asked for nothing else; a longer frame it refuses, so none is held or made.
const LONGEST: usize = 16 << 10;

#[derive(Debug)]
enum Place {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// At a frame's head, or in headers.
    Head,
    /// So many bytes of a frame are still to come.
    Within(usize),
    /// It is not HTTP/2.
    Foreign,
}

/// Where the stream of bytes is.
#[derive(Debug)]
pub(super) struct Frames {
    place: Place,
    held: Vec<u8>,
}

impl Default for Frames {
    fn default() -> Self {
        Self { place: Place::Preface(0), held: Vec::new() }
    }
}

impl Frames {
    /// Whether the next `length` bytes are of no interest; then they count as passed.
    pub(super) fn skips(&mut self, length: usize) -> bool {
        match &mut self.place {
            Place::Within(left) if *left > length => *left -= length,
            Place::Foreign => {}
            _ => return false,
        }
        true
    }

    /// Takes what came, and adds to `out` what goes on.
    pub(super) fn pass(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            let taken = match self.place {
                Place::Preface(seen) => self.preface(seen, input, out),
                Place::Head => self.hold(input, out),
                Place::Within(left) => self.within(left, input, out),
                Place::Foreign => copy(input, out),
            };
            input = &input[taken..];
        }
    }

    fn preface(&mut self, seen: usize, input: &[u8], out: &mut Vec<u8>) -> usize {
        let length = input.len().min(PREFACE.len() - seen);
        let here = &input[..length];
        self.place = match seen + length {
            _ if here != &PREFACE[seen..seen + length] => Place::Foreign,
            all if all == PREFACE.len() => Place::Head,
            some => Place::Preface(some),
        };
        copy(here, out)
    }

    fn within(&mut self, left: usize, input: &[u8], out: &mut Vec<u8>) -> usize {
        let length = input.len().min(left);
        self.place = if length == left { Place::Head } else { Place::Within(left - length) };
        copy(&input[..length], out)
    }

    /// Bytes of a head and, of headers, of all that follows.
    fn hold(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let wanted = self.wanted();
        let length = input.len().min(wanted - self.held.len());
        self.held.extend(&input[..length]);
        // With the head the rest may have become wanted.
        if self.held.len() == wanted && self.wanted() == wanted {
            self.let_go(out);
        }
        length
    }

    fn wanted(&self) -> usize {
        match self.held.get(..HEAD) {
            Some(head) if head[3] == HEADERS && payload_length(head) <= LONGEST => {
                HEAD + payload_length(head)
            }
            _ => HEAD,
        }
    }

    fn let_go(&mut self, out: &mut Vec<u8>) {
        let frame = std::mem::take(&mut self.held);
        let left = HEAD + payload_length(&frame) - frame.len();
        self.place = if left == 0 { Place::Head } else { Place::Within(left) };
        match renamed(&frame) {
            Some(other) => copy(&other, out),
            None => copy(&frame, out),
        };
    }
}

fn copy(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    out.extend(bytes);
    bytes.len()
}

fn payload_length(head: &[u8]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// The frame with another authority, where it is a whole one of headers.
fn renamed(frame: &[u8]) -> Option<Vec<u8>> {
    let (head, payload) = frame.split_at(HEAD);
    if head[3] != HEADERS || payload.len() != payload_length(head) {
        return None;
    }
    let (padded, dependent) = (head[4] & PADDED != 0, head[4] & PRIORITY != 0);
    let begin = usize::from(padded) + if dependent { 5 } else { 0 };
    let padding = if padded { usize::from(*payload.first()?) } else { 0 };
    let end = payload.len().checked_sub(padding)?;
    let block = header_block::renamed(payload.get(begin..end)?);
    let payload = [&payload[..begin], &block, &payload[end..]].concat();
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= LONGEST)?;
    Some([&length.to_be_bytes()[1..], &head[3..], &payload].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(frame: &[u8]) -> Vec<u8> {
        let (mut frames, mut out) = (Frames::default(), Vec::new());
        frames.pass(&[PREFACE, frame].concat(), &mut out);
        out.split_off(PREFACE.len())
    }

    #[test]
    fn padding_and_priority_stay() {
        let frame = b"\0\0\x0d\x01\x2c\0\0\0\x01\x02\0\0\0\0\x10\x83\x41\x02/a\0\0\x88";
        let expected = b"\0\0\x0d\x01\x2c\0\0\0\x01\x02\0\0\0\0\x10\x83\x41\x02xx\0\0\x88";
        // The last byte is the begin of the next frame's head, and is held.
        assert_eq!(passed(frame), expected[..expected.len() - 1]);
    }

    #[test]
    fn nonsense_passes_as_it_came() {
        for frame in [
            &b"\0\0\x01\x01\x08\0\0\0\x01\xff"[..],
            b"\0\0\0\x01\x28\0\0\0\x01",
            b"\0\0\x02\x01\0\0\0\0\x01\x41\x7f",
            b"\0\0\x03\x00\0\0\0\0\x01\x41\x01/",
        ] {
            assert_eq!(passed(frame), frame);
        }
    }

    #[test]
    fn a_frame_too_long_is_not_held() {
        let mut frame = b"\x01\0\0\x01\0\0\0\0\x01".to_vec();
        frame.extend([0x41, 1, b'/']);
        assert_eq!(passed(&frame), frame);
    }
}

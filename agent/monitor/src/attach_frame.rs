//! The frames of an attach connection, both ways: a byte for the kind, the length (four bytes, big endian), data.
//!
//! To the monitor go `Stdin` (empty: this client has no more input) and `Resize`; from it come `Stdout` and `Stderr`.

/// Longest data of one frame, in bytes; a longer one is a broken peer.
pub const MAX_DATA: usize = 64 << 10;

const HEADER: usize = 5;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Input for the container.
    Stdin = 0,
    /// Output of the container; with a terminal, all of it.
    Stdout = 1,
    /// Error output of the container.
    Stderr = 2,
    /// Terminal size: columns, rows (two bytes each, big endian).
    Resize = 4,
}

/// Appends one frame.
pub fn encode(kind: Kind, data: &[u8], out: &mut impl Extend<u8>) {
    out.extend([kind as u8]);
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(data.iter().copied());
}

/// The data of a resize frame.
pub fn encode_size(columns: u16, rows: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (columns.to_be_bytes(), rows.to_be_bytes());
    [a, b, c, d]
}

/// Columns and rows of a resize frame.
pub fn decode_size(data: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *data else { return None };
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Bytes that have come, cut into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Takes bytes from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame; an error on a kind or length that no peer of ours sends.
    pub fn next_frame(&mut self) -> Result<Option<(Kind, Vec<u8>)>, &'static str> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, a, b, c, d] = *header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let kind = match kind {
            0 => Kind::Stdin,
            1 => Kind::Stdout,
            2 => Kind::Stderr,
            4 => Kind::Resize,
            _ => return Err("unknown kind of attach frame"),
        };
        if length > MAX_DATA {
            return Err("attach frame too long");
        }
        let Some(data) = rest.get(..length) else { return Ok(None) };
        let frame = (kind, data.to_vec());
        self.bytes.drain(..HEADER + length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut bytes = Vec::new();
        encode(Kind::Stdout, b"hello", &mut bytes);
        encode(Kind::Stdin, b"", &mut bytes);
        encode(Kind::Resize, &encode_size(101, 33), &mut bytes);
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for byte in bytes {
            decoder.push(&[byte]);
            frames.extend(decoder.next_frame().unwrap());
        }
        assert_eq!(frames[0], (Kind::Stdout, b"hello".to_vec()));
        assert_eq!(frames[1], (Kind::Stdin, Vec::new()));
        assert_eq!(decode_size(&frames[2].1), Some((101, 33)));
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [[9, 0, 0, 0, 0], [1, 255, 255, 255, 255]] {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            assert!(decoder.next_frame().is_err());
        }
    }
}

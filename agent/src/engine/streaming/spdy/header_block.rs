//! Header blocks: names and values with their lengths, compressed by one zlib stream per direction for the whole life
//! of the connection, primed with the standard dictionary.

use super::dictionary::{CHECKSUM, dictionary};
use super::frame::invalid;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::io;

/// Longest header block, in bytes after decompression; ours are a few hundred.
const MAX_BLOCK: usize = 64 << 10;

/// The head of a zlib stream with a preset dictionary: two bytes, then the dictionary's checksum.
const ZLIB_HEAD: usize = 6;

/// Names (lower case) and values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of a header, by its lower-case name.
    pub(in super::super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn parse(block: &[u8]) -> Option<Self> {
        let (count, mut rest) = block.split_first_chunk()?;
        let mut headers = Vec::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let name = take_text(&mut rest)?.to_ascii_lowercase();
            headers.push((name, take_text(&mut rest)?));
        }
        Some(Self(headers))
    }
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let (length, after) = rest.split_first_chunk()?;
    let (text, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The peer's blocks, in the order they came.
pub(in super::super) struct Inflater {
    stream: Decompress,
    primed: bool,
}

impl Inflater {
    pub(in super::super) fn new() -> Self {
        // The zlib head is read here, because only a raw stream takes its dictionary at a known moment.
        Self { stream: Decompress::new(false), primed: false }
    }

    /// Decompresses and parses one block.
    pub(super) fn headers(&mut self, block: &[u8]) -> io::Result<Headers> {
        let block = if self.primed { block } else { self.prime(block)? };
        let plain = self.inflate(block)?;
        Headers::parse(&plain).ok_or_else(|| invalid("SPDY header block is broken".to_owned()))
    }

    fn prime<'a>(&mut self, block: &'a [u8]) -> io::Result<&'a [u8]> {
        let (head, rest) = block
            .split_at_checked(ZLIB_HEAD)
            .ok_or_else(|| invalid("SPDY header block is too short".to_owned()))?;
        if head.get(2..) != Some(CHECKSUM.to_be_bytes().as_slice()) {
            return Err(invalid("SPDY header block names another dictionary".to_owned()));
        }
        self.stream.set_dictionary(&dictionary()).map_err(io::Error::other)?;
        self.primed = true;
        Ok(rest)
    }

    fn inflate(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(1024);
        let start = self.stream.total_in();
        loop {
            let taken = usize::try_from(self.stream.total_in() - start).unwrap_or(usize::MAX);
            let rest = block.get(taken..).unwrap_or_default();
            let before = plain.len();
            self.stream
                .decompress_vec(rest, &mut plain, FlushDecompress::Sync)
                .map_err(|e| invalid(e.to_string()))?;
            if plain.len() < plain.capacity() || plain.len() == before {
                return Ok(plain);
            }
            if plain.len() > MAX_BLOCK {
                return Err(invalid("SPDY header block is too long".to_owned()));
            }
            plain.reserve(plain.len());
        }
    }
}

/// Our blocks; a server of streams has nothing to say in them, but they must be there.
pub(in super::super) struct Deflater {
    stream: Compress,
}

impl Deflater {
    pub(in super::super) fn new() -> io::Result<Self> {
        let mut stream = Compress::new(Compression::fast(), true);
        stream.set_dictionary(&dictionary()).map_err(io::Error::other)?;
        Ok(Self { stream })
    }

    /// A block without headers.
    pub(super) fn no_headers(&mut self) -> io::Result<Vec<u8>> {
        self.deflate(&0_u32.to_be_bytes())
    }

    fn deflate(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut block = Vec::with_capacity(plain.len() + 128);
        self.stream.compress_vec(plain, &mut block, FlushCompress::Sync).map_err(io::Error::other)?;
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend((text.len() as u32).to_be_bytes());
            plain.extend(text.as_bytes());
        }
        plain
    }

    #[test]
    fn blocks_share_one_compression_state() {
        let (mut deflater, mut inflater) = (Deflater::new().unwrap(), Inflater::new());
        for number in 0..50 {
            let port = (8000 + number).to_string();
            let plain = block(&[("Streamtype", "data"), ("port", &port)]);
            let headers = inflater.headers(&deflater.deflate(&plain).unwrap()).unwrap();
            assert_eq!((headers.get("streamtype"), headers.get("port")), (Some("data"), Some(port.as_str())));
        }
        assert_eq!(inflater.headers(&deflater.no_headers().unwrap()).unwrap(), Headers::default());
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut deflater = Deflater::new().unwrap();
        let bomb = deflater.deflate(&vec![0; 10 << 20]).unwrap();
        assert!(Inflater::new().headers(&bomb).is_err());
        for nonsense in [&b""[..], b"\x78\xbb\0\0\0\0\0", &[0xff; 40]] {
            assert!(Inflater::new().headers(nonsense).is_err());
        }
    }
}

//! Undoes a layer's compression, recognised by its first bytes: media types are often wrong.
//!
//! gzip may have many members (estargz, bgzip) and zstd many frames, some of them skippable (zstd:chunked): both
//! are read to the very end, since stopping early would hide data from the digest check.

use crate::error::{Error, ErrorKind, Result};
use bzip2::bufread::MultiBzDecoder;
use lzma_rust2::XzReader;
use std::io::{BufRead, BufReader, Read};

/// Compressed input is handed to the decoder in pieces of this size.
const INPUT: usize = 128 << 10;
/// A zstd frame that wants a larger window than 2^27 bytes is refused.
const ZSTD_WINDOW_LOG: u32 = 27;
/// As much memory as `xz -9` needs to unpack, and no more.
const XZ_MEMORY_KIB: u32 = 80 << 10;

/// How a blob is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// By magic number.
pub(crate) fn detect(start: &[u8]) -> Result<Compression> {
    match start {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [b'B', b'Z', b'h', ..] => Err(unsupported("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(unsupported("xz")),
        _ => Ok(Compression::Plain),
    }
}

fn unsupported(name: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("layer: {name} compression is not supported"))
}

/// A reader of the uncompressed stream.
pub(crate) fn decompress<'a, R: Read + 'a>(input: R) -> Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(INPUT, input);
    let start = input.fill_buf().map_err(|e| Error::io("read layer", e))?;
    match detect(start)? {
        Compression::Plain => Ok(Box::new(input)),
        Compression::Gzip => Ok(Box::new(Decoding(flate2::bufread::MultiGzDecoder::new(input)))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)
                .map_err(|e| Error::io("open zstd stream", e))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|e| Error::io("limit zstd window", e))?;
            Ok(Box::new(Decoding(decoder)))
        }
    }
}

/// The same for archives that people make, which may also be packed by xz or bzip2; layers never are.
pub(crate) fn decompress_archive<'a, R: Read + 'a>(input: R) -> Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(INPUT, input);
    match input.fill_buf().map_err(|e| Error::io("read archive", e))? {
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Ok(Box::new(Decoding(MultiBzDecoder::new(input)))),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Ok(Box::new(Decoding(XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB))))
        }
        _ => decompress(input),
    }
}

/// What a decoder does not understand is the layer's fault and not the machine's.
struct Decoding<R>(R);

impl<R: Read> Read for Decoding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let of_the_input = error.raw_os_error().is_some()
                || error.kind() == std::io::ErrorKind::Interrupted
                || error.get_ref().is_some_and(|inner| inner.is::<Error>());
            match of_the_input {
                true => error,
                false => Error::invalid(format!("layer: corrupt compressed data: {error}")).into(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(data: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(data).unwrap().read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_member_and_frame_is_read() {
        let members = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(unpacked(&members).unwrap(), b"one two");
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let frame = |data: &[u8]| zstd::encode_all(data, 1).unwrap();
        let frames = [skippable.clone(), frame(b"one "), skippable, frame(b"two")].concat();
        assert_eq!(unpacked(&frames).unwrap(), b"one two");
        assert_eq!(unpacked(b"plain").unwrap(), b"plain");
        assert_eq!(unpacked(b"").unwrap(), b"");
    }

    /// `xz` and `bzip2` of "one", then of "two".
    const XZ: &[u8] = include_bytes!("compression/two.xz");
    const BZIP2: &[u8] = include_bytes!("compression/two.bz2");

    #[test]
    fn archives_may_be_packed_as_people_do() {
        for packed in [XZ, BZIP2, &gzip(b"onetwo"), b"onetwo"] {
            let mut out = Vec::new();
            decompress_archive(packed).unwrap().read_to_end(&mut out).unwrap();
            assert_eq!(out, b"onetwo");
        }
        for broken in [&XZ[..XZ.len() - 3], &BZIP2[..BZIP2.len() - 3], b"BZh9 is no archive"] {
            let error = decompress_archive(broken).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains("corrupt compressed data"), "{error}");
        }
    }

    #[test]
    fn truncation_and_garbage_are_errors() {
        let whole = gzip(&[7; 4096]);
        for cut in [3, 12, whole.len() / 2, whole.len() - 1] {
            assert!(unpacked(&whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(unpacked(&[&whole[..], b"garbage"].concat()).is_err());
        let frame = zstd::encode_all(&[7u8; 4096][..], 1).unwrap();
        assert!(unpacked(&frame[..frame.len() - 2]).is_err());
        assert_eq!(decompress(&b"BZh91AY"[..]).err().unwrap().kind(), ErrorKind::Unsupported);
    }
}

//! Content addresses: `sha256:` and 64 hexadecimal digits, checked before they are ever used as a file name.

use crate::error::{Error, ErrorKind, Result};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// The address of a blob. Only sha256 is accepted, so the text after the colon is always a safe file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

const PREFIX: &str = "sha256:";

impl Digest {
    /// Parses `sha256:HEX`.
    pub fn parse(text: &str) -> Result<Self> {
        let Some(hex) = text.strip_prefix(PREFIX) else {
            return Err(match text.split_once(':') {
                Some(("sha384" | "sha512", _)) => {
                    Error::new(ErrorKind::Unsupported, format!("digest {text:?}: only sha256 is supported"))
                }
                _ => Error::invalid(format!("invalid digest {text:?}")),
            });
        };
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() == 64 && hex.bytes().all(lower_hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("invalid digest {text:?}: expected 64 lower-case hexadecimal digits")))
        }
    }

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// `sha256:HEX`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part that names the file.
    pub fn hex(&self) -> &str {
        self.0.get(PREFIX.len()..).unwrap_or_default()
    }

    /// Fails unless the content turned out to be what was promised.
    pub(crate) fn verify(&self, actual: &Self, what: &str) -> Result<()> {
        if self == actual {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Mismatch, format!("{what}: digest is {actual}, expected {self}")))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

/// Computes a digest piece by piece. By ring, whose assembler is twice as fast as sha2 where the processor has no SHA
/// instructions, and equal where it has: hashing is most of a pull's work on such machines.
#[derive(Clone)]
pub(crate) struct Hasher(Context);

impl std::fmt::Debug for Hasher {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Hasher")
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(PREFIX.len() + 64);
        text.push_str(PREFIX);
        for byte in self.0.finish().as_ref() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Digest(text)
    }
}

/// Passes bytes through and remembers their digest and number: every stream is hashed where it flows, never re-read.
#[derive(Debug)]
pub(crate) struct Hashing<T> {
    pub(crate) inner: T,
    hasher: Hasher,
    bytes: u64,
}

impl<T> Hashing<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, hasher: Hasher::default(), bytes: 0 }
    }

    pub(crate) fn finish(self) -> (Digest, u64, T) {
        (self.hasher.finish(), self.bytes, self.inner)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// The chain id of each layer: the address of a layer together with everything beneath it (image spec, "Layer
/// ChainID"). Two images share an unpacked layer exactly where these are equal.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        assert_eq!(Digest::parse(empty).unwrap().hex().len(), 64);
    }

    #[test]
    fn what_is_not_a_digest() {
        let upper = format!("sha256:{}", "A".repeat(64));
        let path = format!("sha256:../{}", "a".repeat(61));
        for bad in ["", "sha256:", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", &upper, &path] {
            assert_eq!(Digest::parse(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
        let long = format!("sha512:{}", "a".repeat(128));
        assert_eq!(Digest::parse(&long).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn chain_of_one_is_its_diff_id() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let chain = chain_ids(&[one.clone(), two.clone()]);
        assert_eq!(chain[0], one);
        assert_eq!(chain[1], Digest::of(format!("{one} {two}").as_bytes()));
    }
}

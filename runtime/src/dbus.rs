//! D-Bus messages, as far as we need them: writing calls, reading answers. Little endian, protocol version 1.
//!
//! Bytes only: who speaks with whom, and how, is of those who do (here with systemd, in the node agent with logind).

use std::fmt;

/// What came is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed D-Bus message")
    }
}

impl std::error::Error for Malformed {}

type Result<T> = std::result::Result<T, Malformed>;

/// Where the bus itself answers.
pub const DAEMON: Target = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// The arguments of a call. Every value is aligned to its size, counted from the beginning.
#[derive(Debug, Clone, Default)]
pub struct Body {
    signature: String,
    bytes: Vec<u8>,
}

impl Body {
    /// Nothing yet; `signature` says of what types the values will be.
    pub fn new(signature: &str) -> Self {
        Body { signature: signature.into(), bytes: Vec::new() }
    }

    /// Fills up to a multiple.
    pub fn align(&mut self, to: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
        self
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// `u`
    pub fn word(&mut self, value: u32) -> &mut Self {
        self.align(4).raw(&value.to_le_bytes())
    }

    /// `t`
    pub fn number(&mut self, value: u64) -> &mut Self {
        self.align(8).raw(&value.to_le_bytes())
    }

    /// `b`
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.word(value.into())
    }

    /// `s` or `o`
    pub fn string(&mut self, text: &str) -> &mut Self {
        self.word(text.len() as u32).raw(text.as_bytes()).raw(&[0])
    }

    fn signature(&mut self, text: &str) -> &mut Self {
        self.raw(&[text.len() as u8]).raw(text.as_bytes()).raw(&[0])
    }

    /// What follows is a value of this type.
    pub fn variant(&mut self, signature: &str) -> &mut Self {
        self.signature(signature)
    }

    /// Its length counts from the first element, which may be padded.
    pub fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Body)) -> &mut Self {
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

    /// One without elements.
    pub fn empty_array(&mut self, alignment: usize) -> &mut Self {
        self.array(alignment, |_| {})
    }
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// A name on the bus.
    pub destination: &'static str,
    /// One of its objects.
    pub path: &'static str,
    /// What the method belongs to.
    pub interface: &'static str,
}

/// A method call, ready to be sent.
pub fn call(target: &Target, member: &str, serial: u32, body: &Body) -> Vec<u8> {
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
pub enum Sort {
    /// The answer to a call.
    Return,
    /// Its refusal.
    Error,
    /// What somebody tells all.
    Signal,
    /// Calls, and what is not known.
    Other,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Of which kind it is.
    pub sort: Sort,
    /// The number of the call that it answers.
    pub reply_to: u32,
    /// Of a signal.
    pub member: String,
    /// Of an error.
    pub error: String,
    body: Vec<u8>,
}

/// Longer messages are not for us.
const MAX: usize = 1 << 20;

/// How many bytes the message has that begins with these 16.
///
/// # Errors
/// They are not the beginning of one, or it is too long.
pub fn length(head: &[u8; 16]) -> Result<usize> {
    let mut reader = Reader { bytes: head, at: 4 };
    let (body, _, fields) = (reader.word()?, reader.word()?, reader.word()?);
    let total = (16 + fields as usize).next_multiple_of(8).saturating_add(body as usize);
    if head.first() != Some(&b'l') || total > MAX { Err(Malformed) } else { Ok(total) }
}

/// Reads a whole message.
///
/// # Errors
/// It is none.
pub fn parse(bytes: &[u8]) -> Result<Incoming> {
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
            _ => return Err(Malformed),
        }
    }
    incoming.body = bytes.get(end.next_multiple_of(8)..).unwrap_or_default().to_vec();
    Ok(incoming)
}

impl Incoming {
    /// Its arguments, from the first on.
    pub fn arguments(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }

    /// The first argument, a string or an object's path.
    ///
    /// # Errors
    /// There is none.
    pub fn first_string(&self) -> Result<String> {
        self.arguments().string()
    }
}

/// Reads values one after the other. Each error says that there is no such value.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Goes on at a multiple: a structure begins at one of eight.
    pub fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(length).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|bytes| bytes.first().copied().unwrap_or_default())
    }

    /// `u`, or `b` as a number.
    ///
    /// # Errors
    /// The arguments end before it.
    pub fn word(&mut self) -> Result<u32> {
        self.align(4);
        self.take(4).map(|bytes| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default())
    }

    /// `t`
    ///
    /// # Errors
    /// The arguments end before it.
    pub fn number(&mut self) -> Result<u64> {
        self.align(8);
        self.take(8).map(|bytes| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default())
    }

    fn text(&mut self, length: usize) -> Result<String> {
        let text = self.take(length).map(|bytes| String::from_utf8_lossy(bytes).into_owned())?;
        self.take(1)?;
        Ok(text)
    }

    /// `s` or `o`
    ///
    /// # Errors
    /// The arguments end before it.
    pub fn string(&mut self) -> Result<String> {
        let length = self.word()? as usize;
        self.text(length)
    }

    /// `g`, and what stands before the value of a variant.
    ///
    /// # Errors
    /// The arguments end before it.
    pub fn signature(&mut self) -> Result<String> {
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
        let mut arguments = incoming.arguments();
        assert_eq!((arguments.word(), arguments.string()), (Ok(4), Ok("/job/1".into())));
        assert_eq!((arguments.string(), arguments.string()), (Ok("x.scope".into()), Ok("done".into())));
        assert_eq!(arguments.string(), Err(Malformed));
    }

    proptest::proptest! {
        #[test]
        fn nonsense_never_panics(bytes in proptest::collection::vec(0_u8.., 0..200)) {
            if let Ok(incoming) = parse(&bytes) {
                let mut arguments = incoming.arguments();
                let _ = (arguments.signature(), arguments.number(), arguments.word(), arguments.string());
            }
        }
    }
}

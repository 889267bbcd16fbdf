//! Messages of criu's RPC, as far as they are used: protocol buffers written and read by hand.
//!
//! A field is a key (number and wire type) and a value; what is not known is skipped, so newer workers are understood.

use crate::error::{Error, Kind, Result};

/// What is asked, or answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
}

const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// A message in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(crate) fn number(&mut self, field: u64, value: u64) -> &mut Self {
        self.varint(field << 3 | VARINT);
        self.varint(value);
        self
    }

    /// Only what is on: off is what is absent.
    pub(crate) fn switch(&mut self, field: u64, on: bool) -> &mut Self {
        if on { self.number(field, 1) } else { self }
    }

    pub(crate) fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.varint(field << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn text(&mut self, field: u64, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    pub(crate) fn message(&mut self, field: u64, value: &Fields) -> &mut Self {
        self.bytes(field, &value.0)
    }
}

/// A whole request.
pub(crate) fn request(sort: Sort, options: &Fields) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.number(1, sort as u64).message(2, options);
    fields.0
}

/// Asks whether this criu and this kernel can do something.
pub(crate) fn feature_request(memory_tracking: bool, lazy_pages: bool) -> Vec<u8> {
    let mut features = Fields::default();
    features.switch(1, memory_tracking).switch(2, lazy_pages);
    let mut fields = Fields::default();
    fields.number(1, Sort::FeatureCheck as u64).message(5, &features);
    fields.0
}

/// "Go on" to a notification.
pub(crate) fn acknowledgement() -> Vec<u8> {
    let mut fields = Fields::default();
    fields.number(1, Sort::Notify as u64).number(3, 1);
    fields.0
}

/// What the worker says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) sort: u64,
    pub(crate) success: bool,
    /// Of a restore, or of a notification: the process it is about.
    pub(crate) pid: i32,
    /// Of a notification: what is about to happen, or has happened.
    pub(crate) script: String,
    pub(crate) errno: i32,
    pub(crate) message: String,
    pub(crate) memory_tracking: bool,
    pub(crate) lazy_pages: bool,
}

/// Reads a whole response.
pub(crate) fn response(bytes: &[u8]) -> Result<Response> {
    let mut response = Response::default();
    read(bytes, |field, value| {
        match (field, value) {
            (1, Value::Number(sort)) => response.sort = sort,
            (2, Value::Number(success)) => response.success = success != 0,
            (4, Value::Bytes(restored)) => read(restored, |field, value| {
                if let (1, Value::Number(pid)) = (field, value) {
                    response.pid = pid as i32;
                }
                Ok(())
            })?,
            (5, Value::Bytes(notification)) => read(notification, |field, value| {
                match (field, value) {
                    (1, Value::Bytes(name)) => response.script = text(name),
                    (2, Value::Number(pid)) => response.pid = pid as i32,
                    _ => {}
                }
                Ok(())
            })?,
            (7, Value::Number(errno)) => response.errno = errno as i32,
            (8, Value::Bytes(features)) => read(features, |field, value| {
                match (field, value) {
                    (1, Value::Number(on)) => response.memory_tracking = on != 0,
                    (2, Value::Number(on)) => response.lazy_pages = on != 0,
                    _ => {}
                }
                Ok(())
            })?,
            (9, Value::Bytes(message)) => response.message = text(message),
            _ => {}
        }
        Ok(())
    })?;
    Ok(response)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A value of a field.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Hands out every field.
fn read<'a>(mut bytes: &'a [u8], mut take: impl FnMut(u64, Value<'a>) -> Result<()>) -> Result<()> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            VARINT => Value::Number(varint(&mut bytes)?),
            BYTES => {
                let length = varint(&mut bytes)?;
                Value::Bytes(split(&mut bytes, length)?)
            }
            1 => Value::Bytes(split(&mut bytes, 8)?),
            5 => Value::Bytes(split(&mut bytes, 4)?),
            _ => return Err(malformed()),
        };
        take(key >> 3, value)?;
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or_else(malformed)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed())
}

fn split<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let length = usize::try_from(length).map_err(|_| malformed())?;
    let (head, rest) = bytes.split_at_checked(length).ok_or_else(malformed)?;
    *bytes = rest;
    Ok(head)
}

fn malformed() -> Error {
    Error::new(Kind::Os, "malformed message from criu")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_and_nested_messages() {
        let mut options = Fields::default();
        options.number(1, 300).switch(3, true).switch(4, false).text(10, "x");
        // Key 8 is field 1 as a number; 300 is 0b10_0101100.
        assert_eq!(request(Sort::Dump, &options), [8, 1, 18, 8, 8, 0xac, 2, 24, 1, 82, 1, b'x']);
        assert_eq!(acknowledgement(), [8, 6, 24, 1]);
    }

    #[test]
    fn responses_are_read_and_unknown_fields_skipped() {
        let mut notification = Fields::default();
        notification.text(1, "post-restore").number(2, 77);
        let mut fields = Fields::default();
        fields.number(1, 6).number(2, 1).message(5, &notification).text(99, "new").number(7, 22);
        let read = response(&fields.0).unwrap();
        assert_eq!((read.sort, read.success, read.pid, read.errno), (6, true, 77, 22));
        assert_eq!(read.script, "post-restore");
        let mut restored = Fields::default();
        restored.number(1, 5);
        let mut fields = Fields::default();
        fields.number(1, 2).number(2, 1).message(4, &restored);
        assert_eq!(response(&fields.0).unwrap().pid, 5);
    }

    #[test]
    fn broken_responses_are_errors() {
        let endless = [[8].as_slice(), &[0xff; 10], &[1]].concat();
        for bytes in [[8].as_slice(), &[18, 5, 1], &endless, &[7]] {
            assert!(response(bytes).is_err(), "{bytes:?}");
        }
    }
}

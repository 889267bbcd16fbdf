//! Numbers in a tar header: octal text, or base 256 where they do not fit.

use crate::error::{Error, Result};

/// Reads one field. A blank one is zero, as every tar reads it.
pub(super) fn number(name: &str, field: &[u8]) -> Result<i64> {
    let bad = || Error::invalid(format!("layer: {name} is not a number"));
    match field.first() {
        Some(first) if first & 0x80 != 0 => base_256(field).ok_or_else(bad),
        _ => {
            let text: &[u8] = field.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
            if text.is_empty() {
                return Ok(0);
            }
            let octal = text.iter().all(|byte| (b'0'..=b'7').contains(byte));
            let text = std::str::from_utf8(text).ok().filter(|_| octal).ok_or_else(bad)?;
            i64::from_str_radix(text, 8).map_err(|_| bad())
        }
    }
}

/// The same where a negative one makes no sense.
pub(super) fn unsigned(name: &str, field: &[u8]) -> Result<u64> {
    let value = number(name, field)?;
    u64::try_from(value).map_err(|_| Error::invalid(format!("layer: {name} is negative")))
}

/// Two's complement, whose topmost bit only says that it is one.
fn base_256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    let negative = first & 0x40 != 0;
    let top = i64::from(first & 0x3f) - if negative { 0x40 } else { 0 };
    rest.iter().try_fold(top, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling() {
        assert_eq!(number("n", b"0000644\0").unwrap(), 0o644);
        assert_eq!(number("n", b"   644 \0").unwrap(), 0o644);
        assert_eq!(number("n", b"\0\0\0\0").unwrap(), 0);
        assert_eq!(number("n", b"77777777").unwrap(), 0o77_777_777);
        assert_eq!(number("n", &[0x80, 0, 0, 1, 0]).unwrap(), 256);
        assert_eq!(number("n", &[0xff; 12]).unwrap(), -1);
        assert!(unsigned("n", &[0xff; 12]).is_err());
        for bad in [&b"8"[..], b"-1", b"0x1", b"1 1", &[0xbf; 12]] {
            assert!(number("n", bad).is_err(), "{bad:?}");
        }
    }
}

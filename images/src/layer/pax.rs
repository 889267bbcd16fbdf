//! PAX extension records: `LENGTH KEY=VALUE\n`, with the values that override a header's own.
//!
//! Readers that disagree about a record's size see different archives (GHSA-3cv2-h65g-fgmm), so a record is either
//! exactly well formed or an error.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// What the records before one entry (or, for global ones, before all later entries) say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: Option<(i64, u32)>,
    /// Extended attributes by full name.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// GNU.sparse.* of all three PAX formats.
    pub(crate) sparse: Sparse,
}

/// The GNU sparse keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    pub(crate) major: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    /// Size of the file with its holes.
    pub(crate) real_size: Option<u64>,
    /// (offset, bytes) pairs of formats 0.0 and 0.1.
    pub(crate) map: Vec<(u64, u64)>,
    pending_offset: Option<u64>,
}

impl Sparse {
    /// Whether the entry is sparse at all.
    pub(crate) fn is_present(&self) -> bool {
        self.major.is_some() || self.real_size.is_some() || !self.map.is_empty()
    }
}

impl Pax {
    /// Adds the records of one extension header. Later ones win.
    pub(crate) fn extend(&mut self, data: &[u8]) -> Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            let (key, value, after) = record(rest)?;
            self.set(key, value)?;
            rest = after;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"path" => self.path = Some(no_nul(key, value)?),
            b"linkpath" => self.link = Some(no_nul(key, value)?),
            b"size" => self.size = Some(number(key, value)?),
            b"uid" => self.uid = Some(number(key, value)?),
            b"gid" => self.gid = Some(number(key, value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.").or(key.strip_prefix(b"RHT.security."))
                {
                    let name =
                        if key.starts_with(b"RHT") { [b"security.", name].concat() } else { name.to_vec() };
                    self.xattrs.insert(no_nul(key, &name)?, value.to_vec());
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.set_sparse(name, key, value)?;
                }
            }
        }
        Ok(())
    }

    fn set_sparse(&mut self, name: &[u8], key: &[u8], value: &[u8]) -> Result<()> {
        let sparse = &mut self.sparse;
        match name {
            b"major" => sparse.major = Some(number(key, value)?),
            b"name" => sparse.name = Some(no_nul(key, value)?),
            b"realsize" | b"size" => sparse.real_size = Some(number(key, value)?),
            b"offset" => sparse.pending_offset = Some(number(key, value)?),
            b"numbytes" => {
                let offset = sparse.pending_offset.take().ok_or_else(|| invalid(key, value))?;
                sparse.map.push((offset, number(key, value)?));
            }
            b"map" => {
                let numbers: Vec<u64> =
                    value.split(|byte| *byte == b',').map(|part| number(key, part)).collect::<Result<_>>()?;
                let (pairs, odd) = numbers.as_chunks::<2>();
                if !odd.is_empty() {
                    return Err(invalid(key, value));
                }
                sparse.map = pairs.iter().map(|[offset, bytes]| (*offset, *bytes)).collect();
            }
            _ => {}
        }
        Ok(())
    }
}

/// Splits off one record.
fn record(data: &[u8]) -> Result<(&[u8], &[u8], &[u8])> {
    let malformed = || Error::invalid("layer: malformed PAX record");
    let space = data.iter().take(20).position(|byte| *byte == b' ').ok_or_else(malformed)?;
    let (digits, _) = data.split_at(space);
    let length = usize::try_from(number(b"length", digits)?).map_err(|_| malformed())?;
    if length <= space + 1 || length > data.len() {
        return Err(malformed());
    }
    let (record, rest) = data.split_at(length);
    let body = record.get(space + 1..).and_then(|body| body.strip_suffix(b"\n")).ok_or_else(malformed)?;
    let equals = body.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or_else(malformed)?;
    let (key, value) = body.split_at(equals);
    Ok((key, value.get(1..).unwrap_or_default(), rest))
}

fn invalid(key: &[u8], value: &[u8]) -> Error {
    let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
    let value: String = value.chars().take(40).collect();
    Error::invalid(format!("layer: invalid PAX value {key}={value:?}"))
}

/// Digits only: no sign, no space.
pub(crate) fn number(key: &[u8], value: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| invalid(key, value))
}

fn no_nul(key: &[u8], value: &[u8]) -> Result<Vec<u8>> {
    if value.is_empty() || value.contains(&0) { Err(invalid(key, value)) } else { Ok(value.to_vec()) }
}

/// `[-]SECONDS[.FRACTION]`; digits beyond nanoseconds are dropped.
fn time(value: &[u8]) -> Result<(i64, u32)> {
    let bad = || invalid(b"mtime", value);
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = i64::try_from(number(b"mtime", whole.as_bytes())?).map_err(|_| bad())?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos = u32::try_from(number(b"mtime", digits.as_bytes())?).map_err(|_| bad())?;
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Pax> {
        let mut pax = Pax::default();
        pax.extend(text.as_bytes()).map(|()| pax)
    }

    /// A well-formed record: its length counts its own digits.
    fn record(body: &str) -> String {
        let length =
            (body.len()..).find(|length| length.to_string().len() + 2 + body.len() == *length).unwrap();
        format!("{length} {body}\n")
    }

    #[test]
    fn reads_records() {
        let text = record("path=a/b") + &record("size=1234") + &record("mtime=12.5000000");
        let pax = parse(&text).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(pax.size, Some(1234));
        assert_eq!(pax.mtime, Some((12, 500_000_000)));
        let pax = parse(&record("SCHILY.xattr.user.a=x=y\nz\0")).unwrap();
        assert_eq!(pax.xattrs[&b"user.a"[..]], b"x=y\nz\0");
        assert_eq!(parse(&record("mtime=-1.5")).unwrap().mtime, Some((-2, 500_000_000)));
        assert_eq!(parse(&record("GNU.sparse.map=0,1,5,2")).unwrap().sparse.map, [(0, 1), (5, 2)]);
    }

    #[test]
    fn refuses_malformed_records() {
        for bad in [
            "x",
            "5 a=b",
            "99 path=a\n",
            "3 \n",
            "7 path\n",
            "6 =ab\n",
            "12 path=a/b\n\0",
            "11 path=\0b\n",
            "14 size=0x1234",
            "12 size=-12\n",
            "9 uid=+1\n",
            "28446744073709551615 path=a\n",
            "21 GNU.sparse.map=1,\n",
            "25 GNU.sparse.numbytes=1\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pax::default().extend(&data);
        }
    }
}

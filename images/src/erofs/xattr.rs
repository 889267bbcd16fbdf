//! Extended attributes as EROFS keeps them: behind their inode, with the usual prefixes as numbers.

use crate::error::{Error, Result};
use crate::layer::directory::OPAQUE;

const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];
const HEADER: usize = 12;

/// The bytes that follow an inode; none without attributes. Names that no prefix fits are left out, as on any file
/// system that does not know them.
pub(super) fn encode<'a>(xattrs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER];
    for (name, value) in xattrs {
        let Some((index, rest)) =
            PREFIXES.iter().find_map(|(prefix, index)| Some((index, name.strip_prefix(*prefix)?)))
        else {
            continue;
        };
        let too_long = |_| Error::invalid(format!("setxattr {}: too long", String::from_utf8_lossy(name)));
        bytes.push(u8::try_from(rest.len()).map_err(too_long)?);
        bytes.push(*index);
        bytes.extend(u16::try_from(value.len()).map_err(too_long)?.to_le_bytes());
        bytes.extend(rest);
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if bytes.len() == HEADER { Ok(Vec::new()) } else { Ok(bytes) }
}

/// The count in the inode that stands for so many bytes.
pub(super) fn count(bytes: &[u8]) -> Result<u16> {
    match bytes.len().checked_sub(HEADER) {
        None => Ok(0),
        Some(entries) => u16::try_from(entries / 4 + 1)
            .map_err(|_| Error::invalid("too many extended attributes on one file")),
    }
}

/// Bytes of the area that such a count stands for.
pub(super) fn area(count: u16) -> u64 {
    u64::from(count).checked_sub(1).map_or(0, |entries| HEADER as u64 + entries * 4)
}

/// One attribute: its name and its value.
type Attribute = (Vec<u8>, Vec<u8>);

/// The attributes in an area, and whether the opaque mark is among them, which belongs to the layer and not to the
/// directory.
pub(super) fn decode(area: &[u8]) -> (Vec<Attribute>, bool) {
    let (mut found, mut opaque) = (Vec::new(), false);
    let mut rest = area.get(HEADER..).unwrap_or_default();
    while let [name_length, index, low, high, after @ ..] = rest {
        let (name_end, value) = (usize::from(*name_length), usize::from(u16::from_le_bytes([*low, *high])));
        let end = name_end + value;
        let (Some(name), Some(value)) = (after.get(..name_end), after.get(name_end..end)) else { break };
        let prefix = PREFIXES.iter().find(|(_, known)| known == index);
        if let Some((prefix, _)) = prefix {
            let name = [*prefix, name].concat();
            match name.starts_with(b"trusted.overlay.") {
                true => opaque |= name == OPAQUE.as_bytes() && value == b"y",
                false => found.push((name, value.to_vec())),
            }
        }
        rest = rest.get((4 + end).next_multiple_of(4)..).unwrap_or_default();
    }
    (found, opaque)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_counted() {
        let xattrs: [(&[u8], &[u8]); 2] = [(b"user.ab", b"c"), (b"unknown.x", b"y")];
        let bytes = encode(xattrs.into_iter()).unwrap();
        assert_eq!(bytes[HEADER..], [2, 1, 1, 0, b'a', b'b', b'c', 0]);
        assert_eq!(count(&bytes).unwrap(), 3);
        assert_eq!(count(&[]).unwrap(), 0);
        assert_eq!(area(3) as usize, bytes.len());
        assert_eq!(decode(&bytes), (vec![(b"user.ab".to_vec(), b"c".to_vec())], false));
    }
}

//! Extended attributes as EROFS keeps them: behind their inode, with the usual prefixes as numbers.

use crate::error::{Error, Result};

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

/// Setting a malformed file capability fails; here nobody sets it, so it has to be looked at.
pub(super) fn check_capability(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    for (_, value) in xattrs.iter().filter(|(name, _)| name == b"security.capability") {
        let revision = value.get(3).copied();
        if !matches!((revision, value.len()), (Some(1), 12) | (Some(2), 20) | (Some(3), 24)) {
            return Err(Error::invalid("setxattr security.capability: invalid argument"));
        }
    }
    Ok(())
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
    }
}

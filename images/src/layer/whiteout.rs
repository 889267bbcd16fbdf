//! Deletions, which a layer spells as file names (image spec, "Whiteouts").

use crate::error::{Error, Result};
use crate::layer::directory::is_whiteout_device;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const RESERVED: &[u8] = b".wh..wh.";

/// The name that hides a path.
pub(crate) fn of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_bytes();
    path.with_file_name(OsStr::from_bytes(&[PREFIX, name].concat()))
}

/// The name that hides what lies beneath a directory.
pub(crate) fn opaque_in(directory: &Path) -> PathBuf {
    directory.join(OsStr::from_bytes(OPAQUE))
}

/// What a file in an upper directory hides, if that is what it is there for: the kernel makes devices of 0:0 for that,
/// fuse-overlayfs where it may not make devices empty files with the names of archives.
pub(crate) fn hidden_by(path: &Path, meta: &Metadata) -> Option<Hidden> {
    if is_whiteout_device(meta) {
        return Some(Hidden::Path(path.to_owned()));
    }
    let name = path.file_name().unwrap_or_default().as_bytes();
    match classify(name) {
        _ if !meta.is_file() || meta.len() > 0 => None,
        Ok(Name::Whiteout(hidden)) => Some(Hidden::Path(path.with_file_name(OsStr::from_bytes(hidden)))),
        Ok(Name::Opaque) => Some(Hidden::Beneath),
        _ => None,
    }
}

/// See `hidden_by`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// This path of the layers beneath.
    Path(PathBuf),
    /// All they have in this directory.
    Beneath,
}

/// What a file name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// An ordinary file.
    Ordinary,
    /// Hides this name of the layers beneath.
    Whiteout(&'a [u8]),
    /// Hides everything that the layers beneath have in this directory.
    Opaque,
    /// Bookkeeping of aufs, which means nothing here.
    Ignored,
}

/// Reads a name. Whiteouts of nothing, of the directory itself and of its parent are refused: unpackers have
/// deleted whole trees on them.
pub(crate) fn classify(name: &[u8]) -> Result<Name<'_>> {
    let Some(hidden) = name.strip_prefix(PREFIX) else { return Ok(Name::Ordinary) };
    match hidden {
        _ if name == OPAQUE => Ok(Name::Opaque),
        b"" | b"." | b".." => {
            Err(Error::invalid(format!("invalid whiteout name {:?}", String::from_utf8_lossy(name))))
        }
        _ if name.starts_with(RESERVED) => Ok(Name::Ignored),
        _ => Ok(Name::Whiteout(hidden)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(classify(b"file").unwrap(), Name::Ordinary);
        assert_eq!(classify(b".whale").unwrap(), Name::Ordinary);
        assert_eq!(classify(b".wh.file").unwrap(), Name::Whiteout(b"file"));
        assert_eq!(classify(b".wh..hidden").unwrap(), Name::Whiteout(b".hidden"));
        assert_eq!(classify(b".wh..wh..opq").unwrap(), Name::Opaque);
        assert_eq!(classify(b".wh..wh.plnk").unwrap(), Name::Ignored);
        for bad in [&b".wh."[..], b".wh..", b".wh..."] {
            assert!(classify(bad).unwrap_err().to_string().starts_with("invalid whiteout name"));
        }
    }
}

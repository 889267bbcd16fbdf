//! Makes sense of an archive's entries: what kind of file, under which clean path, with which metadata.
//!
//! After this nothing hostile is left in an entry: paths are relative, without `.` or `..`; ids fit; xattrs that
//! overlay would obey are gone; what cannot be represented is an error that names the entry.

use crate::error::{Error, ErrorKind, Result};
use crate::layer::tar_reader::RawEntry;
use crate::layer::whiteout::{self, Name};

/// Device numbers as the kernel has them: twelve bits and twenty.
const MAX_MAJOR: u32 = 0xfff;
const MAX_MINOR: u32 = 0xf_ffff;

/// A clean path inside a layer: no leading slash, no `.`, no `..`, no empty parts. The root is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct TreePath(Vec<u8>);

impl TreePath {
    /// Cleans a path as if the layer's root were `/`: `..` above it stays at it.
    pub(crate) fn clean(path: &[u8]) -> Self {
        Self::default().join(path)
    }

    /// Where `path` leads from here: an absolute one starts at the root again.
    pub(crate) fn join(&self, path: &[u8]) -> Self {
        let mut parts: Vec<&[u8]> = if path.starts_with(b"/") { Vec::new() } else { self.parts().collect() };
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        Self(parts.join(&b'/'))
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// Parent and name; none for the root.
    pub(crate) fn split(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => {
                let (parent, name) = self.0.split_at(slash);
                Some((Self(parent.to_vec()), name.get(1..).unwrap_or_default()))
            }
            None => Some((Self::default(), &self.0)),
        }
    }

    /// The same path with another last part.
    fn sibling(&self, name: &[u8]) -> Self {
        self.split().map_or_else(Self::default, |(parent, _)| parent.join(name))
    }

    /// What the kernel would say about such a path.
    pub(crate) fn check_lengths(&self) -> Result<()> {
        if self.0.len() >= 4096 || self.parts().any(|part| part.len() > 255) {
            return Err(Error::new(ErrorKind::Io, "File name too long"));
        }
        Ok(())
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_within(&self, above: &Self) -> bool {
        above.is_root()
            || self.0.strip_prefix(&above.0[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// For system calls relative to the root.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        if self.0.is_empty() { b"." } else { &self.0 }
    }
}

impl std::fmt::Display for TreePath {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "/{}", String::from_utf8_lossy(&self.0))
    }
}

/// Owner, permissions, times and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Meta {
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What kind of file an entry makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    /// Bytes with holes, and where the stored ones belong.
    File {
        size: u64,
        sparse: Option<Vec<(u64, u64)>>,
    },
    Symlink(Vec<u8>),
    /// Another name for a file of the same layer.
    Hardlink(TreePath),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
    /// Hides the path in the layers beneath.
    Whiteout,
    /// The path is a directory that hides what it held in the layers beneath.
    Opaque,
}

/// One change that a layer makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: TreePath,
    pub(crate) meta: Meta,
    pub(crate) kind: Kind,
}

impl Entry {
    /// Bytes of its name, link target and attributes: about what is kept of it until the layer is complete.
    pub(crate) fn weight(&self) -> u64 {
        let target = match &self.kind {
            Kind::Symlink(target) => target.len(),
            _ => 0,
        };
        let xattrs: usize = self.meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        (self.path.0.len() + target + xattrs) as u64
    }

    /// Judges a raw entry. None where it means nothing for a container.
    pub(crate) fn judge(raw: RawEntry) -> Result<Option<Self>> {
        let named = |error: Error| error.context(format_args!("layer entry {}", printable(&raw.path)));
        if raw.path.contains(&0) || raw.link.contains(&0) {
            return Err(named(Error::invalid("name contains a zero byte")));
        }
        let path = TreePath::clean(&raw.path);
        let Some(kind) = kind_of(&raw, &path).map_err(named)? else { return Ok(None) };
        if path.is_root() && kind != Kind::Directory {
            return Err(named(Error::invalid("the root of a layer must be a directory")));
        }
        let meta = Meta {
            mode: raw.mode & 0o7777,
            uid: id(raw.uid, "uid").map_err(named)?,
            gid: id(raw.gid, "gid").map_err(named)?,
            mtime: raw.mtime,
            xattrs: raw.xattrs.iter().filter(|(name, _)| !is_hosts_own(name)).cloned().collect(),
        };
        check_capability(&meta.xattrs).map_err(named)?;
        let whiteout = path.split().map(|(_, name)| whiteout::classify(name)).transpose().map_err(named)?;
        let (path, kind) = match whiteout {
            None | Some(Name::Ordinary) => (path, kind),
            Some(Name::Ignored) => return Ok(None),
            Some(Name::Whiteout(hidden)) => (path.sibling(hidden), Kind::Whiteout),
            Some(Name::Opaque) => (path.split().map(|(parent, _)| parent).unwrap_or_default(), Kind::Opaque),
        };
        Ok(Some(Self { path, meta, kind }))
    }
}

fn kind_of(raw: &RawEntry, path: &TreePath) -> Result<Option<Kind>> {
    let (major, minor) = raw.device;
    Ok(Some(match raw.kind {
        // Archives older than POSIX mark a directory by a slash alone.
        b'0' | 0 if raw.path.ends_with(b"/") || path.is_root() => Kind::Directory,
        b'0' | 0 | b'7' | b'S' => Kind::File { size: raw.size, sparse: raw.sparse.clone() },
        b'1' if raw.link.split(|byte| *byte == b'/').any(|part| part == b"..") => {
            return Err(Error::invalid(format!("hard link to {} leaves the layer", printable(&raw.link))));
        }
        b'1' => Kind::Hardlink(TreePath::clean(&raw.link)),
        b'2' if raw.link.is_empty() => return Err(Error::invalid("symbolic link to nothing")),
        b'2' => Kind::Symlink(raw.link.clone()),
        // The kernel's own mark of a whiteout: smuggled in, it would hide files that the layer does not name.
        // What the kernel cannot express it cuts down, to 0:0 if the archive wants that.
        b'3' | b'4' if major > MAX_MAJOR || minor > MAX_MINOR => {
            return Err(Error::invalid(format!("device number {major}:{minor} is out of range")));
        }
        b'3' if raw.device == (0, 0) => return Err(Error::invalid("character device 0:0 is not allowed")),
        b'3' => Kind::CharDevice(major, minor),
        b'4' => Kind::BlockDevice(major, minor),
        b'5' | b'D' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'M' => return Err(Error::invalid("multi-volume archives are not supported")),
        _ => return Ok(None),
    }))
}

/// Attributes that overlayfs reads as orders, in both its namespaces, and labels, which are for this machine's policy to
/// give.
fn is_hosts_own(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") || name == b"security.selinux"
}

/// A malformed file capability is refused before anybody sets it: not every way to hold a layer would notice.
fn check_capability(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    for (_, value) in xattrs.iter().filter(|(name, _)| name == b"security.capability") {
        let revision = value.get(3).copied();
        if !matches!((revision, value.len()), (Some(1), 12) | (Some(2), 20) | (Some(3), 24)) {
            return Err(Error::invalid("setxattr security.capability: invalid argument"));
        }
    }
    Ok(())
}

/// The kernel keeps the highest number for "unchanged".
fn id(value: u64, what: &str) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| Error::invalid(format!("{what} {value} is out of range")))
}

fn printable(name: &[u8]) -> String {
    let shown: String = String::from_utf8_lossy(name).chars().take(120).collect();
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_if_the_root_were_slash() {
        for (given, clean) in [
            ("a/b", "/a/b"),
            ("./a//b/", "/a/b"),
            ("../../etc/passwd", "/etc/passwd"),
            ("/a/../../b", "/b"),
            ("a/./../..", "/"),
            ("", "/"),
        ] {
            assert_eq!(TreePath::clean(given.as_bytes()).to_string(), clean, "{given}");
        }
        let here = TreePath::clean(b"a/b");
        assert_eq!(here.join(b"../c").to_string(), "/a/c");
        assert_eq!(here.join(b"/c").to_string(), "/c");
        assert!(here.is_within(&TreePath::clean(b"a")) && !here.is_within(&TreePath::clean(b"a/bb")));
        assert!(!TreePath::clean(b"ab").is_within(&TreePath::clean(b"a")));
    }
}

//! Holds a layer as a directory of files, written with system calls relative to descriptors.
//!
//! Rules that keep a hostile archive inside:
//! - every parent directory is opened by `openat2` beneath the layer's root (RESOLVE_IN_ROOT: absolute and `..`
//!   links are followed as the container itself would follow them), never by a path string from the host's root;
//! - a leaf is only ever created, with O_EXCL or a call that does not follow links; what is in its way is removed;
//! - whiteouts become what overlayfs reads: 0:0 character devices and the opaque attribute.
//!
//! Directories get their owner, mode, times and attributes at the very end: a setgid bit or a default ACL would
//! spread to every file created inside, and each of those would change the directory's times.

use crate::error::{Error, Result};
use crate::layer::entry::{Entry, Kind, Meta, TreePath};
use crate::layer::limits::check_free_space;
use crate::layer::removal::remove_at;
use crate::layer::unpack::{LayerSink, Unpacked};
use crate::scoped_open::scoped_open;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Directory descriptors kept open; several layers unpack at once, and 1024 descriptors are a usual limit.
const OPEN_DIRECTORIES: usize = 64;
/// A chain of links longer than the kernel follows.
const MAX_LINKS: usize = 40;
/// The free space is looked at once per so many bytes.
const SPACE_CHECK: u64 = 64 << 20;

pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// Writes one layer into an empty directory of its own.
#[derive(Debug)]
pub(crate) struct DirectorySink {
    root: OwnedFd,
    open: HashMap<TreePath, Arc<OwnedFd>>,
    described: BTreeMap<TreePath, Meta>,
    implicit: BTreeSet<TreePath>,
    umask: u32,
    unchecked: u64,
    result: Unpacked,
}

impl DirectorySink {
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| Error::path("open", root, e))?;
        check_free_space(&root)?;
        Ok(Self {
            root,
            open: HashMap::new(),
            described: BTreeMap::new(),
            implicit: BTreeSet::from([TreePath::default()]),
            umask: umask(),
            unchecked: 0,
            result: Unpacked::default(),
        })
    }

    /// The directory at this path, made with its parents where it is missing. A loop, not a recursion: a path may
    /// have two thousand parts, and the stack has an end.
    fn dir(&mut self, path: &TreePath, links: usize) -> Result<Arc<OwnedFd>> {
        let mut missing = Vec::new();
        let mut here = path.clone();
        let mut fd = loop {
            if let Some(fd) = self.open_existing(&here)? {
                break fd;
            }
            let Some((above, _)) = here.split() else { return Err(Error::invalid("the root has gone")) };
            missing.push(std::mem::replace(&mut here, above));
        };
        while let Some(next) = missing.pop() {
            fd = self.make_parent(&fd, &next, links)?;
        }
        Ok(fd)
    }

    fn open_existing(&mut self, path: &TreePath) -> Result<Option<Arc<OwnedFd>>> {
        if let Some(open) = self.open.get(path) {
            return Ok(Some(open.clone()));
        }
        let fd = match open_in_root(&self.root, path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(Error::invalid(format!("{path}: too many levels of symbolic links")));
            }
            opened => opened.map_err(|e| Error::io(format_args!("open {path}"), e))?,
        };
        Ok(Some(self.remember(path, fd)))
    }

    fn remember(&mut self, path: &TreePath, fd: OwnedFd) -> Arc<OwnedFd> {
        if self.open.len() >= OPEN_DIRECTORIES {
            self.open.clear();
        }
        let fd = Arc::new(fd);
        self.open.insert(path.clone(), fd.clone());
        fd
    }

    /// Makes a directory that no entry described (yet).
    fn make_parent(&mut self, parent: &OwnedFd, path: &TreePath, links: usize) -> Result<Arc<OwnedFd>> {
        let Some((above, name)) = path.split() else { return Err(Error::invalid("the root has gone")) };
        match self.make_directory(parent, name)? {
            Made::New | Made::OverWhiteout => {
                self.implicit.insert(path.clone());
            }
            Made::Already(FileType::Symlink) if links < MAX_LINKS => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())
                    .map_err(|e| Error::io(format_args!("readlink {path}"), e))?;
                return self.dir(&above.join(target.as_bytes()), links + 1);
            }
            Made::Already(FileType::Directory) => {}
            Made::Already(_) => {
                return Err(Error::invalid(format!("{path} is no directory, but other entries lie in it")));
            }
        }
        let fd = open_directory(parent, name)?;
        Ok(self.remember(path, fd))
    }

    fn make_directory(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<Made> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => {
                self.result.inodes += 1;
                return Ok(Made::New);
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::io("mkdir", error)),
        }
        let stat = lstat(parent, name)?;
        if !is_whiteout(&stat) {
            return Ok(Made::Already(FileType::from_raw_mode(stat.st_mode)));
        }
        // Deleted below and made anew in one layer: nothing of the old directory may show through.
        rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(|e| Error::io("unlink", e))?;
        rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(|e| Error::io("mkdir", e))?;
        set_opaque(&open_directory(parent, name)?)?;
        Ok(Made::OverWhiteout)
    }

    fn directory(&mut self, path: TreePath, meta: Meta) -> Result<()> {
        if let Some((above, name)) = path.split() {
            let parent = self.dir(&above, 0)?;
            if let Made::Already(kind) = self.make_directory(&parent, name)?
                && kind != FileType::Directory
            {
                self.remove(&parent, &path)?;
                self.make_directory(&parent, name)?;
            }
        }
        self.implicit.remove(&path);
        self.described.insert(path, meta);
        Ok(())
    }

    fn remove(&mut self, parent: &OwnedFd, path: &TreePath) -> Result<()> {
        let Some((_, name)) = path.split() else { return Err(Error::invalid("the root cannot be replaced")) };
        remove_at(parent, name)?;
        self.open.clear();
        self.described.retain(|known, _| !known.is_within(path));
        self.implicit.retain(|known| !known.is_within(path));
        Ok(())
    }

    /// Creates a leaf with `create`, removing first what is in its way.
    fn leaf<T>(
        &mut self,
        path: &TreePath,
        mut create: impl FnMut(&OwnedFd, &[u8]) -> rustix::io::Result<T>,
    ) -> Result<(Arc<OwnedFd>, T)> {
        let Some((above, name)) = path.split() else { return Err(Error::invalid("the root is a directory")) };
        let parent = self.dir(&above, 0)?;
        let created = match create(&parent, name) {
            Err(Errno::EXIST) => {
                self.remove(&parent, path)?;
                create(&parent, name)
            }
            other => other,
        };
        self.result.inodes += 1;
        Ok((parent, created.map_err(|e| Error::io("create", e))?))
    }

    fn file(
        &mut self,
        entry: &Entry,
        sparse: Option<&[(u64, u64)]>,
        size: u64,
        data: &mut dyn BufRead,
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = entry.meta.mode;
        let (_, fd) = self.leaf(&entry.path, |dir, name| {
            rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode & 0o777))
        })?;
        let mut file = std::fs::File::from(fd);
        match sparse {
            None => self.write(&mut file, data, size)?,
            Some(parts) => {
                file.set_len(size).map_err(|e| Error::io("ftruncate", e))?;
                for (offset, length) in parts {
                    file.seek(SeekFrom::Start(*offset)).map_err(|e| Error::io("lseek", e))?;
                    self.write(&mut file, data, *length)?;
                }
            }
        }
        self.result.bytes = self.result.bytes.saturating_add(size);
        self.file_meta(&file, &entry.meta)
    }

    fn write(&mut self, file: &mut std::fs::File, data: &mut dyn BufRead, mut left: u64) -> Result<()> {
        while left > 0 {
            let available = data.fill_buf().map_err(|e| Error::io("read", e))?;
            let count = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if count == 0 {
                return Err(Error::invalid("truncated archive"));
            }
            file.write_all(available.get(..count).unwrap_or_default()).map_err(|e| Error::io("write", e))?;
            data.consume(count);
            left -= count as u64;
            self.count_space(count as u64)?;
        }
        Ok(())
    }

    fn count_space(&mut self, bytes: u64) -> Result<()> {
        self.unchecked += bytes;
        if self.unchecked >= SPACE_CHECK {
            self.unchecked = 0;
            check_free_space(&self.root)?;
        }
        Ok(())
    }

    /// Owner before mode and attributes: a chown clears setuid bits and file capabilities.
    fn file_meta(&self, file: &std::fs::File, meta: &Meta) -> Result<()> {
        let chowned = meta.uid != 0 || meta.gid != 0;
        if chowned {
            rustix::fs::fchown(file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
                .map_err(|e| Error::io(format_args!("chown to {}:{}", meta.uid, meta.gid), e))?;
        }
        if chowned || meta.mode & (self.umask | 0o7000) != 0 {
            rustix::fs::fchmod(file, Mode::from_raw_mode(meta.mode)).map_err(|e| Error::io("chmod", e))?;
        }
        for (name, value) in &meta.xattrs {
            let set = rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty());
            attribute_set(set, name)?;
        }
        rustix::fs::futimens(file, &times(meta)).map_err(|e| Error::io("utimensat", e))
    }

    /// The same for what cannot be opened: links, devices, fifos.
    fn leaf_meta(&self, dir: &OwnedFd, path: &TreePath, meta: &Meta, symlink: bool) -> Result<()> {
        let Some((_, name)) = path.split() else { return Ok(()) };
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if meta.uid != 0 || meta.gid != 0 {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), nofollow)
                .map_err(|e| Error::io("chown", e))?;
        }
        if !symlink {
            // Not a link and nobody else writes here, so the call that follows links cannot be misled.
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())
                .map_err(|e| Error::io("chmod", e))?;
        }
        if !meta.xattrs.is_empty() {
            let through_fd = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
            for (key, value) in &meta.xattrs {
                let set = rustix::fs::lsetxattr(&through_fd[..], &key[..], value, XattrFlags::empty());
                attribute_set(set, key)?;
            }
        }
        rustix::fs::utimensat(dir, name, &times(meta), nofollow).map_err(|e| Error::io("utimensat", e))
    }

    fn hardlink(&mut self, path: &TreePath, target: &TreePath) -> Result<()> {
        let missing = |e| match e {
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR => {
                Error::invalid(format!("hard link to {target}, which is no file of this layer"))
            }
            e => Error::io(format_args!("link to {target}"), e),
        };
        let Some((above, name)) = target.split() else { return Err(missing(Errno::NOENT)) };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let from = scoped_open(&self.root, above.as_bytes(), flags, resolve).map_err(missing)?;
        let stat = rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(missing)?;
        if is_whiteout(&stat) || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(missing(Errno::NOENT));
        }
        if self.is_at(path, &stat)? {
            return Ok(());
        }
        self.leaf(path, |dir, leaf| rustix::fs::linkat(&from, name, dir, leaf, AtFlags::empty()))?;
        self.result.inodes -= 1;
        Ok(())
    }

    /// Whether a path already leads to this very file: making way for a link to it would delete it.
    fn is_at(&mut self, path: &TreePath, file: &rustix::fs::Stat) -> Result<bool> {
        let Some((above, name)) = path.split() else { return Ok(false) };
        let parent = self.dir(&above, 0)?;
        Ok(lstat(&parent, name).is_ok_and(|there| there.st_ino == file.st_ino))
    }

    fn node(&mut self, entry: &Entry, kind: FileType, major: u32, minor: u32) -> Result<()> {
        let (mode, device) = (Mode::from_raw_mode(entry.meta.mode), rustix::fs::makedev(major, minor));
        let (dir, ()) =
            self.leaf(&entry.path, |dir, name| rustix::fs::mknodat(dir, name, kind, mode, device))?;
        self.leaf_meta(&dir, &entry.path, &entry.meta, false)
    }

    /// A whiteout hides the layers beneath, never what this layer itself holds.
    fn whiteout(&mut self, path: &TreePath) -> Result<()> {
        let Some((above, name)) = path.split() else { return Ok(()) };
        let parent = self.dir(&above, 0)?;
        match rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                self.result.inodes += 1;
                self.result.whiteouts = true;
            }
            Err(Errno::EXIST) => {
                if FileType::from_raw_mode(lstat(&parent, name)?.st_mode) == FileType::Directory {
                    set_opaque(&open_directory(&parent, name)?)?;
                }
            }
            Err(Errno::PERM) => {
                return Err(Error::io(
                    "deletions cannot be kept in directories here: mknod c 0 0",
                    Errno::PERM,
                ));
            }
            Err(error) => return Err(Error::io("mknod c 0 0", error)),
        }
        Ok(())
    }

    fn opaque(&mut self, path: &TreePath) -> Result<()> {
        self.dir(path, 0)?;
        set_opaque(&self.readable(path)?)
    }

    fn readable(&self, path: &TreePath) -> Result<OwnedFd> {
        open_in_root(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|e| Error::io(format_args!("open {path}"), e))
    }
}

impl LayerSink for DirectorySink {
    fn entry(&mut self, entry: Entry, content: &mut dyn BufRead, _position: u64) -> Result<()> {
        match &entry.kind {
            Kind::Directory => self.directory(entry.path, entry.meta),
            Kind::File { size, sparse } => self.file(&entry, sparse.as_deref(), *size, content),
            Kind::Symlink(target) => {
                let (dir, ()) =
                    self.leaf(&entry.path, |dir, name| rustix::fs::symlinkat(&target[..], dir, name))?;
                self.leaf_meta(&dir, &entry.path, &entry.meta, true)
            }
            Kind::Hardlink(target) => self.hardlink(&entry.path, target),
            Kind::CharDevice(major, minor) => self.node(&entry, FileType::CharacterDevice, *major, *minor),
            Kind::BlockDevice(major, minor) => self.node(&entry, FileType::BlockDevice, *major, *minor),
            Kind::Fifo => self.node(&entry, FileType::Fifo, 0, 0),
            Kind::Whiteout => self.whiteout(&entry.path),
            Kind::Opaque => self.opaque(&entry.path),
        }
    }

    fn finish(&mut self) -> Result<Unpacked> {
        self.open.clear();
        // Children before parents: a parent that its owner may not enter would stop us otherwise.
        for (path, meta) in std::mem::take(&mut self.described).into_iter().rev() {
            apply_directory(&self.readable(&path)?, &meta).map_err(|error| error.context(&path))?;
        }
        self.result.implicit = std::mem::take(&mut self.implicit).into_iter().collect();
        Ok(std::mem::take(&mut self.result))
    }
}

/// What `make_directory` found.
enum Made {
    New,
    OverWhiteout,
    Already(FileType),
}

/// Opens beneath a root, links resolved as inside a container.
pub(crate) fn open_in_root(root: impl AsFd, path: &TreePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    scoped_open(root, path.as_bytes(), flags, resolve)
}

/// Gives a directory its final look.
pub(crate) fn apply_directory(dir: &OwnedFd, meta: &Meta) -> Result<()> {
    rustix::fs::fchown(dir, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
        .map_err(|e| Error::io("chown", e))?;
    rustix::fs::fchmod(dir, Mode::from_raw_mode(meta.mode)).map_err(|e| Error::io("chmod", e))?;
    for (name, value) in &meta.xattrs {
        attribute_set(rustix::fs::fsetxattr(dir, &name[..], value, XattrFlags::empty()), name)?;
    }
    rustix::fs::futimens(dir, &times(meta)).map_err(|e| Error::io("utimensat", e))
}

/// A file system without such attributes loses them, as every unpacker does; anything else is an error.
fn attribute_set(result: rustix::io::Result<()>, name: &[u8]) -> Result<()> {
    match result {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(Error::io(format_args!("setxattr {}", String::from_utf8_lossy(name)), error)),
    }
}

fn set_opaque(dir: &OwnedFd) -> Result<()> {
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty())
        .map_err(|e| Error::io(format_args!("setxattr {OPAQUE}"), e))
}

fn open_directory(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|e| Error::io("open", e))
}

fn lstat(parent: &OwnedFd, name: &[u8]) -> Result<rustix::fs::Stat> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| Error::io("lstat", e))
}

/// A character device 0:0.
pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The same of a file that was looked at by its path.
pub(crate) fn is_whiteout_device(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime.0, tv_nsec: i64::from(meta.mtime.1) };
    Timestamps { last_access: time, last_modification: time }
}

/// The umask can only be read by setting it, which would race with other threads; /proc shows it.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let digits = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    digits.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok()).unwrap_or(0o777)
}

#[cfg(test)]
mod tests;

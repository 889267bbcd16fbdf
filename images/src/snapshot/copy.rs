//! Snapshots by plain copy, where the kernel refuses overlay: every snapshot holds the merged tree.

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layer::directory::is_whiteout;
use crate::layer::inherit::{has_opaque, xattrs_of};
use crate::layer::removal::remove_at;
use crate::mount::Mount;
use crate::snapshot::layers::Layers;
use crate::snapshot::overlay::WORK;
use crate::snapshot::usage::usage_of;
use crate::snapshot::{Access, Record, Shelf, Snapshotter};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

const TREE: &str = "fs";

/// The fallback.
#[derive(Debug)]
pub(crate) struct Copy {
    shelf: Shelf,
    layers: Layers,
}

impl Copy {
    pub(crate) fn open(root: &Path, layers: Layers) -> Result<Self> {
        Ok(Self { shelf: Shelf::open(root)?, layers })
    }

    fn mounts_of(&self, key: &str, record: &Record) -> Result<Vec<Mount>> {
        if self.shelf.path(key)?.join(WORK).exists() {
            return Err(Error::unsupported("a snapshot that was made by overlayfs, without overlayfs"));
        }
        Ok(vec![Mount::bind(&self.shelf.path(key)?.join(TREE), record.access == Access::ReadOnly)])
    }
}

impl Snapshotter for Copy {
    fn prepare(&self, key: &str, parent: Option<&Digest>, access: Access) -> Result<Vec<Mount>> {
        let wanted = Record { parent: parent.cloned(), access };
        self.shelf.ensure(key, &wanted, |directory| {
            let tree = directory.join(TREE);
            std::fs::create_dir(&tree).map_err(|e| Error::path("mkdir", &tree, e))?;
            self.layers.roots(parent)?.iter().rev().try_for_each(|layer| merge(layer, &tree))
        })?;
        if let Some(parent) = parent {
            self.layers.touch(parent)?;
        }
        self.mounts_of(key, &wanted)
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        self.mounts_of(key, &self.shelf.expect(key)?)
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.shelf.remove(key)
    }

    fn writes(&self, _key: &str) -> Result<(PathBuf, Option<Digest>)> {
        Err(Error::unsupported("telling what a container wrote, without overlayfs"))
    }

    fn parent(&self, key: &str) -> Option<Digest> {
        self.shelf.record(key).ok().flatten().and_then(|record| record.parent)
    }

    fn walk(&self) -> Result<Vec<(String, Option<Digest>)>> {
        self.shelf.walk()
    }

    fn usage(&self, key: &str) -> Result<(u64, u64)> {
        self.shelf.expect(key)?;
        usage_of(&self.shelf.path(key)?.join(TREE))
    }
}

/// Copies one layer over a tree, doing what overlayfs would show.
fn merge(layer: &Path, tree: &Path) -> Result<()> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::path("open", path, e))
    };
    let mut merge = Merge { links: HashMap::new(), tree: open(tree)? };
    merge.directory(&open(layer)?, &open(tree)?, b".")
}

struct Merge {
    /// Where the first name of a file with several was copied to, from the root of the tree.
    links: HashMap<u64, Vec<u8>>,
    tree: OwnedFd,
}

fn failed(call: &'static str) -> impl Fn(Errno) -> Error {
    move |error| Error::io(format_args!("copy layer: {call}"), error)
}

impl Merge {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &[u8]) -> Result<()> {
        if has_opaque(from) {
            empty(to)?;
        }
        for entry in Dir::read_from(from).map_err(failed("readdir"))? {
            let entry = entry.map_err(failed("readdir"))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.entry(from, to, name, &[path, b"/", name].concat())?;
            }
        }
        let stat = rustix::fs::fstat(from).map_err(failed("fstat"))?;
        for (name, value) in xattrs_of(from)? {
            rustix::fs::fsetxattr(to, &name[..], &value, XattrFlags::empty()).map_err(failed("setxattr"))?;
        }
        rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
            .map_err(failed("chown"))?;
        rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode)).map_err(failed("chmod"))?;
        rustix::fs::futimens(to, &times(&stat)).map_err(failed("utimensat"))
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("lstat"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return self.directory(&open_dir(from, name)?, &self.make_directory(to, name)?, path);
        }
        remove_at(to, name)?;
        if is_whiteout(&stat) {
            return Ok(());
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                return rustix::fs::linkat(&self.tree, &first[..], to, name, AtFlags::empty())
                    .map_err(failed("link"));
            }
            self.links.insert(stat.st_ino, path.to_vec());
        }
        match kind {
            FileType::RegularFile => file(from, to, name)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new()).map_err(failed("readlink"))?;
                rustix::fs::symlinkat(target.as_c_str(), to, name).map_err(failed("symlink"))?;
            }
            other => rustix::fs::mknodat(to, name, other, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)
                .map_err(failed("mknod"))?,
        }
        leaf_meta(from, to, name, &stat)
    }

    fn make_directory(&self, to: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
        match rustix::fs::mkdirat(to, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat =
                    rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("lstat"))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    remove_at(to, name)?;
                    rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(failed("mkdir"))?;
                }
            }
            Err(error) => return Err(failed("mkdir")(error)),
        }
        open_dir(to, name)
    }
}

fn open_dir(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed("open"))
}

fn empty(dir: &OwnedFd) -> Result<()> {
    for entry in Dir::read_from(dir).map_err(failed("readdir"))? {
        let entry = entry.map_err(failed("readdir"))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove_at(dir, name)?;
        }
    }
    Ok(())
}

/// `std::io::copy` uses copy_file_range, which shares the blocks where the file system can.
fn file(from: &OwnedFd, to: &OwnedFd, name: &[u8]) -> Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, read, Mode::empty()).map_err(failed("open"))?;
    let copy = rustix::fs::openat(to, name, write, Mode::RUSR | Mode::WUSR).map_err(failed("create"))?;
    let (mut source, mut copy) = (std::fs::File::from(source), std::fs::File::from(copy));
    std::io::copy(&mut source, &mut copy).map_err(|e| Error::io("copy layer: copy", e))?;
    Ok(())
}

fn leaf_meta(from: &OwnedFd, to: &OwnedFd, name: &[u8], stat: &Stat) -> Result<()> {
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), nofollow).map_err(failed("chown"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(stat.st_mode);
        rustix::fs::chmodat(to, name, mode, AtFlags::empty()).map_err(failed("chmod"))?;
    }
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(failed("open"))?;
        for (key, value) in xattrs_of(source.as_fd())? {
            let through_fd = [format!("/proc/self/fd/{}/", to.as_raw_fd()).as_bytes(), name].concat();
            rustix::fs::lsetxattr(&through_fd[..], &key[..], &value, XattrFlags::empty())
                .map_err(failed("setxattr"))?;
        }
    }
    rustix::fs::utimensat(to, name, &times(stat), nofollow).map_err(failed("utimensat"))
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
    Timestamps { last_access: time, last_modification: time }
}

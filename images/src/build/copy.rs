//! Puts files of a tree into a root file system, by Docker's rules for COPY.
//!
//! - A directory's contents go into the target; a file goes into the target where that is (or must be) a directory,
//!   else it becomes the target.
//! - The target is found beneath the root as a process in there would find it, links included; nothing leaves it. What
//!   is copied below it lands on no link: a file takes a link's place, a directory is refused there.
//! - Missing directories are made, the target of a directory too (as BuildKit does); what lies there already keeps its owner and mode, unless a directory of the source
//!   lands on it.
//! - Names of one file (hard links) that are copied together are names of one file again.
//! - Nothing tells when it was done: made-up directories have a fixed time, and a directory that something is put into
//!   keeps its own. So the same files always give the same layer.

use crate::build::chmod::Chmod;
use crate::build::tree::{Found, Tree, relative};
use crate::error::{Error, Result};
use crate::layer::directory::{apply_directory, open_in_root};
use crate::layer::entry::{Meta, TreePath};
use crate::layer::inherit::xattrs_of;
use crate::layer::removal::remove_at;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// How files look when they arrive, and what becomes of those in their way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    /// Instead of the file's own.
    pub(crate) owner: Option<(u32, u32)>,
    /// What becomes of the file's own mode.
    pub(crate) mode: Option<Chmod>,
    /// Of directories that are made on the way, in seconds since 1970.
    pub(crate) time: i64,
    /// The directory that is copied looks like its source; else it is made like any other that is missing.
    pub(crate) top: bool,
    /// What is there and of another kind goes: archives win, files of the context do not.
    pub(crate) replace: bool,
    /// Directories of the source that only lie on the way: what is there instead stays as it is, a link too.
    pub(crate) through: BTreeSet<TreePath>,
    /// `cp`: a link that leads nowhere is an error; else what it leads to is made, as builds want it.
    pub(crate) refuse_dangling: bool,
}

impl Look {
    fn mode(&self, own: u32, is_dir: bool) -> u32 {
        self.mode.as_ref().map_or(own, |chmod| chmod.of(own, is_dir))
    }

    /// In BuildKit's words, or in those of `docker cp`.
    fn directory_over_other(&self, path: &TreePath) -> Error {
        Error::invalid(match self.refuse_dangling {
            true => format!("cannot overwrite non-directory \"{path}\" with directory"),
            false => format!("cannot copy to non-directory: {path}"),
        })
    }

    fn other_over_directory(&self, path: &TreePath) -> Error {
        Error::invalid(match self.refuse_dangling {
            true => format!("cannot overwrite directory \"{path}\" with non-directory"),
            false => format!("cannot replace to directory {path} with file"),
        })
    }
}

/// Copies into one root.
#[derive(Debug)]
pub(crate) struct Copier {
    root: OwnedFd,
    look: Look,
    /// What directories must look like in the end: each file put into one changes its time.
    directories: BTreeMap<TreePath, Finally>,
}

/// Where the first name of a file that has several went, by device and inode of the source.
type Names = BTreeMap<(u64, u64), TreePath>;

#[derive(Debug)]
enum Finally {
    Whole(Meta),
    Times(Timestamps),
}

impl Copier {
    pub(crate) fn new(root: &Path, look: Look) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| Error::path("open", root, e))?;
        Ok(Self { root, look, directories: BTreeMap::new() })
    }

    /// Whether there is a directory at this path, links followed.
    pub(crate) fn is_dir(&self, path: &TreePath) -> bool {
        open_in_root(&self.root, path, OFlags::PATH | OFlags::DIRECTORY).is_ok()
    }

    /// Copies one source, as `Tree::find` lists it.
    pub(crate) fn copy(&mut self, tree: &Tree, found: &[Found], target: &TreePath) -> Result<()> {
        let Some(first) = found.first() else { return Ok(()) };
        let mut names = Names::default();
        for file in found {
            let path = target.join(relative(&first.path, &file.path).as_bytes());
            let named = |error: Error| error.context(format_args!("copy to {path}"));
            match file.kind() {
                FileType::Directory if file.path == first.path => {
                    self.top(tree, file, &path).map_err(named)?
                }
                FileType::Directory => self.directory(tree, file, &path).map_err(named)?,
                FileType::Socket => {}
                FileType::RegularFile if file.stat.st_nlink > 1 => {
                    self.one_of_several(tree, file, &path, &mut names).map_err(named)?
                }
                _ => self.leaf(tree, file, &path).map_err(named)?,
            }
        }
        Ok(())
    }

    /// Writes one file that is in no tree.
    pub(crate) fn write(&mut self, path: &TreePath, content: &[u8]) -> Result<()> {
        self.put(path, 0o644, self.look.time, &mut &*content)
    }

    /// The same with a mode and a time of its own.
    pub(crate) fn put(
        &mut self,
        path: &TreePath,
        mode: u32,
        time: i64,
        content: &mut dyn Read,
    ) -> Result<()> {
        let mode = self.look.mode(mode, false);
        let (uid, gid) = self.look.owner.unwrap_or_default();
        let meta = Meta { mode, uid, gid, mtime: (time, 0), xattrs: Vec::new() };
        self.file(path, &meta, content)
    }

    /// Gives directories their final look.
    pub(crate) fn finish(self) -> Result<()> {
        for (path, finally) in self.directories.iter().rev() {
            let failed = |e| Error::io(format_args!("set times of {path}"), e);
            let dir = open_in_root(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
            match finally {
                Finally::Whole(meta) => apply_directory(&dir, meta)?,
                Finally::Times(times) => rustix::fs::futimens(&dir, times).map_err(failed)?,
            }
        }
        Ok(())
    }

    /// The source itself: a directory that is there already stays as it is.
    fn top(&mut self, tree: &Tree, file: &Found, path: &TreePath) -> Result<()> {
        match self.is_dir(path) {
            true => Ok(()),
            false if self.look.top => self.directory(tree, file, path),
            false => self.refuse_other(path).and_then(|()| self.make_dir(path)),
        }
    }

    fn directory(&mut self, tree: &Tree, file: &Found, path: &TreePath) -> Result<()> {
        if self.look.through.contains(&file.path) {
            return self.make_dir(path);
        }
        match self.look.replace {
            true => self.clear_for_directory(path)?,
            false => self.refuse_other(path)?,
        }
        self.make_dir(path)?;
        let meta = self.meta(tree, file)?;
        // One directory has one name here, however it was reached.
        self.directories.insert(self.destination(path)?, Finally::Whole(meta));
        Ok(())
    }

    /// Takes away what is no directory itself, links to directories too.
    fn clear_for_directory(&mut self, path: &TreePath) -> Result<()> {
        let Some((above, name)) = path.split() else { return Ok(()) };
        if !self.is_dir(&above) {
            return Ok(());
        }
        let dir = self.parent(&above)?;
        match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => remove_at(&dir, name),
            _ => Ok(()),
        }
    }

    /// Makes a directory with everything above it.
    pub(crate) fn make_dir(&mut self, path: &TreePath) -> Result<()> {
        let mut here = TreePath::default();
        for part in self.destination(path)?.parts() {
            let above = here.clone();
            here = here.join(part);
            if self.is_dir(&here) {
                continue;
            }
            let parent = self.parent(&above)?;
            match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                Ok(()) => {}
                Err(Errno::EXIST) => return Err(Error::invalid(format!("{here} is not a directory"))),
                Err(error) => return Err(Error::io(format_args!("mkdir {here}"), error)),
            }
            let (uid, gid) = self.look.owner.unwrap_or_default();
            let mode = match &self.look.mode {
                Some(Chmod::Exactly(mode)) => *mode,
                _ => 0o755,
            };
            let meta = Meta { mode, uid, gid, mtime: (self.look.time, 0), xattrs: Vec::new() };
            self.directories.insert(here.clone(), Finally::Whole(meta));
        }
        Ok(())
    }

    /// Where a path leads: links on it are followed, those that lead nowhere yet too, for what they lead to is made.
    /// Where a link that leads nowhere is an error, all of that is the kernel's.
    pub(crate) fn destination(&self, path: &TreePath) -> Result<TreePath> {
        if self.look.refuse_dangling {
            return Ok(path.clone());
        }
        let (mut here, mut links) = (TreePath::default(), MAX_LINKS);
        let mut ahead = reversed(path.as_bytes());
        while let Some(part) = ahead.pop() {
            let Some(target) = self.link(&here, &part)? else {
                here = here.join(&part);
                continue;
            };
            let too_many = || Error::invalid(format!("{path}: too many links"));
            links = links.checked_sub(1).ok_or_else(too_many)?;
            if target.starts_with(b"/") {
                here = TreePath::default();
            }
            ahead.extend(reversed(&target));
        }
        Ok(here)
    }

    /// What a link says, where there is one.
    fn link(&self, above: &TreePath, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let failed = |e| Error::io(format_args!("readlink {}", above.join(name)), e);
        let dir = match open_in_root(&self.root, above, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            other => other.map_err(failed)?,
        };
        match rustix::fs::readlinkat(&dir, name, Vec::new()) {
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            other => other.map(|target| Some(target.into_bytes())).map_err(failed),
        }
    }

    /// Fails where something lies that is no directory itself: no link to one will do.
    pub(crate) fn refuse_other(&self, path: &TreePath) -> Result<()> {
        let Some((above, name)) = path.split() else { return Ok(()) };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let Ok(dir) = open_in_root(&self.root, &above, flags) else { return Ok(()) };
        match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                Err(self.look.directory_over_other(path))
            }
            _ => Ok(()),
        }
    }

    /// A directory that something is about to be put into.
    fn parent(&mut self, path: &TreePath) -> Result<OwnedFd> {
        let failed = |e| Error::io(format_args!("open {path}"), e);
        let dir = open_in_root(&self.root, path, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
        if !self.directories.contains_key(path) {
            let stat = rustix::fs::fstat(&dir).map_err(failed)?;
            self.directories
                .insert(path.clone(), Finally::Times(times(stat.st_mtime, stat.st_mtime_nsec as i64)));
        }
        Ok(dir)
    }

    /// A file that has other names: the first of them that comes is copied, the others are linked to it.
    fn one_of_several(
        &mut self,
        tree: &Tree,
        file: &Found,
        path: &TreePath,
        names: &mut Names,
    ) -> Result<()> {
        let inode = (file.stat.st_dev, file.stat.st_ino);
        if let Some(first) = names.get(&inode)
            && self.link_to(first, path)?
        {
            return Ok(());
        }
        self.leaf(tree, file, path)?;
        names.insert(inode, path.clone());
        Ok(())
    }

    /// Whether the file could get one name more: there is a limit to their number, and a later file may have taken
    /// the place of the first.
    fn link_to(&mut self, first: &TreePath, path: &TreePath) -> Result<bool> {
        let (to, name) = self.place(path)?;
        let Some((above, first)) = first.split() else { return Ok(false) };
        let from = self.parent(&self.destination(&above)?)?;
        match rustix::fs::linkat(&from, first, &to, &name[..], AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::MLINK | Errno::NOENT) => Ok(false),
            Err(error) => Err(Error::io("link", error)),
        }
    }

    fn leaf(&mut self, tree: &Tree, file: &Found, path: &TreePath) -> Result<()> {
        let mut meta = self.meta(tree, file)?;
        if file.kind() == FileType::RegularFile {
            return self.file(path, &meta, &mut tree.file(&file.path)?);
        }
        let (dir, name) = self.place(path)?;
        match file.kind() {
            FileType::Symlink => {
                let target = tree.link(&file.path)?;
                rustix::fs::symlinkat(&target[..], &dir, &name[..]).map_err(|e| Error::io("symlink", e))?;
                meta.mode = 0o777;
            }
            kind => {
                let mode = Mode::from_raw_mode(meta.mode);
                rustix::fs::mknodat(&dir, &name[..], kind, mode, file.stat.st_rdev)
                    .map_err(|e| Error::io("mknod", e))?;
            }
        }
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        rustix::fs::chownat(&dir, &name[..], Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Error::io("chown", e))?;
        let times = times(meta.mtime.0, i64::from(meta.mtime.1));
        rustix::fs::utimensat(&dir, &name[..], &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Error::io("utimensat", e))
    }

    /// From a file to a file the kernel copies, without a detour through this process.
    fn file<R: Read + ?Sized>(&mut self, path: &TreePath, meta: &Meta, content: &mut R) -> Result<()> {
        let (dir, name) = self.place(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, &name[..], flags, Mode::from_raw_mode(0o600));
        let mut file = std::fs::File::from(fd.map_err(|e| Error::io("create", e))?);
        std::io::copy(content, &mut file).map_err(|e| Error::io("write", e))?;
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        // Owner before mode and attributes: a chown clears setuid bits and file capabilities.
        rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(|e| Error::io("chown", e))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(meta.mode)).map_err(|e| Error::io("chmod", e))?;
        for (name, value) in &meta.xattrs {
            match rustix::fs::fsetxattr(&file, &name[..], value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(Error::io("set extended attribute", error)),
            }
        }
        let times = times(meta.mtime.0, i64::from(meta.mtime.1));
        rustix::fs::futimens(&file, &times).map_err(|e| Error::io("utimensat", e))
    }

    /// The parent and name of a file to be made; what is there goes, directories only where that is wanted.
    fn place(&mut self, path: &TreePath) -> Result<(OwnedFd, Vec<u8>)> {
        let (above, name) = path.split().ok_or_else(|| Error::invalid("/ is a directory"))?;
        self.make_dir(&above)?;
        let dir = self.parent(&above)?;
        match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat)
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && !self.look.replace =>
            {
                return Err(self.look.other_over_directory(path));
            }
            Ok(_) => {
                remove_at(&dir, name)?;
                self.directories.retain(|known, _| !known.is_within(path));
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(Error::io(format_args!("stat {path}"), error)),
        }
        Ok((dir, name.to_vec()))
    }

    fn meta(&self, tree: &Tree, file: &Found) -> Result<Meta> {
        let xattrs = match file.kind() {
            FileType::RegularFile | FileType::Directory => xattrs_of(tree.file(&file.path)?)?,
            _ => Vec::new(),
        };
        // What the host's security module said about the file does not travel.
        let xattrs = xattrs.into_iter().filter(|(name, _)| name != b"security.selinux").collect();
        let (uid, gid) = self.look.owner.unwrap_or((file.stat.st_uid, file.stat.st_gid));
        let nanos = u32::try_from(file.stat.st_mtime_nsec).unwrap_or(0);
        let mode = self.look.mode(file.stat.st_mode & 0o7777, file.is_dir());
        Ok(Meta { mode, uid, gid, mtime: (file.stat.st_mtime, nanos), xattrs })
    }
}

/// The parts of a path or link, the last one first.
fn reversed(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.rev().map(<[u8]>::to_vec).collect()
}

fn times(seconds: i64, nanoseconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests;

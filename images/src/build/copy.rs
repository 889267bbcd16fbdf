//! Puts files of a tree into a root file system, by Docker's rules for COPY.
//!
//! - A directory's contents go into the target; a file goes into the target where that is (or must be) a directory,
//!   else it becomes the target.
//! - The target is found beneath the root as a process in there would find it, links included; nothing leaves it.
//! - Missing directories are made, the target of a directory too (as BuildKit does); what lies there already keeps its owner and mode, unless a directory of the source
//!   lands on it.
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
use std::collections::BTreeMap;
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
    /// A link that leads nowhere is an error; else what it leads to is made, as builds want it.
    pub(crate) refuse_dangling: bool,
}

impl Look {
    fn mode(&self, own: u32, is_dir: bool) -> u32 {
        self.mode.as_ref().map_or(own, |chmod| chmod.of(own, is_dir))
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
        for file in found {
            let path = target.join(relative(&first.path, &file.path).as_bytes());
            let named = |error: Error| error.context(format_args!("copy to {path}"));
            match file.kind() {
                FileType::Directory if file.path == first.path => {
                    self.top(tree, file, &path).map_err(named)?
                }
                FileType::Directory => self.directory(tree, file, &path).map_err(named)?,
                FileType::Socket => {}
                _ => self.leaf(tree, file, &path).map_err(named)?,
            }
        }
        Ok(())
    }

    /// Writes one file that is in no tree.
    pub(crate) fn write(&mut self, path: &TreePath, content: &[u8]) -> Result<()> {
        let mode = self.look.mode(0o644, false);
        let (uid, gid) = self.look.owner.unwrap_or_default();
        let meta = Meta { mode, uid, gid, mtime: (self.look.time, 0), xattrs: Vec::new() };
        self.file(path, &meta, &mut &*content)
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
            false => self.make_dir(path),
        }
    }

    fn directory(&mut self, tree: &Tree, file: &Found, path: &TreePath) -> Result<()> {
        if self.look.replace {
            self.clear_for_directory(path)?;
        }
        self.make_dir(path)?;
        let meta = self.meta(tree, file)?;
        self.directories.insert(path.clone(), Finally::Whole(meta));
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
        self.make_dir_through(path, if self.look.refuse_dangling { 0 } else { MAX_LINKS })
    }

    /// A link that leads nowhere yet is followed so many times: what it leads to is made.
    fn make_dir_through(&mut self, path: &TreePath, links: usize) -> Result<()> {
        let mut here = TreePath::default();
        for part in path.parts() {
            let above = here.clone();
            here = here.join(part);
            if self.is_dir(&here) {
                continue;
            }
            let parent = self.parent(&above)?;
            match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    let other = || Error::invalid(format!("{here} is not a directory"));
                    let target = rustix::fs::readlinkat(&parent, part, Vec::new()).map_err(|_| other())?;
                    let links = links.checked_sub(1).ok_or_else(other)?;
                    self.make_dir_through(&above.join(target.as_bytes()), links)?;
                    if !self.is_dir(&here) {
                        return Err(other());
                    }
                    continue;
                }
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

    fn file(&mut self, path: &TreePath, meta: &Meta, content: &mut dyn std::io::Read) -> Result<()> {
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
                return Err(Error::invalid(format!("cannot replace the directory {path} by a file")));
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

fn times(seconds: i64, nanoseconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::ignore::Ignore;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn copied(from: &Path, source: &str, to: &Path, target: &str) -> Result<()> {
        let tree = Tree::open(from, Ignore::default())?;
        let mut copier = Copier::new(to, Look { owner: Some((7, 8)), ..Look::default() })?;
        for found in tree.find(source, &Ignore::default())? {
            copier.copy(&tree, &found.files, &TreePath::clean(target.as_bytes()))?;
        }
        copier.finish()
    }

    #[test]
    fn an_archive_replaces_what_is_of_another_kind() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("a/below")).unwrap();
        std::fs::create_dir(from.path().join("link")).unwrap();
        std::fs::write(from.path().join("b"), "b").unwrap();
        std::fs::write(to.path().join("a"), "").unwrap();
        std::fs::create_dir_all(to.path().join("b/full")).unwrap();
        symlink("b", to.path().join("link")).unwrap();
        let tree = Tree::open(from.path(), Ignore::default()).unwrap();
        let found = tree.find("/", &Ignore::default()).unwrap();
        let mut copier = Copier::new(to.path(), Look { replace: true, ..Look::default() }).unwrap();
        copier.copy(&tree, &found[0].files, &TreePath::default()).unwrap();
        copier.finish().unwrap();
        assert!(to.path().join("a/below").is_dir());
        assert_eq!(std::fs::read(to.path().join("b")).unwrap(), b"b");
        assert!(to.path().join("link").symlink_metadata().unwrap().is_dir());
        assert!(copied(from.path(), "a", to.path(), "/b").is_err());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_followed() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(from.path().join("x"), "x").unwrap();
        symlink("sub/made", to.path().join("link")).unwrap();
        symlink("/../../outside", to.path().join("out")).unwrap();
        symlink("loop", to.path().join("loop")).unwrap();
        copied(from.path(), "x", to.path(), "/link/deeper/x").unwrap();
        assert_eq!(std::fs::read(to.path().join("sub/made/deeper/x")).unwrap(), b"x");
        copied(from.path(), "x", to.path(), "/out/x").unwrap();
        assert!(to.path().join("outside/x").exists() && to.path().join("out").is_symlink());
        let error = copied(from.path(), "x", to.path(), "/loop/x").unwrap_err().to_string();
        assert!(error.contains("/loop is not a directory"), "{error}");
    }

    #[test]
    fn merges_and_keeps_what_was_there() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("d/sub")).unwrap();
        std::fs::write(from.path().join("d/sub/new"), "new").unwrap();
        std::fs::create_dir_all(to.path().join("t/sub")).unwrap();
        std::fs::write(to.path().join("t/sub/old"), "old").unwrap();
        std::fs::set_permissions(to.path().join("t"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let before = std::fs::metadata(to.path().join("t")).unwrap();
        copied(from.path(), "d", to.path(), "t").unwrap();
        let after = std::fs::metadata(to.path().join("t")).unwrap();
        assert_eq!((after.mode(), after.uid(), after.mtime()), (before.mode(), before.uid(), before.mtime()));
        assert_eq!(std::fs::read_dir(to.path().join("t/sub")).unwrap().count(), 2);
        assert_eq!(std::fs::metadata(to.path().join("t/sub")).unwrap().uid(), 7);
        copied(from.path(), "d/sub/new", to.path(), "made/up/name").unwrap();
        assert_eq!(std::fs::metadata(to.path().join("made/up")).unwrap().mtime(), 0);
        assert!(
            copied(from.path(), "d/sub/new", to.path(), "t/sub")
                .unwrap_err()
                .to_string()
                .contains("directory")
        );
        assert!(copied(from.path(), "d", to.path(), "made/up/name/x").is_err());
    }

    #[test]
    fn links_of_the_image_lead_nowhere_outside() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(from.path().join("f"), "x").unwrap();
        std::fs::create_dir(to.path().join("real")).unwrap();
        symlink("/real", to.path().join("inside")).unwrap();
        symlink(outside.path(), to.path().join("outside")).unwrap();
        symlink("/etc/passwd", to.path().join("file")).unwrap();
        copied(from.path(), "f", to.path(), "inside/f").unwrap();
        assert_eq!(std::fs::read(to.path().join("real/f")).unwrap(), b"x");
        copied(from.path(), "f", to.path(), "outside/f").unwrap();
        let within = to.path().join(outside.path().strip_prefix("/").unwrap());
        assert_eq!(std::fs::read(within.join("f")).unwrap(), b"x");
        copied(from.path(), "f", to.path(), "file").unwrap();
        assert!(std::fs::symlink_metadata(to.path().join("file")).unwrap().is_file());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}

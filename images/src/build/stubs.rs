//! Mount points that a RUN needs but the image does not have: the runtime makes them, and they go again before the
//! layer is packed, or every image would get an empty /etc/resolv.conf.

use crate::error::{Error, Result};
use crate::layer::directory::open_in_root;
use crate::layer::entry::TreePath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What any runner may mount over (see `Runner`).
const ALWAYS: [&str; 5] = ["/proc", "/sys", "/dev", "/etc/resolv.conf", "/etc/hosts"];

/// Paths that were not there, and the times of the directories in which they will be made.
#[derive(Debug)]
pub(crate) struct Stubs {
    root: OwnedFd,
    missing: Vec<TreePath>,
    parents: Vec<(TreePath, Timestamps)>,
}

impl Stubs {
    /// Looks for mount points before they are made.
    pub(crate) fn note<'a>(root: &Path, targets: impl Iterator<Item = &'a str>) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| Error::path("open", root, e))?;
        let mut stubs = Self { root, missing: Vec::new(), parents: Vec::new() };
        for target in ALWAYS.into_iter().chain(targets) {
            stubs.look(target)?;
        }
        Ok(stubs)
    }

    fn look(&mut self, target: &str) -> Result<()> {
        let failed = |e| Error::io(format_args!("look at {target}"), e);
        let mut here = TreePath::default();
        let mut above = None;
        for part in TreePath::clean(target.as_bytes()).parts() {
            let next = here.join(part);
            match open_in_root(&self.root, &next, OFlags::PATH) {
                Ok(_) => above = Some(next.clone()),
                Err(Errno::NOENT | Errno::NOTDIR) => self.missing.push(next.clone()),
                Err(error) => return Err(failed(error)),
            }
            here = next;
        }
        let above = above.unwrap_or_default();
        if !self.parents.iter().any(|(known, _)| *known == above) {
            let dir = open_in_root(&self.root, &above, OFlags::PATH).map_err(failed)?;
            let stat = rustix::fs::fstat(&dir).map_err(failed)?;
            let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 };
            self.parents.push((above, Timestamps { last_access: time, last_modification: time }));
        }
        Ok(())
    }

    /// Takes away what was made and is still empty.
    pub(crate) fn clear(mut self) -> Result<()> {
        self.missing.sort();
        self.missing.dedup();
        let mut cleared = false;
        for path in self.missing.iter().rev() {
            cleared |= self.remove(path)?;
        }
        // A directory that something else happened to keeps its new time, unless only we were there.
        for (path, times) in self.parents.iter().filter(|_| cleared) {
            if let Ok(dir) = open_in_root(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
                rustix::fs::futimens(&dir, times)
                    .map_err(|e| Error::io(format_args!("set times of {path}"), e))?;
            }
        }
        Ok(())
    }

    fn remove(&self, path: &TreePath) -> Result<bool> {
        let Some((above, name)) = path.split() else { return Ok(false) };
        let Ok(dir) = open_in_root(&self.root, &above, OFlags::PATH | OFlags::DIRECTORY) else {
            return Ok(false);
        };
        let Ok(stat) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(false) };
        let removed = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR),
            FileType::RegularFile if stat.st_size == 0 => rustix::fs::unlinkat(&dir, name, AtFlags::empty()),
            _ => return Ok(false),
        };
        match removed {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(false),
            Err(error) => Err(Error::io(format_args!("remove {path}"), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn only_what_was_made_goes() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/hosts"), "").unwrap();
        let before = std::fs::metadata(root.path().join("etc")).unwrap();
        let stubs = Stubs::note(root.path(), ["/a/b"].into_iter()).unwrap();
        for path in ["proc", "a/b"] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        std::fs::write(root.path().join("etc/resolv.conf"), "").unwrap();
        std::fs::write(root.path().join("a/kept"), "x").unwrap();
        stubs.clear().unwrap();
        let after = std::fs::metadata(root.path().join("etc")).unwrap();
        assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
        assert!(root.path().join("etc/hosts").exists() && root.path().join("a/kept").exists());
        for path in ["etc/resolv.conf", "proc", "a/b"] {
            assert!(!root.path().join(path).exists(), "{path}");
        }
    }
}

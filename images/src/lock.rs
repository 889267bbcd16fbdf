//! Advisory locks between tasks and processes, by flock on a file.
//!
//! A lock belongs to an open file description, so it also excludes two tasks of one process, and the kernel drops
//! it when its holder dies, however it dies: a lock that can be had proves that its former owner is gone.

use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open, stat};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct FileLock {
    path: PathBuf,
    held: OwnedFd,
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // It goes with the last descriptor in any case, but a child that has not begun its own program yet has one too,
        // and whoever only tries would take us for alive.
        let _ = flock(&self.held, FlockOperation::Unlock);
    }
}

impl FileLock {
    /// Waits until nobody else holds it.
    pub(crate) fn exclusive(path: &Path) -> Result<Self> {
        Self::acquire(path, FlockOperation::LockExclusive)?.ok_or_else(|| Error::invalid("lock refused"))
    }

    /// Waits until nobody holds it exclusively.
    pub(crate) fn shared(path: &Path) -> Result<Self> {
        Self::acquire(path, FlockOperation::LockShared)?.ok_or_else(|| Error::invalid("lock refused"))
    }

    /// None where somebody holds it.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        Self::acquire(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Waits for the lock of a directory itself, which leaves no file behind.
    pub(crate) fn directory(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let held = open(path, flags, Mode::empty()).map_err(|e| Error::path("open", path, e))?;
        rustix::io::retry_on_intr(|| flock(&held, FlockOperation::LockExclusive))
            .map_err(|e| Error::path("flock", path, e))?;
        Ok(Self { path: path.to_owned(), held })
    }

    /// Lock files are removed by their holders, so a lock counts only if the file still has its name afterwards.
    fn acquire(path: &Path, operation: FlockOperation) -> Result<Option<Self>> {
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file =
                open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| Error::path("open", path, e))?;
            match flock(&file, operation) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(Error::path("flock", path, error)),
                Ok(()) => {}
            }
            let held = fstat(&file).map_err(|e| Error::path("fstat", path, e))?;
            match stat(path) {
                Ok(named) if named.st_ino == held.st_ino => {
                    return Ok(Some(Self { path: path.to_owned(), held: file }));
                }
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(Error::path("stat", path, error)),
            }
        }
    }

    /// Removes the file and lets go, in this order: a waiter that got the old file notices and tries again.
    pub(crate) fn remove(self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::path("unlink", &self.path, error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excludes_and_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::exclusive(&path).unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        held.remove().unwrap();
        assert!(!path.exists());
        let shared = FileLock::shared(&path).unwrap();
        let again = FileLock::shared(&path).unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop((shared, again));
        assert!(FileLock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn what_is_given_back_is_free_though_a_copy_of_its_descriptor_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::exclusive(&path).unwrap();
        let copy = held.held.try_clone().unwrap();
        drop(held);
        assert!(FileLock::try_exclusive(&path).unwrap().is_some());
        drop(copy);
    }

    #[test]
    fn a_removed_lock_file_does_not_split_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let count = std::sync::atomic::AtomicUsize::new(0);
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let lock = FileLock::exclusive(&path).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        lock.remove().unwrap();
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 400);
    }
}

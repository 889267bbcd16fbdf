//! What the ledger's directory holds, as it was last seen: read anew only where somebody else has changed it.
//!
//! Whoever changes anything counts first, in the file of the lock that he holds. The times of the directories are compared
//! too, for processes of versions that do not count. With 256 pods it was reading them that let other pods wait.

use super::{Allocation, LEAVING, PODS};
use rustix::fs::Stat;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// As it is written: always as long.
const DIGITS: usize = 20;

/// The directory's content, as far as it was looked at.
#[derive(Debug, Default)]
pub(super) struct Known {
    stamp: Option<Stamp>,
    pods: Option<Vec<Allocation>>,
    leaving: Option<Vec<Allocation>>,
}

/// By what a change is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    count: u64,
    directories: [(u64, i64, i64); 2],
}

impl Stamp {
    fn read(dir: &Path, lock: &File) -> io::Result<Self> {
        let mut digits = [0; DIGITS];
        let length = lock.read_at(&mut digits, 0)?;
        let text = std::str::from_utf8(digits.get(..length).unwrap_or_default()).unwrap_or_default();
        // A lock without a number is that of a version that did not count.
        let count = text.trim().parse().unwrap_or_default();
        Ok(Self { count, directories: Self::times(dir)? })
    }

    fn times(dir: &Path) -> io::Result<[(u64, i64, i64); 2]> {
        let time = |name: &str| -> io::Result<_> {
            let found: Stat = rustix::fs::stat(dir.join(name))?;
            Ok((found.st_ino, found.st_mtime, i64::try_from(found.st_mtime_nsec).unwrap_or_default()))
        };
        Ok([time(PODS)?, time(LEAVING)?])
    }
}

impl Known {
    /// Forgets what is not true any more; the lock is held.
    pub(super) fn check(&mut self, dir: &Path, lock: &File) -> io::Result<()> {
        let stamp = Stamp::read(dir, lock)?;
        if self.stamp.as_ref() != Some(&stamp) {
            *self = Self { stamp: Some(stamp), ..Self::default() };
        }
        Ok(())
    }

    /// The records of a directory, if they are known.
    pub(super) fn of(&mut self, kind: &str) -> &mut Option<Vec<Allocation>> {
        if kind == PODS { &mut self.pods } else { &mut self.leaving }
    }

    /// Tells everybody else that something is about to change.
    pub(super) fn count(&mut self, lock: &File) -> io::Result<()> {
        let stamp = self.stamp.get_or_insert(Stamp { count: 0, directories: Default::default() });
        stamp.count = stamp.count.wrapping_add(1);
        lock.write_all_at(format!("{:<width$}", stamp.count, width = DIGITS).as_bytes(), 0)
    }

    /// What we changed ourselves is known.
    pub(super) fn keep(&mut self, dir: &Path) -> io::Result<()> {
        let directories = Stamp::times(dir)?;
        if let Some(stamp) = &mut self.stamp {
            stamp.directories = directories;
        }
        Ok(())
    }
}

//! What is being worked on and must not be collected, although no image names it yet.
//!
//! A lease is a locked file in `leases/` that lists digests. It is written under the store's lock, which the
//! collector holds while it looks, so a pull is seen either with its lease or before it has looked for anything
//! itself. A lease whose lock can be had belongs to a dead process and counts for nothing.

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::lock::FileLock;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Protects digests until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    path: PathBuf,
    lock: Option<FileLock>,
}

/// All leases of a store.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    directory: PathBuf,
    lock: PathBuf,
}

impl Leases {
    pub(crate) fn open(root: &Path, lock: &Path) -> Result<Self> {
        let directory = root.join("leases");
        std::fs::create_dir_all(&directory).map_err(|e| Error::path("mkdir", &directory, e))?;
        Ok(Self { directory, lock: lock.to_owned() })
    }

    /// Protects these from now on.
    pub(crate) fn take<'a>(&self, digests: impl Iterator<Item = &'a Digest>) -> Result<Lease> {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.directory.join(format!("{}-{number}", std::process::id()));
        let text: String = digests.map(|digest| format!("{digest}\n")).collect();
        let _no_collector = FileLock::shared(&self.lock)?;
        let lock = FileLock::exclusive(&path)?;
        std::fs::write(&path, text).map_err(|e| Error::path("write", &path, e))?;
        Ok(Lease { path, lock: Some(lock) })
    }

    /// Lets a lease protect these too: whoever learns one digest after the other needs one lease for all of them.
    pub(crate) fn extend<'a>(&self, lease: &Lease, digests: impl Iterator<Item = &'a Digest>) -> Result<()> {
        let text: String = digests.map(|digest| format!("{digest}\n")).collect();
        let _no_collector = FileLock::shared(&self.lock)?;
        let mut file = std::fs::File::options()
            .append(true)
            .open(&lease.path)
            .map_err(|e| Error::path("open", &lease.path, e))?;
        std::io::Write::write_all(&mut file, text.as_bytes())
            .map_err(|e| Error::path("write", &lease.path, e))
    }

    /// Everything under a living lease. Only the collector calls this, under the store's lock; it removes dead ones.
    pub(crate) fn protected(&self) -> Result<HashSet<Digest>> {
        let failed = |e| Error::path("readdir", &self.directory, e);
        let mut protected = HashSet::new();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let text = match std::fs::read_to_string(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(|e| Error::path("read", &path, e))?,
            };
            match FileLock::try_exclusive(&path)? {
                Some(dead) => dead.remove()?,
                None => protected.extend(text.lines().filter_map(|line| Digest::parse(line).ok())),
            }
        }
        Ok(protected)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            // What stays is a dead lease, which the next collection removes.
            let _ = lock.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protects_while_alive() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::open(dir.path(), &dir.path().join("lock")).unwrap();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let first = leases.take([&one].into_iter()).unwrap();
        let second = leases.take([&one, &two].into_iter()).unwrap();
        assert_eq!(leases.protected().unwrap().len(), 2);
        drop(second);
        assert_eq!(leases.protected().unwrap(), HashSet::from([one.clone()]));
        leases.extend(&first, [&two].into_iter()).unwrap();
        assert_eq!(leases.protected().unwrap(), HashSet::from([one, two.clone()]));
        drop(first);
        std::fs::write(dir.path().join("leases/1-1"), two.as_str()).unwrap();
        assert!(leases.protected().unwrap().is_empty(), "nobody holds it");
        assert_eq!(std::fs::read_dir(dir.path().join("leases")).unwrap().count(), 0);
    }
}

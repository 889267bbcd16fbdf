//! What steps gave, by everything that went into them: a step whose key is known is not run again.
//!
//! A key is a digest over the layers beneath, the instruction with its variables replaced, and the contents it takes.
//! An entry names a layer, which it keeps from being collected. Until a sync made the layer durable an entry counts
//! only for the boot it was written in: after a power cut nobody can trust what it names.

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::Descriptor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Entries that no build has used for so long are dropped by the next build.
pub(crate) const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// A step's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) blob: Descriptor,
    pub(crate) diff_id: Digest,
    pub(crate) chain_id: Digest,
    /// Seconds since 1970 of its newest file.
    pub(crate) newest: i64,
    /// The boot that this counts for; all, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
}

/// A step that changed nothing has an entry without a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<Entry>,
}

impl Outcome {
    pub(crate) fn of_layer(blob: Descriptor, diff_id: Digest, chain_id: Digest, newest: i64) -> Self {
        Self { layer: Some(Entry { blob, diff_id, chain_id, newest, boot: None }) }
    }
}

/// All entries of a store.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    directory: PathBuf,
    boot: String,
}

impl Cache {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|e| Error::io("read boot_id", e))?;
        Ok(Self { directory: root.join("build/cache"), boot: boot.trim().to_owned() })
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.directory.join(key.hex())
    }

    /// What a step with this key gave, if it ever ran.
    pub(crate) fn get(&self, key: &Digest) -> Result<Option<Outcome>> {
        let path = self.path(key);
        let Some(outcome) = self.read(&path)? else { return Ok(None) };
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        // Only tells how lately it was used; whoever removed it meanwhile makes no difference.
        let _ = rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty());
        Ok(Some(outcome))
    }

    /// An entry that cannot be read is none: the step runs again.
    fn read(&self, path: &Path) -> Result<Option<Outcome>> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| Error::path("read", path, e))?,
        };
        let outcome: Option<Outcome> = serde_json::from_slice(&bytes).ok();
        let counts = |outcome: &Outcome| {
            let boot = outcome.layer.as_ref().and_then(|layer| layer.boot.as_ref());
            boot.is_none_or(|boot| *boot == self.boot)
        };
        Ok(outcome.filter(counts))
    }

    /// Remembers a result for this boot.
    pub(crate) fn put(&self, key: &Digest, outcome: &Outcome) -> Result<()> {
        let mut outcome = outcome.clone();
        if let Some(layer) = &mut outcome.layer {
            layer.boot = Some(self.boot.clone());
        }
        self.write(key, &outcome)
    }

    /// Makes an entry count for every boot. Its layer must be durable.
    pub(crate) fn confirm(&self, key: &Digest) -> Result<()> {
        match self.read(&self.path(key))? {
            Some(Outcome { layer: Some(layer) }) if layer.boot.is_some() => {
                self.write(key, &Outcome { layer: Some(Entry { boot: None, ..layer }) })
            }
            _ => Ok(()),
        }
    }

    fn write(&self, key: &Digest, outcome: &Outcome) -> Result<()> {
        let failed = |e| Error::path("write in", &self.directory, e);
        std::fs::create_dir_all(&self.directory).map_err(failed)?;
        let text = serde_json::to_vec(outcome).map_err(|e| Error::invalid(e.to_string()))?;
        let file = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed)?;
        std::fs::write(file.path(), text).map_err(failed)?;
        file.persist(self.path(key)).map(drop).map_err(|e| failed(e.error))
    }

    fn paths(&self) -> Result<Vec<PathBuf>> {
        let failed = |e| Error::path("readdir", &self.directory, e);
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
    }

    /// Every layer that an entry keeps.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        for path in self.paths()? {
            found.extend(self.read(&path)?.and_then(|outcome| outcome.layer));
        }
        Ok(found)
    }

    /// Forgets what was not used for so long.
    pub(crate) fn forget(&self, unused_for: Duration) -> Result<()> {
        self.forget_down_to(unused_for, 0)
    }

    /// The same, but so many bytes of layers stay, of those that were used last.
    pub(crate) fn forget_down_to(&self, unused_for: Duration, keep: u64) -> Result<()> {
        let limit = SystemTime::now().checked_sub(unused_for).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut entries = Vec::new();
        for path in self.paths()? {
            // Whoever removed it meanwhile has done what is asked for.
            if let Ok(used) = std::fs::metadata(&path).and_then(|meta| meta.modified()) {
                entries.push((used, path));
            }
        }
        entries.sort_by(|a, b| b.cmp(a));
        let (mut held, mut bytes) = (BTreeSet::new(), 0);
        for (used, path) in entries {
            let layer = self.read(&path)?.and_then(|outcome| outcome.layer);
            if let Some(layer) = layer.filter(|layer| held.insert(layer.blob.digest.clone())) {
                bytes += layer.blob.size;
            }
            if used <= limit && (keep == 0 || bytes > keep) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::path("unlink", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let keys = ["old", "middle", "new"].map(|name| Digest::of(name.as_bytes()));
        for (age, key) in keys.iter().rev().enumerate() {
            let blob = Descriptor::new("t", key.clone(), 10);
            cache.put(key, &Outcome::of_layer(blob, key.clone(), key.clone(), 5)).unwrap();
            let used = SystemTime::now() - Duration::from_secs(3600 * age as u64);
            std::fs::File::open(cache.path(key)).unwrap().set_modified(used).unwrap();
        }
        let here = || keys.each_ref().map(|key| cache.path(key).exists());
        cache.forget_down_to(Duration::ZERO, 1000).unwrap();
        assert_eq!(here(), [true, true, true]);
        cache.forget_down_to(Duration::ZERO, 20).unwrap();
        assert_eq!(here(), [false, true, true]);
        cache.forget(Duration::from_secs(1800)).unwrap();
        assert_eq!(here(), [false, false, true]);
        cache.forget(Duration::ZERO).unwrap();
        assert_eq!(here(), [false, false, false]);
    }

    #[test]
    fn counts_for_this_boot_until_it_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let other = Cache { boot: "another".into(), ..cache.clone() };
        let (key, digest) = (Digest::of(b"key"), Digest::of(b"x"));
        let outcome =
            Outcome::of_layer(Descriptor::new("t", digest.clone(), 1), digest.clone(), digest.clone(), 5);
        cache.put(&key, &outcome).unwrap();
        assert!(cache.get(&key).unwrap().is_some() && other.get(&key).unwrap().is_none());
        cache.confirm(&key).unwrap();
        assert_eq!(other.get(&key).unwrap(), Some(outcome));
        assert_eq!(other.entries().unwrap().len(), 1);
        std::fs::write(dir.path().join("build/cache").join(key.hex()), "{").unwrap();
        assert_eq!(cache.get(&key).unwrap(), None);
        cache.forget(KEEP).unwrap();
        assert_eq!(cache.paths().unwrap().len(), 1);
        cache.forget(Duration::ZERO).unwrap();
        assert_eq!(cache.paths().unwrap().len(), 0);
    }
}

//! Records on disk: one JSON file per sandbox and per container under `DATA_DIR/engine`, replaced atomically.
//!
//! Files are written to a temporary name and renamed, so a reader (the next engine) sees the old or the new record,
//! never half of one. Most are not synced: a process that dies loses nothing, and what a power failure can lose
//! belongs to processes that the same failure ended. How a container ended is: once somebody was told of an exit code, a
//! reboot must not make another of it. A file that cannot be read is reported by its id, so that what belongs to it can
//! still be torn down by name.

use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

static WRITES: AtomicU64 = AtomicU64::new(0);

/// One directory of records of one type.
#[derive(Debug)]
pub(crate) struct RecordStore<T> {
    directory: PathBuf,
    kind: PhantomData<fn() -> T>,
}

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    pub(crate) records: Vec<T>,
    /// Ids whose record cannot be read, with the reason.
    pub(crate) unreadable: Vec<(String, anyhow::Error)>,
}

impl<T: Serialize + DeserializeOwned> RecordStore<T> {
    /// Opens or creates the directory, readable by root only (environments hold secrets).
    pub(crate) fn open(directory: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        rustix::fs::chmod(&directory, rustix::fs::Mode::from_raw_mode(0o700))
            .with_context(|| format!("changing the mode of {}", directory.display()))?;
        Ok(Self { directory, kind: PhantomData })
    }

    /// Writes or replaces the record of `id`.
    pub(crate) fn put(&self, id: &str, record: &T) -> anyhow::Result<()> {
        self.write(id, record, false)
    }

    /// The same, and it survives a power failure from now on.
    pub(crate) fn put_synced(&self, id: &str, record: &T) -> anyhow::Result<()> {
        self.write(id, record, true)
    }

    fn write(&self, id: &str, record: &T, synced: bool) -> anyhow::Result<()> {
        let path = self.path(id);
        // Of each write its own: an engine that is about to end may still write what its successor writes.
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!("{id}.{}-{number}.tmp", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            std::io::Write::write_all(&mut file, &serde_json::to_vec(record)?)?;
            if synced {
                file.sync_data()?;
            }
            std::fs::rename(&temporary, &path)?;
            if synced { std::fs::File::open(&self.directory)?.sync_all() } else { Ok(()) }
        };
        write()
            .inspect_err(|_| drop(std::fs::remove_file(&temporary)))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Removes the record of `id`; fine if there is none.
    pub(crate) fn remove(&self, id: &str) -> anyhow::Result<()> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Reads everything; left-over temporary files are removed.
    pub(crate) fn load(&self) -> anyhow::Result<Loaded<T>> {
        let mut loaded = Loaded { records: Vec::new(), unreadable: Vec::new() };
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let Some(id) = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) else {
                continue;
            };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => match read(&path) {
                    Ok(record) => loaded.records.push(record),
                    Err(error) => loaded.unreadable.push((id, error)),
                },
                Some("tmp") => drop(std::fs::remove_file(&path)),
                _ => {}
            }
        }
        Ok(loaded)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let json = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&json).with_context(|| format!("parsing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_loaded_and_broken_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let store = RecordStore::<Vec<u32>>::open(directory.path().join("x")).unwrap();
        store.put("a", &vec![1]).unwrap();
        store.put_synced("a", &vec![1, 2]).unwrap();
        store.put("gone", &vec![]).unwrap();
        store.remove("gone").unwrap();
        store.remove("gone").unwrap();
        std::fs::write(directory.path().join("x/broken.json"), b"{").unwrap();
        std::fs::write(directory.path().join("x/half.tmp"), b"{").unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.records, vec![vec![1, 2]]);
        assert_eq!(loaded.unreadable.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["broken"]);
        assert!(!directory.path().join("x/half.tmp").exists());
    }
}

//! Blobs as files: `blobs/sha256/HEX` whole ones, `ingest/HEX` what is being written, `ingest/HEX.lock` by whom.

use crate::content::{ContentStore, Ingest};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::writeback::Writeback;
use crate::lock::FileLock;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file system implementation.
#[derive(Debug)]
pub(crate) struct BlobDirectory {
    blobs: PathBuf,
    ingest: PathBuf,
    trash: PathBuf,
}

impl BlobDirectory {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let store =
            Self { blobs: root.join("blobs/sha256"), ingest: root.join("ingest"), trash: root.join("trash") };
        for dir in [&store.blobs, &store.ingest, &store.trash] {
            std::fs::create_dir_all(dir).map_err(|e| Error::path("mkdir", dir, e))?;
        }
        Ok(store)
    }

    /// Where a blob is or will be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }
}

impl ContentStore for BlobDirectory {
    fn stat(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.path(digest);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::path("stat", &path, error)),
        }
    }

    fn open(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, format!("blob {digest}: not found"))
            }
            _ => Error::path("open", &path, error),
        })
    }

    fn ingest(&self, digest: &Digest) -> Result<Option<Box<dyn Ingest>>> {
        if self.stat(digest)?.is_some() {
            return Ok(None);
        }
        let partial = self.ingest.join(digest.hex());
        let lock = FileLock::exclusive(&partial.with_extension("lock"))?;
        if self.stat(digest)?.is_some() {
            lock.remove()?;
            return Ok(None);
        }
        let file = match File::options().read(true).append(true).create(true).open(&partial) {
            Ok(file) => file,
            Err(error) => {
                lock.remove()?;
                return Err(Error::path("open", &partial, error));
            }
        };
        let kept = file.metadata().map_err(|e| Error::path("fstat", &partial, e))?.len();
        Ok(Some(Box::new(FileIngest {
            digest: digest.clone(),
            destination: self.path(digest),
            partial,
            file,
            lock: Some(lock),
            hasher: Hasher::default(),
            kept,
            written: 0,
            writeback: Writeback::default(),
        })))
    }

    fn remove(&self, digest: &Digest) -> Result<()> {
        crate::snapshot::discard(&self.path(digest), &self.trash)
    }

    fn walk(&self) -> Result<Vec<(Digest, u64)>> {
        let failed = |e| Error::path("readdir", &self.blobs, e);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.blobs).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = format!("sha256:{}", entry.file_name().to_string_lossy());
            let Ok(digest) = Digest::parse(&name) else { continue };
            match entry.metadata() {
                Ok(meta) => found.push((digest, meta.len())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(found)
    }

    fn forget_partial(&self, age: Duration) -> Result<u64> {
        let failed = |e| Error::path("readdir", &self.ingest, e);
        let mut bytes = 0;
        for entry in std::fs::read_dir(&self.ingest).map_err(failed)? {
            // A lock may be left without what it was for.
            bytes += forget(&entry.map_err(failed)?.path().with_extension(""), age)?;
        }
        Ok(bytes)
    }
}

fn forget(partial: &Path, age: Duration) -> Result<u64> {
    let Some(lock) = FileLock::try_exclusive(&partial.with_extension("lock"))? else { return Ok(0) };
    let mut bytes = 0;
    if let Ok(meta) = std::fs::symlink_metadata(partial)
        && meta.modified().is_ok_and(|then| then.elapsed().unwrap_or_default() >= age)
    {
        bytes = meta.len();
        crate::layer::removal::remove_path(partial)?;
    }
    lock.remove()?;
    Ok(bytes)
}

/// One blob being written.
#[derive(Debug)]
struct FileIngest {
    digest: Digest,
    destination: PathBuf,
    partial: PathBuf,
    file: File,
    lock: Option<FileLock>,
    hasher: Hasher,
    kept: u64,
    /// Bytes hashed so far: the kept ones, then the new ones.
    written: u64,
    writeback: Writeback,
}

impl Ingest for FileIngest {
    fn kept(&self) -> u64 {
        self.kept
    }

    fn replay(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let left = usize::try_from(self.kept - self.written.min(self.kept)).unwrap_or(usize::MAX);
        let end = left.min(buffer.len());
        let window = buffer.get_mut(..end).unwrap_or_default();
        let count = self.file.read(window).map_err(|e| Error::path("read", &self.partial, e))?;
        self.hasher.update(window.get(..count).unwrap_or_default());
        self.written += count as u64;
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::path("write", &self.partial, e))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.writeback.reached(&self.file, self.written);
        Ok(())
    }

    fn commit(mut self: Box<Self>, size: u64) -> Result<()> {
        let actual = std::mem::take(&mut self.hasher).finish();
        let written = self.written;
        let right_size = if written == size {
            Ok(())
        } else {
            let message = format!("blob {}: {written} bytes, expected {size}", self.digest);
            Err(Error::new(ErrorKind::Mismatch, message))
        };
        let checked = right_size.and_then(|()| self.digest.verify(&actual, &format!("blob {}", self.digest)));
        if let Err(error) = checked {
            crate::layer::removal::remove_path(&self.partial)?;
            return Err(error);
        }
        let renamed = std::fs::rename(&self.partial, &self.destination);
        renamed.map_err(|e| Error::path("rename", &self.partial, e))?;
        self.lock.take().map_or(Ok(()), FileLock::remove)
    }
}

impl Drop for FileIngest {
    /// An attempt that got nothing leaves nothing.
    fn drop(&mut self) {
        if self.lock.is_some() && self.written == 0 && self.kept == 0 {
            // Reporting is impossible here; an empty file is swept at the next start.
            let _ = std::fs::remove_file(&self.partial);
        }
        if let Some(lock) = self.lock.take() {
            let _ = lock.remove();
        }
    }
}

//! Which images there are: one small JSON file, replaced whole.
//!
//! A record is written only after everything it names is durable (one `syncfs` before it), and the file itself is
//! synced before and after its rename. So whatever this file lists is whole, after a power cut as well. Readers
//! take no lock; writers and the garbage collector exclude each other by the store's lock.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::policy::signature::Signature;
use crate::reference::Reference;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One image: what it is called and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The manifest that was pulled for this platform.
    pub(crate) manifest: Digest,
    /// The index it was chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<Digest>,
    /// Compressed layers, bottom first.
    pub(crate) blobs: Vec<Digest>,
    /// Unpacked layers by chain id, bottom first.
    pub(crate) chain: Vec<Digest>,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) pinned: bool,
    /// Seconds since 1970.
    pub(crate) pulled: u64,
    #[serde(default)]
    pub(crate) tags: BTreeSet<String>,
    #[serde(default)]
    pub(crate) digests: BTreeSet<String>,
    /// What the policy asked for when it was pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) signatures: Vec<Signature>,
}

impl Record {
    /// The layer that containers of this image stand on.
    pub(crate) fn top(&self) -> Option<&Digest> {
        self.chain.last()
    }

    /// Blobs that must stay: documents and layers.
    pub(crate) fn content(&self) -> impl Iterator<Item = &Digest> {
        self.blobs.iter().chain([&self.manifest]).chain(&self.index)
    }

    /// Whether this name (rather than an id) leads to it.
    pub(crate) fn is_called(&self, name: &Reference) -> bool {
        let name = name.to_string();
        self.tags.contains(&name) || self.digests.contains(&name)
    }

    /// Adds signatures; those of another manifest of the same image do no harm.
    pub(crate) fn sign(&mut self, signatures: Vec<Signature>) {
        for signature in signatures {
            if !self.signatures.contains(&signature) {
                self.signatures.push(signature);
            }
        }
    }

    pub(crate) fn image(&self, id: &Digest) -> Image {
        Image {
            id: id.to_string(),
            tags: self.tags.iter().cloned().collect(),
            digests: self.digests.iter().cloned().collect(),
            size: self.size,
            pinned: self.pinned,
        }
    }
}

/// All images by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalog {
    #[serde(default)]
    pub(crate) images: BTreeMap<Digest, Record>,
}

impl Catalog {
    /// Adds what was pulled: names move here from whichever image had them, and names it already had stay.
    pub(crate) fn insert(&mut self, id: &Digest, mut record: Record) {
        for tag in &record.tags {
            self.release(tag);
        }
        if let Some(old) = self.images.remove(id) {
            record.tags.extend(old.tags);
            record.digests.extend(old.digests);
            record.pinned |= old.pinned;
            record.sign(old.signatures);
        }
        self.images.insert(id.clone(), record);
    }

    /// Takes a tag from whoever has it.
    pub(crate) fn release(&mut self, tag: &str) -> Option<Digest> {
        let (id, record) = self.images.iter_mut().find(|(_, record)| record.tags.contains(tag))?;
        record.tags.remove(tag);
        Some(id.clone())
    }

    pub(crate) fn expect(&self, id: &str) -> Result<(&Digest, &Record)> {
        let found = self.images.iter().find(|(known, _)| known.as_str() == id);
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("image {id}: not found")))
    }
}

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct CatalogFile {
    path: PathBuf,
}

impl CatalogFile {
    pub(crate) fn new(root: &Path) -> Self {
        Self { path: root.join("images.json") }
    }

    pub(crate) fn read(&self) -> Result<Catalog> {
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Error::new(ErrorKind::Io, format!("{}: {e}", self.path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Catalog::default()),
            Err(error) => Err(Error::path("read", &self.path, error)),
        }
    }

    /// Replaces the file. The caller holds the store's lock.
    pub(crate) fn write(&self, catalog: &Catalog) -> Result<()> {
        let text = serde_json::to_vec_pretty(catalog).map_err(|e| Error::invalid(e.to_string()))?;
        let root = self.path.parent().unwrap_or(Path::new("."));
        let failed = |e: std::io::Error| Error::path("write", &self.path, e);
        let mut file = tempfile::NamedTempFile::new_in(root).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&self.path).map_err(|e| failed(e.error))?;
        let directory = std::fs::File::open(root).map_err(failed)?;
        directory.sync_all().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tag: &str) -> Record {
        Record {
            manifest: Digest::of(tag.as_bytes()),
            index: None,
            blobs: Vec::new(),
            chain: Vec::new(),
            size: 1,
            pinned: false,
            pulled: 0,
            tags: BTreeSet::from([tag.to_owned()]),
            digests: BTreeSet::new(),
            signatures: Vec::new(),
        }
    }

    #[test]
    fn names_move_and_survive() {
        let mut catalog = Catalog::default();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        catalog.insert(&one, record("a"));
        catalog.insert(&one, record("b"));
        assert_eq!(catalog.images[&one].tags.len(), 2);
        catalog.insert(&two, record("a"));
        assert_eq!(catalog.images[&one].tags, BTreeSet::from(["b".to_owned()]));
        let dir = tempfile::tempdir().unwrap();
        let file = CatalogFile::new(dir.path());
        assert_eq!(file.read().unwrap(), Catalog::default());
        file.write(&catalog).unwrap();
        assert_eq!(file.read().unwrap(), catalog);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

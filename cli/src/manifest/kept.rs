//! Lists of manifests that are being made.
//!
//! ```text
//! DATA_DIR/manifests/HEX.json  one list, under the digest of its name; appears whole
//! ```

use crate::settings::Settings;
use anyhow::{Context, anyhow};
use knarr_images::{Digest, Reference, RemoteManifest};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::PathBuf;

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct List {
    /// The whole name.
    pub(super) name: String,
    /// In the order of their names as Docker's files of them have it, so that both make the same list.
    pub(super) members: Vec<RemoteManifest>,
}

impl List {
    pub(super) fn new(name: &str) -> anyhow::Result<Self> {
        Ok(Self { name: Reference::parse(name)?.to_string(), members: Vec::new() })
    }

    /// In the place of the one that has its name.
    pub(super) fn add(&mut self, manifest: RemoteManifest) {
        self.members.retain(|known| known.name != manifest.name);
        self.members.push(manifest);
        self.members.sort_by_cached_key(|known| known.name.replace(':', "-").replace('/', "_"));
    }

    pub(super) fn member(&self, name: &str) -> anyhow::Result<&RemoteManifest> {
        let whole = Reference::parse(name)?.to_string();
        self.members.iter().find(|known| known.name == whole).ok_or_else(|| no_such(&whole))
    }

    pub(super) fn member_mut(&mut self, name: &str) -> anyhow::Result<&mut RemoteManifest> {
        let whole = Reference::parse(name)?.to_string();
        self.members.iter_mut().find(|known| known.name == whole).ok_or_else(|| no_such(&whole))
    }
}

/// All of them.
pub(super) struct Kept {
    directory: PathBuf,
}

impl Kept {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { directory: settings.node.data_dir.join("manifests") }
    }

    fn file(&self, whole: &str) -> PathBuf {
        self.directory.join(format!("{}.json", Digest::of(whole.as_bytes()).hex()))
    }

    pub(super) fn find(&self, name: &str) -> anyhow::Result<Option<List>> {
        let file = self.file(&Reference::parse(name)?.to_string());
        match std::fs::read(&file) {
            Ok(text) => {
                serde_json::from_slice(&text).with_context(|| format!("{}", file.display())).map(Some)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
        }
    }

    pub(super) fn expect(&self, name: &str) -> anyhow::Result<List> {
        let whole = Reference::parse(name)?.to_string();
        self.find(name)?.ok_or_else(|| no_such(&whole))
    }

    pub(super) fn keep(&self, list: &List) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.directory)
            .with_context(|| format!("create {}", self.directory.display()))?;
        let mut new = tempfile::NamedTempFile::new_in(&self.directory)?;
        serde_json::to_writer(&mut new, list)?;
        let file = self.file(&list.name);
        new.persist(&file).map(drop).with_context(|| format!("write {}", file.display()))
    }

    pub(super) fn forget(&self, name: &str) -> anyhow::Result<()> {
        let whole = Reference::parse(name)?.to_string();
        match std::fs::remove_file(self.file(&whole)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(no_such(&whole)),
            other => Ok(other?),
        }
    }
}

fn no_such(name: &str) -> anyhow::Error {
    anyhow!("No such manifest: {name}")
}

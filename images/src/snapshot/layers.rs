//! Unpacked layers by chain id, shared by every image and container that stands on them.
//!
//! ```text
//! layers/HEX/layer.json     parent, diff id, size; its age says when the layer was last used
//! layers/HEX/fs/            the layer's files: overlay's lower directory
//! layers/HEX/layer.erofs    or all of them in one image, mounted at fs while a snapshot stands on it
//! staging/HEX.lock, HEX/    a layer being unpacked, and by whom
//! ```
//!
//! A layer appears by one rename, whole. It is trusted without looking inside: whoever opens the store first after
//! a boot drops every layer that no durable image record names (see `store::open`).

use crate::digest::Digest;
use crate::erofs::{ErofsSink, mounts_from};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::directory::DirectorySink;
use crate::layer::idle_whiteouts::{drop_in_directory, drop_in_tree};
use crate::layer::inherit::{Below, inherit, inherit_tree};
use crate::layer::removal::remove_path;
use crate::layer::unpack::{LayerSink, Unpacked};
use crate::lock::FileLock;
use crate::manifest::LayerPlan;
use crate::mount::Mount;
use crate::options::LayerKind;
use crate::snapshot::discard;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What is known about an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) parent: Option<Digest>,
    /// Every layer beneath, the topmost first, so that a stack of a hundred is known from one file; records of before
    /// name their parent alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) beneath: Vec<Digest>,
    pub(crate) diff_id: Digest,
    /// Bytes and inodes of its files.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// All layers of a store.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    layers: PathBuf,
    staging: PathBuf,
    trash: PathBuf,
    kind: LayerKind,
    /// Whether this kernel mounts images that lie here; tried when the first layer comes.
    mounts: Arc<OnceLock<bool>>,
}

const RECORD: &str = "layer.json";
const FILES: &str = "fs";
const IMAGE: &str = "layer.erofs";
const EROFS_MAGIC: rustix::fs::FsWord = 0xe0f5_e1e2;

impl Layers {
    /// New layers are held in this way.
    pub(crate) fn open(root: &Path, kind: LayerKind) -> Result<Self> {
        let layers = Self {
            layers: root.join("layers"),
            staging: root.join("staging"),
            trash: root.join("trash"),
            kind,
            mounts: Arc::default(),
        };
        for dir in [&layers.layers, &layers.staging, &layers.trash] {
            std::fs::create_dir_all(dir).map_err(|e| Error::path("mkdir", dir, e))?;
        }
        Ok(layers)
    }

    fn path(&self, chain: &Digest) -> PathBuf {
        self.layers.join(chain.hex())
    }

    /// What is known about a layer, where it is there.
    pub(crate) fn record(&self, chain: &Digest) -> Result<Option<LayerRecord>> {
        let path = self.path(chain).join(RECORD);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| Error::new(ErrorKind::Io, format!("{}: {e}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::path("read", &path, error)),
        }
    }

    /// Whether a layer is there.
    pub(crate) fn has(&self, chain: &Digest) -> bool {
        self.path(chain).join(RECORD).exists()
    }

    /// From this layer down, the topmost first.
    pub(crate) fn stack(&self, chain: Option<&Digest>) -> Result<Vec<Digest>> {
        let mut stack = Vec::new();
        let mut next = chain.cloned();
        while let Some(chain) = next {
            let record = self.record(&chain)?;
            let record =
                record.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("layer {chain}: not found")))?;
            stack.push(chain);
            next = if record.beneath.is_empty() { record.parent } else { None };
            stack.extend(record.beneath);
        }
        Ok(stack)
    }

    /// The lower directories from this layer down, the topmost first, to be mounted on.
    pub(crate) fn roots(&self, chain: Option<&Digest>) -> Result<Vec<PathBuf>> {
        self.stack(chain)?.iter().map(|chain| self.files(chain)).collect()
    }

    /// The same layers to be looked into.
    pub(crate) fn below(&self, chain: Option<&Digest>) -> Result<Vec<Below>> {
        let open = |chain: &Digest| {
            let (files, image) = (self.path(chain).join(FILES), self.path(chain).join(IMAGE));
            if image.exists() { Below::image(&image) } else { Below::directory(&files) }
        };
        self.stack(chain)?.iter().map(open).collect()
    }

    /// Where a layer's files can be seen. An image is mounted on first use; the mount is shared by every container.
    fn files(&self, chain: &Digest) -> Result<PathBuf> {
        let (files, image) = (self.path(chain).join(FILES), self.path(chain).join(IMAGE));
        if is_mounted(&files)? || !image.exists() {
            return Ok(files);
        }
        // Two who mount at once would keep its contents in memory twice.
        let _alone = FileLock::directory(&self.path(chain))?;
        if !is_mounted(&files)? {
            Mount::erofs(image.display().to_string()).mount_at(&files)?;
        }
        Ok(files)
    }

    /// Takes off those of the images that no snapshot stands on; containers that were started from them keep what they
    /// have. The caller holds the store's lock exclusively: a snapshot comes to be under the shared one.
    pub(crate) fn unmount_unused(&self, of: &[Digest], used: &HashSet<Digest>) -> Result<()> {
        for chain in of.iter().filter(|chain| !used.contains(chain) && self.has(chain)) {
            let files = self.path(chain).join(FILES);
            if is_mounted(&files)? {
                Mount::unmount(&files)?;
            }
        }
        Ok(())
    }

    /// How a new layer is held.
    fn kind(&self) -> LayerKind {
        match self.kind {
            LayerKind::Auto if *self.mounts.get_or_init(|| mounts_from(&self.staging)) => LayerKind::Erofs,
            LayerKind::Auto => LayerKind::Directory,
            given => given,
        }
    }

    /// Remembers that a layer was used just now.
    pub(crate) fn touch(&self, chain: &Digest) -> Result<()> {
        let path = self.path(chain).join(RECORD);
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty())
            .map_err(|e| Error::path("utimensat", &path, e))
    }

    /// When a layer was last used.
    pub(crate) fn used(&self, chain: &Digest) -> Option<std::time::SystemTime> {
        std::fs::metadata(self.path(chain).join(RECORD)).and_then(|meta| meta.modified()).ok()
    }

    /// Starts unpacking a layer, after waiting for anybody else who does. None where it is there.
    pub(crate) fn stage(&self, plan: &LayerPlan) -> Result<Option<Stage>> {
        if self.record(&plan.chain_id)?.is_some() {
            return Ok(None);
        }
        let directory = self.staging.join(plan.chain_id.hex());
        let lock = FileLock::exclusive(&directory.with_extension("lock"))?;
        if self.record(&plan.chain_id)?.is_some() {
            lock.remove()?;
            return Ok(None);
        }
        // What a dead owner left.
        remove_path(&directory)?;
        let files = directory.join(FILES);
        std::fs::create_dir_all(&files).map_err(|e| Error::path("mkdir", &files, e))?;
        Ok(Some(Stage { layers: self.clone(), plan: plan.clone(), directory, lock: Some(lock) }))
    }

    /// Takes a layer away; its files go with the trash. Nothing there is no error.
    pub(crate) fn remove(&self, chain: &Digest) -> Result<()> {
        Mount::unmount(&self.path(chain).join(FILES))?;
        discard(&self.path(chain), &self.trash)
    }

    pub(crate) fn walk(&self) -> Result<Vec<Digest>> {
        let failed = |e| Error::path("readdir", &self.layers, e);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.layers).map_err(failed)? {
            let name = format!("sha256:{}", entry.map_err(failed)?.file_name().to_string_lossy());
            found.extend(Digest::parse(&name).ok());
        }
        Ok(found)
    }
}

fn is_mounted(files: &Path) -> Result<bool> {
    let found = rustix::fs::statfs(files).map_err(|e| Error::path("statfs", files, e))?;
    Ok(found.f_type == EROFS_MAGIC)
}

/// A layer being unpacked. Dropping it removes what was unpacked.
#[derive(Debug)]
pub(crate) struct Stage {
    layers: Layers,
    plan: LayerPlan,
    directory: PathBuf,
    lock: Option<FileLock>,
}

impl Stage {
    /// Where the layer's entries go.
    pub(crate) fn sink(&self) -> Result<Box<dyn LayerSink>> {
        match self.layers.kind() {
            LayerKind::Erofs => Ok(Box::new(ErofsSink::new(&self.directory.join(IMAGE))?)),
            LayerKind::Auto | LayerKind::Directory | LayerKind::Copy => {
                Ok(Box::new(DirectorySink::new(&self.directory.join(FILES))?))
            }
        }
    }

    /// Gives the layer its name. Its parent must be there.
    pub(crate) fn commit(mut self, mut unpacked: Unpacked) -> Result<()> {
        let parents = self.layers.below(self.plan.parent.as_ref())?;
        match unpacked.tree.take() {
            None => {
                let files = self.directory.join(FILES);
                if unpacked.whiteouts {
                    drop_in_directory(&files, &parents)?;
                }
                inherit(&files, &unpacked.implicit, &parents)?;
            }
            Some(mut tree) => {
                if unpacked.whiteouts {
                    drop_in_tree(&mut tree, &parents)?;
                }
                inherit_tree(&mut tree, &parents)?;
                crate::erofs::write(&self.directory.join(IMAGE), &tree)?;
            }
        }
        let record = LayerRecord {
            parent: self.plan.parent.clone(),
            beneath: self.layers.stack(self.plan.parent.as_ref())?,
            diff_id: self.plan.diff_id.clone(),
            bytes: unpacked.bytes,
            inodes: unpacked.inodes,
        };
        let text = serde_json::to_vec(&record).map_err(|e| Error::invalid(e.to_string()))?;
        let path = self.directory.join(RECORD);
        std::fs::write(&path, text).map_err(|e| Error::path("write", &path, e))?;
        let destination = self.layers.path(&self.plan.chain_id);
        std::fs::rename(&self.directory, &destination)
            .map_err(|e| Error::path("rename to", &destination, e))?;
        self.lock.take().map_or(Ok(()), FileLock::remove)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            // An error here leaves files behind that the next start sweeps.
            let _ = remove_path(&self.directory);
            let _ = lock.remove();
        }
    }
}

//! What a store consists of, for the operations that work on it.

use crate::catalog::{Catalog, CatalogFile};
use crate::content::{BlobDirectory, ContentStore};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::gc::{Collected, collect, empty_trash, under_snapshots};
use crate::lease::Leases;
use crate::lock::FileLock;
use crate::options::{LayerKind, Options};
use crate::pull::blocking;
use crate::reference::Reference;
use crate::registry::client::RegistryClient;
use crate::registry::retry::Patience;
use crate::registry::transport::Transport;
use crate::registry::{docker_config, hosts};
use crate::snapshot::layers::Layers;
use crate::snapshot::refusal::overlays_on;
use crate::snapshot::{Snapshotter, copy::Copy, overlay::Overlay};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Interrupted downloads wait this long for somebody to continue them.
const KEEP_PARTIAL: Duration = Duration::from_secs(24 * 3600);

/// Everything of one open store.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) root: PathBuf,
    lock: PathBuf,
    trash: PathBuf,
    pub(crate) options: Options,
    pub(crate) content: BlobDirectory,
    pub(crate) layers: Layers,
    pub(crate) snapshots: Box<dyn Snapshotter>,
    pub(crate) catalog: CatalogFile,
    pub(crate) leases: Leases,
    pub(crate) transport: Arc<Transport>,
}

impl Parts {
    pub(crate) fn open(root: &Path, options: Options) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        // Layers hold setuid programs of strangers: nobody else on the host may reach them.
        builder.recursive(true).mode(0o700).create(root).map_err(|e| Error::path("mkdir", root, e))?;
        let root = root.canonicalize().map_err(|e| Error::path("open", root, e))?;
        let lock = root.join("lock");
        let layers = Layers::open(&root, options.layers)?;
        let copies = options.layers == LayerKind::Copy
            || options.layers == LayerKind::Auto && !overlays_on(&root.join("staging"))?;
        let snapshots: Box<dyn Snapshotter> = match copies {
            false => Box::new(Overlay::open(&root, layers.clone())?),
            true => Box::new(Copy::open(&root, layers.clone())?),
        };
        let parts = Self {
            content: BlobDirectory::open(&root)?,
            layers,
            snapshots,
            catalog: CatalogFile::new(&root),
            leases: Leases::open(&root, &lock)?,
            transport: Arc::new(Transport::new(Patience::default(), options.proxies.clone())),
            trash: root.join("trash"),
            lock,
            options,
            root,
        };
        parts.recover()?;
        Ok(parts)
    }

    /// Reclaims what a crash left. After a boot nothing unsynced can be trusted, so whatever no durable record
    /// names is dropped; within one boot the page cache is as good as the disk.
    fn recover(&self) -> Result<()> {
        let boot_file = self.root.join("boot");
        let boot =
            std::fs::read("/proc/sys/kernel/random/boot_id").map_err(|e| Error::io("read boot_id", e))?;
        {
            let _alone = FileLock::exclusive(&self.lock)?;
            if std::fs::read(&boot_file).ok().as_ref() != Some(&boot) {
                collect(self)?;
                std::fs::write(&boot_file, &boot).map_err(|e| Error::path("write", &boot_file, e))?;
            }
            self.sweep_staging()?;
        }
        self.content.forget_partial(KEEP_PARTIAL)?;
        self.empty_trash();
        Ok(())
    }

    /// Changes the list of images.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Catalog) -> Result<T>) -> Result<T> {
        let _alone = FileLock::exclusive(&self.lock)?;
        self.update_locked(change)
    }

    fn update_locked<T>(&self, change: impl FnOnce(&mut Catalog) -> Result<T>) -> Result<T> {
        let before = self.catalog.read()?;
        let mut catalog = before.clone();
        let result = change(&mut catalog)?;
        if catalog != before {
            self.catalog.write(&catalog)?;
        }
        Ok(result)
    }

    /// Changes the list of images and collects what nobody needs any more.
    pub(crate) fn update_and_collect<T>(
        &self,
        change: impl FnOnce(&mut Catalog) -> Result<T>,
    ) -> Result<(T, Collected)> {
        let result = {
            let _alone = FileLock::exclusive(&self.lock)?;
            let result = self.update_locked(change)?;
            (result, collect(self)?)
        };
        self.empty_trash();
        Ok(result)
    }

    /// Looks and makes a reference without the collector in between.
    pub(crate) fn without_collector<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let _shared = FileLock::shared(&self.lock)?;
        act()
    }

    /// Takes off the mounts of layers that no snapshot needs any more.
    pub(crate) fn unmount_unused(&self) -> Result<()> {
        let _alone = FileLock::exclusive(&self.lock)?;
        self.layers.unmount_unused(&self.layers.walk()?, &under_snapshots(self)?)
    }

    /// The same for what a snapshot stood on that was removed: nothing else can have become idle.
    pub(crate) fn unmount_left(&self, top: &Digest) -> Result<()> {
        let _alone = FileLock::exclusive(&self.lock)?;
        self.layers.unmount_unused(&self.layers.stack(Some(top))?, &under_snapshots(self)?)
    }

    /// The same for all of them, for somebody who ends the machine's use of the store.
    pub(crate) fn unmount_all(&self) -> Result<()> {
        let _alone = FileLock::exclusive(&self.lock)?;
        self.layers.unmount_unused(&self.layers.walk()?, &HashSet::new())
    }

    /// Deletes what was taken away, behind the caller's back: unlinking 50,000 files takes a second. What is not
    /// done when the process ends is done at the next start.
    pub(crate) fn empty_trash(&self) {
        if std::fs::read_dir(&self.trash).is_ok_and(|mut entries| entries.next().is_none()) {
            return;
        }
        let trash = self.trash.clone();
        std::thread::spawn(move || {
            if let Err(error) = empty_trash(&trash) {
                tracing::warn!(%error, "some removed layers still take space");
            }
        });
    }

    /// Makes everything written so far survive a power cut.
    pub(crate) fn sync(&self) -> Result<()> {
        let root = std::fs::File::open(&self.root).map_err(|e| Error::path("open", &self.root, e))?;
        rustix::fs::syncfs(&root).map_err(|e| Error::path("syncfs", &self.root, e))
    }

    /// A client for the registry of a name. Given credentials win over those of a login.
    pub(crate) async fn registry(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Arc<RegistryClient>> {
        let credentials = match credentials {
            Some(given) => Some(given),
            None => {
                let (files, reference) = (self.options.logins.clone(), reference.clone());
                let kept = move || {
                    let find = |path: &PathBuf| {
                        docker_config::lookup(path, &reference.registry, &reference.repository).transpose()
                    };
                    files.iter().find_map(find).transpose()
                };
                blocking(kept).await?
            }
        };
        let hosts_dir = self.options.hosts_dir.as_deref();
        let endpoints = hosts::endpoints(hosts_dir, &reference.registry, &self.options.plain_http)?;
        let client = RegistryClient::new(self.transport.clone(), &reference.registry, endpoints, credentials);
        Ok(Arc::new(client))
    }
}

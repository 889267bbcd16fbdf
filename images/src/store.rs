//! The store as its users see it: images by name, id or digest; snapshots by key.
//!
//! Every method may be called from many tasks and, for one directory, from many processes at once (the command
//! line beside a running agent). Nothing is listed that is not whole on disk. Methods that are not `async` block on
//! the disk: call them from a thread that may.

use crate::archive::{Format, load, load_layout, save};
use crate::build::runner::Runner;
use crate::build::{Build, ForgetBuilds, Listener};
use crate::catalog::Catalog;
use crate::changes::{Change, changes};
use crate::commit::{Commit, commit};
use crate::content::ContentStore;
use crate::credentials::Credentials;
use crate::disk_usage::{DiskUsage, disk_usage, usage_of_images};
use crate::error::{Error, ErrorKind};
use crate::files::{Files, with_image};
use crate::image::{Image, Progress, Pull};
use crate::import::{ImportConfig, import};
use crate::inspect::{Inspect, inspect, read_json};
use crate::mount::Mount;
use crate::options::Options;
use crate::platform::Platform;
use crate::prune::{Prune, Pruned, prune};
use crate::reference::Reference;
use crate::remote::Remote;
use crate::snapshot::Access;
use crate::written;
use parts::Parts;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

pub(crate) mod find;
pub(crate) mod parts;
mod staging;

type Result<T> = std::result::Result<T, Error>;

/// The store in one directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Parts>,
}

impl ImageStore {
    /// Opens or creates the store, and reclaims what a crash left half made.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Options::default())
    }

    /// The same with everything that can be set.
    pub fn open_with(root: &Path, options: Options) -> Result<Self> {
        Ok(Self { inner: Arc::new(Parts::open(root, options)?) })
    }

    /// Pulls and unpacks; durable when it returns. Answers the image under the name that was asked for.
    pub async fn pull(&self, pull: Pull) -> Result<Image> {
        crate::pull::pull(self.inner.clone(), pull).await
    }

    /// Every image.
    pub fn list(&self) -> Result<Vec<Image>> {
        Ok(self.inner.catalog.read()?.images.iter().map(|(id, record)| record.image(id)).collect())
    }

    /// By name (`busybox` finds `docker.io/library/busybox:latest`), by id or unique id prefix, or by digest.
    pub fn find(&self, name: &str) -> Result<Option<Image>> {
        find::find(&self.inner.catalog.read()?, name)
    }

    /// The image's config: command, environment, user, diff ids.
    pub fn config(&self, image: &Image) -> Result<oci_spec::image::ImageConfiguration> {
        let value = read_json(&self.inner, &image.id)?;
        serde_json::from_value(value)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("config {}: {e}", image.id)))
    }

    /// Gives an image another name, taking it from whichever image had it.
    pub fn tag(&self, image: &Image, name: &str) -> Result<()> {
        let tag = Reference::parse(name)?.tagged();
        let tag =
            tag.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{name}: a tag cannot hold a digest")))?;
        self.change(image, |catalog, image| {
            catalog.release(&tag);
            if let Some(record) = catalog.images.get_mut(image) {
                record.tags.insert(tag);
            }
        })
    }

    /// Removes the image with all its names (as CRI wants it); layers that nobody else uses go too. Idempotent.
    pub fn remove(&self, image: &Image) -> Result<()> {
        let forget = |catalog: &mut Catalog| {
            catalog.images.retain(|id, _| id.as_str() != image.id);
            Ok(())
        };
        self.inner.update_and_collect(forget).map(drop)
    }

    /// Removes one name; the image goes with its last one.
    pub fn untag(&self, name: &str) -> Result<()> {
        self.inner.update_and_collect(|catalog| find::untag(catalog, name)).map(drop)
    }

    /// Removes one name and nothing else: an image that containers stand on stays, if need be without a name.
    pub fn take_name(&self, name: &str) -> Result<()> {
        self.inner.update(|catalog| find::take_name(catalog, name)).map(drop)
    }

    /// Fails unless the policy lets containers run from the image under this name. An id stands for
    /// any of the names that the image has, which is also what `prepare` and `view` ask.
    pub fn verify(&self, image: &Image, name: &str) -> Result<()> {
        let catalog = self.inner.catalog.read()?;
        let (_, record) = catalog.expect(&image.id)?;
        let name = Reference::parse(name).ok().filter(|name| record.is_called(name));
        self.inner.may_run(record, name.as_ref())
    }

    /// Makes a writable snapshot on top of the image. Again with the same key: the same snapshot.
    pub fn prepare(&self, key: &str, image: &Image) -> Result<Vec<Mount>> {
        self.snapshot(key, image, Access::ReadWrite)
    }

    /// A read-only view of the image (image volumes, `knarr image mount`).
    pub fn view(&self, key: &str, image: &Image) -> Result<Vec<Mount>> {
        self.snapshot(key, image, Access::ReadOnly)
    }

    fn snapshot(&self, key: &str, image: &Image, access: Access) -> Result<Vec<Mount>> {
        self.inner.without_collector(|| {
            let catalog = self.inner.catalog.read()?;
            let (_, record) = catalog.expect(&image.id)?;
            self.inner.may_run(record, None)?;
            self.inner.snapshots.prepare(key, record.top(), access)
        })
    }

    /// The mounts of a snapshot that exists (after a reboot, for instance).
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        self.inner.snapshots.mounts(key)
    }

    /// Removes a snapshot and what was written to it. Idempotent. Its files are deleted in the background.
    pub fn remove_snapshot(&self, key: &str) -> Result<()> {
        let top = self.inner.snapshots.parent(key);
        self.inner.snapshots.remove(key)?;
        self.inner.empty_trash();
        match top.filter(|top| self.inner.layers.has(top)) {
            Some(top) => self.inner.unmount_left(&top),
            None => self.inner.unmount_unused(),
        }
    }

    /// Takes off the mounts of layers that no snapshot stands on: one whose maker was killed may have mounted its layers
    /// and be known to nobody.
    pub fn unmount_unused_layers(&self) -> Result<()> {
        self.inner.unmount_unused()
    }

    /// Takes off the mounts that layers held in one file have; they come back when they are needed. For the end of
    /// the store's use (`knarr down`): containers that still run are not disturbed.
    pub fn unmount_layers(&self) -> Result<()> {
        self.inner.unmount_all()
    }

    /// Shows the files of an image to `look`, mounted where nobody else sees them.
    pub fn with_files<T: Send>(
        &self,
        image: &Image,
        look: impl FnOnce(&Files) -> Result<T> + Send,
    ) -> Result<T> {
        with_image(&self.inner, &image.id, look)
    }

    /// What a snapshot changed, by path; places in `mount_points` count only if they have contents.
    pub fn changes(&self, key: &str, mount_points: &[PathBuf]) -> Result<Vec<(PathBuf, Change)>> {
        changes(&self.inner, key, mount_points)
    }

    /// Writes what a snapshot changed as a layer archive, whiteouts included. Nothing may write to it meanwhile.
    pub fn export_written(
        &self,
        key: &str,
        mount_points: &[PathBuf],
        out: &mut dyn std::io::Write,
    ) -> Result<()> {
        written::export(&self.inner, key, mount_points, out)
    }

    /// Gives such an archive to a new snapshot of the same image, which must not be mounted yet.
    pub fn restore_written(&self, key: &str, archive: &mut dyn std::io::Read) -> Result<()> {
        written::restore(&self.inner, key, archive)
    }

    /// The annotations of the image's manifest.
    pub fn annotations(&self, image: &Image) -> Result<std::collections::BTreeMap<String, String>> {
        let catalog = self.inner.catalog.read()?;
        let (_, record) = catalog.expect(&image.id)?;
        let mut manifest = read_json(&self.inner, record.manifest.as_str())?;
        let annotations = manifest.get_mut("annotations").map(serde_json::Value::take);
        Ok(annotations.and_then(|all| serde_json::from_value(all).ok()).unwrap_or_default())
    }

    /// Makes an image of what was written to a snapshot that stands on `image`. Nothing may write meanwhile.
    pub fn commit(&self, key: &str, image: &str, request: &Commit) -> Result<Image> {
        commit(&self.inner, key, image, request)
    }

    /// Keys of all snapshots.
    pub fn snapshots(&self) -> Result<Vec<String>> {
        Ok(self.inner.snapshots.walk()?.into_iter().map(|(key, _)| key).collect())
    }

    /// Bytes and inodes that a snapshot's own writes take.
    pub fn snapshot_usage(&self, key: &str) -> Result<(u64, u64)> {
        self.inner.snapshots.usage(key)
    }

    /// Bytes and inodes of the images: blobs and unpacked layers (CRI ImageFsInfo).
    pub fn usage(&self) -> Result<(u64, u64)> {
        let mut total = (0, 0);
        for (_, bytes) in self.inner.content.walk()? {
            total = (total.0 + bytes, total.1 + 1);
        }
        for chain in self.inner.layers.walk()? {
            if let Some(record) = self.inner.layers.record(&chain)? {
                total = (total.0 + record.bytes, total.1 + record.inodes);
            }
        }
        Ok(total)
    }

    /// Bytes that these of the listed images take together; what builds keep beside them is not counted.
    pub fn usage_of_images(&self, wanted: impl Fn(&Image) -> bool) -> Result<u64> {
        usage_of_images(&self.inner, wanted)
    }

    /// What each image takes, the largest first.
    pub fn disk_usage(&self) -> Result<Vec<DiskUsage>> {
        disk_usage(&self.inner)
    }

    /// Turns a directory or a tar archive into an image of one layer under this name; an empty one is none.
    pub fn import(&self, source: &Path, name: &str, config: ImportConfig) -> Result<Image> {
        import(&self.inner, source, name, &config)
    }

    /// The same of a tar archive behind a URL.
    pub async fn import_url(&self, url: &str, name: &str, config: ImportConfig) -> Result<Image> {
        let wanted = crate::web_file::Wanted::new(url);
        let fetched = crate::web_file::fetch(&self.inner, &self.inner.transport, &wanted).await?;
        let (parts, name) = (self.inner.clone(), name.to_owned());
        crate::pull::blocking(move || import(&parts, fetched.file.path(), &name, &config)).await
    }

    /// What lies behind a URL, as a file that has no name here.
    pub async fn download(&self, url: &str) -> Result<std::fs::File> {
        let wanted = crate::web_file::Wanted::new(url);
        let fetched = crate::web_file::fetch(&self.inner, &self.inner.transport, &wanted).await?;
        fetched.file.reopen().map_err(|e| Error::path("open", fetched.file.path(), e))
    }

    /// Builds an image of a Dockerfile whose base images are here. Blocks for as long as that takes.
    pub fn build(&self, build: &Build, runner: &dyn Runner, listener: Listener<'_>) -> Result<Image> {
        crate::build::build(&self.inner, build, runner, listener)
    }

    /// Forgets what builds keep to be faster next time. Answers how many bytes that gave back.
    pub fn forget_builds(&self, wanted: &ForgetBuilds) -> Result<u64> {
        crate::build::forget(&self.inner, wanted)
    }

    /// Sends an image to the registry that `name` names, which then answers for that name; what it already has is
    /// not sent again. Answers the manifest's digest.
    pub async fn push(
        &self,
        image: &Image,
        name: &str,
        credentials: Option<Credentials>,
        progress: Option<UnboundedSender<Progress>>,
    ) -> Result<String> {
        crate::push::push(self.inner.clone(), image, name, credentials, progress).await
    }

    /// The same for images of several platforms, which the name then stands for together. Answers the index's digest.
    pub async fn push_index(
        &self,
        images: &[(Image, Platform)],
        name: &str,
        credentials: Option<Credentials>,
        progress: Option<UnboundedSender<Progress>>,
    ) -> Result<String> {
        crate::push::push_index(self.inner.clone(), images, name, credentials, progress).await
    }

    /// Copies from registry to registry without keeping anything: every platform of an index, blobs as they are.
    /// Answers the digest.
    pub async fn copy(
        &self,
        from: (&str, Option<Credentials>),
        to: (&str, Option<Credentials>),
    ) -> Result<String> {
        crate::push::copy(self.inner.clone(), from, to).await
    }

    /// What a name stands for in its registry, as documents.
    pub async fn look(&self, name: &str, credentials: Option<Credentials>) -> Result<Remote> {
        crate::remote::look(self.inner.clone(), name, credentials).await
    }

    /// The config of an image that is in its registry.
    pub async fn remote_config(
        &self,
        name: &str,
        platform: &str,
        credentials: Option<Credentials>,
    ) -> Result<serde_json::Value> {
        crate::pull::config(self.inner.clone(), name, platform, credentials).await
    }

    /// Sends an index of manifests that the repository has. Answers its digest.
    pub async fn put_index(
        &self,
        name: &str,
        media_type: &str,
        text: String,
        credentials: Option<Credentials>,
    ) -> Result<String> {
        crate::remote::put_index(self.inner.clone(), name, media_type, text, credentials).await
    }

    /// Tags of a repository in its registry.
    pub async fn list_tags(&self, name: &str, credentials: Option<Credentials>) -> Result<Vec<String>> {
        use crate::registry::Registry;
        let reference = Reference::parse(name)?;
        self.inner.registry(&reference, credentials).await?.tags(&reference).await
    }

    /// Whether a registry (`127.0.0.1:5000`) accepts these credentials.
    pub async fn check_login(&self, registry: &str, credentials: Credentials) -> Result<()> {
        let reference = in_registry(registry)?;
        self.inner.registry(&reference, Some(credentials)).await?.check_login().await
    }

    /// Repositories of a registry, where it tells.
    pub async fn list_repositories(
        &self,
        registry: &str,
        credentials: Option<Credentials>,
    ) -> Result<Vec<String>> {
        use crate::registry::Registry;
        let reference = in_registry(registry)?;
        self.inner.registry(&reference, credentials).await?.catalog().await
    }

    /// Writes images as one archive.
    pub fn save(&self, names: &[String], format: Format, writer: &mut dyn std::io::Write) -> Result<()> {
        save(&self.inner, names, format, writer)
    }

    /// Reads an archive of either format, plain or compressed, and answers the images that were in it, under the
    /// names that they had there; only those for a platform, where one is named.
    pub fn load(&self, reader: &mut dyn std::io::Read, platform: Option<&Platform>) -> Result<Vec<Image>> {
        load(&self.inner, reader, platform)
    }

    /// Reads one image out of a directory in the OCI image layout: by its tag or digest there; else `latest`, or the only
    /// one. It has no name here.
    pub fn load_layout(&self, directory: &Path, wanted: Option<&str>, platform: &Platform) -> Result<Image> {
        load_layout(&self.inner, directory, wanted, platform)
    }

    /// Removes images that nobody uses, and whatever nothing refers to any more.
    pub fn prune(&self, options: &Prune) -> Result<Pruned> {
        prune(&self.inner, options)
    }

    /// Everything known about an image.
    pub fn inspect(&self, image: &Image) -> Result<Inspect> {
        inspect(&self.inner, image)
    }

    /// Keeps an image from being collected, or lets it go.
    pub fn pin(&self, image: &Image, pinned: bool) -> Result<()> {
        self.change(image, |catalog, image| {
            if let Some(record) = catalog.images.get_mut(image) {
                record.pinned = pinned;
            }
        })
    }

    fn change(&self, image: &Image, change: impl FnOnce(&mut Catalog, &crate::digest::Digest)) -> Result<()> {
        self.inner.update(|catalog| {
            let id = catalog.expect(&image.id)?.0.clone();
            change(catalog, &id);
            Ok(())
        })
    }
}

/// Any name in a registry.
fn in_registry(registry: &str) -> Result<Reference> {
    let reference = Reference::parse(&format!("{registry}/any"))?;
    if reference.registry == registry {
        return Ok(reference);
    }
    Err(Error::new(ErrorKind::Invalid, format!("{registry}: is no name of a registry")))
}

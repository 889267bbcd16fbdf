//! The store as its users see it: images by name, id or digest; snapshots by key.
//!
//! Every method may be called from many tasks and, for one directory, from many processes at once (the command
//! line beside a running agent). Nothing is listed that is not whole on disk.

use crate::archive::Format;
use crate::credentials::Credentials;
use crate::import::ImportConfig;
use crate::inspect::Inspect;
use crate::options::Options;
use crate::prune::{Prune, Pruned};
use crate::{Error, Mount};
use std::path::Path;
use std::sync::Arc;

/// An image that is whole on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of the image's config: `sha256:...`.
    pub id: String,
    /// Names with a tag, as given: `127.0.0.1:5000/busybox:1`.
    pub tags: Vec<String>,
    /// Names with a digest of the manifest (or index) that was pulled: `127.0.0.1:5000/busybox@sha256:...`.
    pub digests: Vec<String>,
    /// Bytes of the compressed layers and the config.
    pub size: u64,
    /// Never collected.
    pub pinned: bool,
}

/// One pull.
#[derive(Debug, Clone, Default)]
pub struct Pull {
    /// `busybox`, `127.0.0.1:5000/busybox:1`, `name@sha256:...`; normalised as Docker does.
    pub reference: String,
    /// Anonymous where absent.
    pub credentials: Option<Credentials>,
    /// `linux/amd64`; this machine's where absent.
    pub platform: Option<String>,
    /// Told about every step; dropped events are harmless.
    pub progress: Option<tokio::sync::mpsc::UnboundedSender<Progress>>,
}

/// A step of a pull, for progress bars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The manifest is known: these layers (digest, bytes) make the image.
    Resolved { digest: String, layers: Vec<(String, u64)> },
    /// So many bytes of a layer have arrived.
    Downloaded { layer: String, bytes: u64 },
    /// The layer is whole: downloaded and unpacked, or already there.
    Done { layer: String, already_present: bool },
}

/// The store in one directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageStore {
    #[allow(dead_code)]
    inner: Arc<()>,
}

impl ImageStore {
    /// Opens or creates the store, and reclaims what a crash left half made.
    pub fn open(root: &Path) -> Result<Self, Error> {
        Self::open_with(root, Options::default())
    }

    /// The same with everything that can be set.
    pub fn open_with(root: &Path, options: Options) -> Result<Self, Error> {
        let _ = (root, options);
        Err(Error::unsupported("the image store"))
    }

    /// Pulls and unpacks; durable when it returns. Answers the image under the name that was asked for.
    pub async fn pull(&self, pull: Pull) -> Result<Image, Error> {
        Err(Error::unsupported(&pull.reference))
    }

    /// Every image.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        Err(Error::unsupported("list"))
    }

    /// By name (`busybox` finds `docker.io/library/busybox:latest`), by id or unique id prefix, or by digest.
    pub fn find(&self, name: &str) -> Result<Option<Image>, Error> {
        Err(Error::unsupported(name))
    }

    /// The image's config: command, environment, user, diff ids.
    pub fn config(&self, image: &Image) -> Result<oci_spec::image::ImageConfiguration, Error> {
        Err(Error::unsupported(&image.id))
    }

    /// Gives an image another name, taking it from whichever image had it.
    pub fn tag(&self, image: &Image, name: &str) -> Result<(), Error> {
        let _ = image;
        Err(Error::unsupported(name))
    }

    /// Removes the image with all its names (as CRI wants it); layers that nobody else uses go too. Idempotent.
    pub fn remove(&self, image: &Image) -> Result<(), Error> {
        Err(Error::unsupported(&image.id))
    }

    /// Removes one name; the image goes with its last one.
    pub fn untag(&self, name: &str) -> Result<(), Error> {
        Err(Error::unsupported(name))
    }

    /// Makes a writable snapshot on top of the image. Again with the same key: the same snapshot.
    pub fn prepare(&self, key: &str, image: &Image) -> Result<Vec<Mount>, Error> {
        let _ = key;
        Err(Error::unsupported(&image.id))
    }

    /// A read-only view of the image (image volumes, `knarr image mount`).
    pub fn view(&self, key: &str, image: &Image) -> Result<Vec<Mount>, Error> {
        let _ = key;
        Err(Error::unsupported(&image.id))
    }

    /// Removes a snapshot and what was written to it. Idempotent.
    pub fn remove_snapshot(&self, key: &str) -> Result<(), Error> {
        Err(Error::unsupported(key))
    }

    /// Keys of all snapshots.
    pub fn snapshots(&self) -> Result<Vec<String>, Error> {
        Err(Error::unsupported("snapshots"))
    }

    /// Bytes and inodes that a snapshot's own writes take.
    pub fn snapshot_usage(&self, key: &str) -> Result<(u64, u64), Error> {
        Err(Error::unsupported(key))
    }

    /// Bytes and inodes of the whole store (CRI ImageFsInfo).
    pub fn usage(&self) -> Result<(u64, u64), Error> {
        Err(Error::unsupported("usage"))
    }

    /// The mounts of a snapshot that exists (after a reboot, for instance).
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>, Error> {
        Err(Error::unsupported(key))
    }

    /// Turns a directory or a tar archive into an image of one layer under this name.
    pub fn import(&self, source: &Path, name: &str, config: ImportConfig) -> Result<Image, Error> {
        let _ = (source, config);
        Err(Error::unsupported(name))
    }

    /// Sends an image to the registry that `name` names, which then answers for that name; what it already has is
    /// not sent again. Answers the manifest's digest.
    pub async fn push(
        &self,
        image: &Image,
        name: &str,
        credentials: Option<Credentials>,
        progress: Option<tokio::sync::mpsc::UnboundedSender<Progress>>,
    ) -> Result<String, Error> {
        let _ = (image, credentials, progress);
        Err(Error::unsupported(name))
    }

    /// Copies from registry to registry without keeping anything: every platform of an index, blobs as they are.
    /// Answers the digest.
    pub async fn copy(
        &self,
        from: (&str, Option<Credentials>),
        to: (&str, Option<Credentials>),
    ) -> Result<String, Error> {
        let _ = to;
        Err(Error::unsupported(from.0))
    }

    /// Tags of a repository in its registry.
    pub async fn list_tags(
        &self,
        name: &str,
        credentials: Option<Credentials>,
    ) -> Result<Vec<String>, Error> {
        let _ = credentials;
        Err(Error::unsupported(name))
    }

    /// Writes images as one archive.
    pub fn save(
        &self,
        names: &[String],
        format: Format,
        writer: &mut dyn std::io::Write,
    ) -> Result<(), Error> {
        let _ = (names, format, writer);
        Err(Error::unsupported("save"))
    }

    /// Reads an archive of either format, plain or compressed, and answers the images that were in it.
    pub fn load(&self, reader: &mut dyn std::io::Read) -> Result<Vec<Image>, Error> {
        let _ = reader;
        Err(Error::unsupported("load"))
    }

    /// Removes images that nobody uses, and whatever nothing refers to any more.
    pub fn prune(&self, prune: &Prune) -> Result<Pruned, Error> {
        let _ = prune;
        Err(Error::unsupported("prune"))
    }

    /// Everything known about an image.
    pub fn inspect(&self, image: &Image) -> Result<Inspect, Error> {
        Err(Error::unsupported(&image.id))
    }

    /// Keeps an image from being collected, or lets it go.
    pub fn pin(&self, image: &Image, pinned: bool) -> Result<(), Error> {
        let _ = pinned;
        Err(Error::unsupported(&image.id))
    }
}

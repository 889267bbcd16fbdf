//! The store as its users see it: images by name, id or digest; snapshots by key.
//!
//! Every method may be called from many tasks and, for one directory, from many processes at once (the command
//! line beside a running agent). Nothing is listed that is not whole on disk.

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

/// Credentials for one registry.
#[derive(Clone, Default)]
pub struct Credentials {
    #[allow(missing_docs)]
    pub username: String,
    #[allow(missing_docs)]
    pub password: String,
    /// A bearer token for the registry itself, instead of the two above.
    pub registry_token: String,
}

/// One pull.
#[derive(Clone, Default)]
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
#[derive(Clone)]
pub struct ImageStore {
    #[allow(dead_code)]
    inner: Arc<()>,
}

impl ImageStore {
    /// Opens or creates the store, and reclaims what a crash left half made.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let _ = root;
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
}

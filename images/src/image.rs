//! An image as callers see it, and what they say and hear about a pull.

use crate::credentials::Credentials;
use tokio::sync::mpsc::UnboundedSender;

/// An image that is whole on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of the image's config: `sha256:...`.
    pub id: String,
    /// Names with a tag, normalised: `docker.io/library/busybox:latest`, `127.0.0.1:5000/busybox:1`.
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
    /// Anonymous (or what the Docker config.json says) where absent.
    pub credentials: Option<Credentials>,
    /// `linux/amd64`; this machine's where absent.
    pub platform: Option<String>,
    /// Told about every step; dropped events are harmless.
    pub progress: Option<UnboundedSender<Progress>>,
}

/// A step of a pull or a push, for progress bars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The manifest is known: these layers (digest, bytes) make the image.
    Resolved {
        /// Of the manifest.
        digest: String,
        /// Digest and bytes of each layer, bottom first.
        layers: Vec<(String, u64)>,
    },
    /// So many bytes of a layer have arrived.
    Downloaded {
        /// Digest.
        layer: String,
        /// Since the beginning.
        bytes: u64,
    },
    /// The layer is whole: downloaded and unpacked (or sent), or already there.
    Done {
        /// Digest.
        layer: String,
        /// Nothing had to be done.
        already_present: bool,
    },
}

/// Tells whoever listens.
pub(crate) fn tell(progress: Option<&UnboundedSender<Progress>>, step: Progress) {
    if let Some(progress) = progress {
        // Nobody listens any more: harmless.
        let _ = progress.send(step);
    }
}

//! Registries: where a name leads, and the bytes behind a digest.
//!
//! The protocol is the OCI distribution spec over HTTP/1.1 (`client`), with authentication (`auth`), mirrors
//! (`hosts`) and redirects handled below this seam, and broken transfers resumed above it (`download`).

use crate::digest::Digest;
use crate::error::Result;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::fmt::Debug;
use std::path::PathBuf;

pub(crate) mod auth;
pub(crate) mod challenge;
pub(crate) mod client;
mod credential_helper;
pub(crate) mod docker_config;
pub(crate) mod download;
pub(crate) mod exchange;
pub(crate) mod hosts;
pub(crate) mod login;
pub(crate) mod proxy;
pub(crate) mod retry;
pub(crate) mod transport;
pub(crate) mod upload;
mod upload_parts;

/// The bytes of a blob from some offset on.
pub(crate) type ByteStream = BoxStream<'static, Result<Bytes>>;

/// A manifest or index as the registry holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) bytes: Bytes,
    /// Computed from the bytes; equal to the one asked for.
    pub(crate) digest: Digest,
    pub(crate) content_type: Option<String>,
}

/// Reads and writes one registry's repositories.
#[async_trait]
pub(crate) trait Registry: Debug + Send + Sync {
    /// The document that a name or digest stands for.
    async fn resolve(&self, reference: &Reference) -> Result<Resolved>;

    /// The bytes of a blob from an offset on. The stream ends early where the connection breaks.
    async fn fetch(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<ByteStream>;

    /// Whether the repository has a blob.
    async fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool>;

    /// Lets the repository share a blob that another one of the same registry has; false where it would not.
    async fn mount_blob(&self, reference: &Reference, digest: &Digest, from: &str) -> Result<bool>;

    /// Sends a blob.
    async fn put_blob(&self, reference: &Reference, blob: &Descriptor, source: BlobSource) -> Result<()>;

    /// Sends a manifest or index under the reference's tag or digest.
    async fn put_manifest(&self, reference: &Reference, media_type: &str, bytes: Bytes) -> Result<()>;

    /// The repository's tags.
    async fn tags(&self, reference: &Reference) -> Result<Vec<String>>;

    /// The documents that say that they are about the one with this digest.
    async fn referrers(&self, reference: &Reference, digest: &Digest) -> Result<Vec<Descriptor>>;

    /// All repositories, where the registry tells.
    async fn catalog(&self) -> Result<Vec<String>>;
}

/// Where the bytes of an upload come from. They may be needed again, when an attempt fails.
#[derive(Debug, Clone)]
pub(crate) enum BlobSource {
    /// A whole file.
    File(PathBuf),
    /// Another registry, streamed through without touching the disk.
    Remote(std::sync::Arc<dyn Registry>, Reference),
}

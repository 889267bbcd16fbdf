//! The image store: pull, keep by digest, unpack, snapshot, share.
//!
//! ```text
//! ROOT/images.json          which images there are (catalog)
//! ROOT/blobs/sha256/HEX     manifests, configs, compressed layers (content)
//! ROOT/layers/HEX/          unpacked layers by chain id (snapshot::layers)
//! ROOT/snapshots/KEY/       what one container adds to its image (snapshot)
//! ROOT/build/cache/          what build steps gave, by what went into them (build::cache)
//! ROOT/build/mounts/         contents of RUN --mount=type=cache
//! ROOT/leases/              what pulls at work must find again (lease)
//! ROOT/ingest/ staging/     half made: blobs are continued, layers are not
//! ROOT/trash/               taken away, being deleted
//! ROOT/lock boot            excludes writers of images.json and the collector; the boot that wrote all this
//! ROOT/trash.lock           who empties the trash
//! ```
//!
//! What must hold:
//! - A blob, layer or snapshot appears by one rename, whole and checked; `images.json` names only what is durable.
//! - Kept alive by: images.json, leases whose lock is held, snapshots. Everything else may be collected (gc).
//! - Lock order: a layer's stage, a blob's ingest, the store's lock. The last is held for moments only, never
//!   across network or unpacking.
//! - A whole store may be used by many processes; no daemon owns it.
//!
//! Read `store` (the surface), `pull`, `install`, `layer`, `snapshot`, `gc`, in this order. What this crate does not
//! know: OCI runtime specs, CRI, containers.

mod archive;
mod build;
mod catalog;
mod changes;
mod commit;
mod content;
mod credentials;
mod digest;
mod disk_usage;
mod erofs;
mod error;
mod files;
mod fuse_overlay;
mod gc;
mod git;
mod image;
mod import;
mod inspect;
mod install;
mod layer;
mod lease;
mod lock;
mod manifest;
mod media_type;
mod mount;
mod options;
mod platform;
mod policy;
mod prune;
mod pull;
mod push;
mod reference;
mod registry;
mod remote;
mod scoped_open;
mod snapshot;
mod store;
mod web_file;
mod written;

pub use archive::Format;
pub use build::check::{BaseConfigs, Finding, Findings, check as check_dockerfile};
pub use build::health::nanoseconds as health_time;
pub use build::outline::{Outline, Taken, Target};
pub use build::runner::{Network, RunLimits, RunMount, RunStep, Runner};
pub use build::{Build, BuildContext, BuildEvent, BuildRequest, ForgetBuilds, Listener};
pub use changes::Change;
pub use commit::Commit;
pub use credentials::Credentials;
pub use digest::Digest;
pub use disk_usage::DiskUsage;
pub use error::{Error, ErrorKind};
pub use files::{FileKind, Files};
pub use git::{GitAccess, GitReference, git_context};
pub use image::{Image, Progress, Pull};
pub use import::ImportConfig;
pub use inspect::{Inspect, LayerInfo};
pub use manifest::Descriptor;
pub use mount::Mount;
pub use options::{LayerKind, Options};
pub use platform::Platform;
pub use prune::{Prune, Pruned};
pub use reference::Reference;
pub use registry::docker_config::login_files;
pub use registry::login::{forget_login, keep_login};
pub use registry::proxy::Proxies;
pub use remote::{ListedPlatform, Remote, RemoteManifest};
pub use scoped_open::scoped_open;
pub use store::ImageStore;

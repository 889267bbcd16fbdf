//! Images as one file: the OCI image layout in a tar, and the older format of `docker save`.
//!
//! An archive comes from anywhere and its members in any order, so `load` looks at members one by one, keeps each as
//! a blob under its own digest, and reads the documents that give them meaning at the end. A member's name is only
//! ever a key in a map, never a path.

use serde::{Deserialize, Serialize};

mod layout;
mod load;
mod save;

pub(crate) use layout::load_layout;
pub(crate) use load::load;
pub(crate) use save::save;

/// What `save` writes. `load` recognises both by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// An OCI image layout in a tar (`oci-archive`).
    #[default]
    Oci,
    /// manifest.json beside uncompressed layer tars (`docker-archive`), which every version of Docker loads.
    Docker,
}

const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = "index.json";
const DOCKER_MANIFEST: &str = "manifest.json";
/// The whole name of an image in an index.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// Its tag (or, as some tools write it, its whole name).
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// One image in `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

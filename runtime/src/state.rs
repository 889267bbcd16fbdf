//! What the runtime says about a container: the JSON of `state` and `list`, in runc's shape.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Status {
    Creating,
    Created,
    Running,
    Pausing,
    Paused,
    Stopped,
}

impl Status {
    /// The word used in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Pausing => "pausing",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// One container, as `state` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Version of the specification.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    #[allow(missing_docs)]
    pub id: String,
    /// In the pid namespace of the caller; 0 when stopped.
    pub pid: i32,
    #[allow(missing_docs)]
    pub status: Status,
    /// Absolute path.
    pub bundle: String,
    /// Absolute path.
    #[serde(default)]
    pub rootfs: String,
    /// RFC 3339 with nanoseconds, UTC.
    #[serde(default)]
    pub created: String,
    #[allow(missing_docs)]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user who owns the state directory, in `list`; empty in `state`.
    #[serde(default)]
    pub owner: String,
}

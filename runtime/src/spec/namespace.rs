//! `linux.namespaces[]` and the id maps that user namespaces and idmapped mounts share.

use serde::{Deserialize, Serialize};

/// The eight kinds of namespace, by the specification's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum NamespaceKind {
    #[default]
    Pid,
    Network,
    Ipc,
    Uts,
    Mount,
    User,
    Cgroup,
    Time,
}

object! {
    /// A namespace to make, or to join where `path` is given.
    pub struct Namespace {
        #[serde(rename = "type")]
        kind: NamespaceKind,
        path: String,
    }
}

object! {
    /// A range of ids, as a line of `/proc/PID/uid_map`.
    pub struct IdMapping {
        #[serde(rename = "containerID")]
        container_id: u32,
        #[serde(rename = "hostID")]
        host_id: u32,
        size: u32,
    }
}

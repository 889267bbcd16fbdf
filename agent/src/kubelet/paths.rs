//! Where the kubelet half keeps what belongs to a pod on this node: one directory per pod uid, in the kubelet's own
//! layout, so that people and tools that know one find their way.

use crate::kubelet::pod;
use k8s_openapi::api::core::v1::Pod;
use std::path::{Path, PathBuf};

/// The directories of all pods.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `DATA_DIR/kubelet/pods`, or where the settings say.
    pods: PathBuf,
    /// `/var/log/pods`.
    logs: PathBuf,
}

impl Paths {
    /// Under the kubelet's own directory and the directory of pod logs.
    pub fn new(root: &Path, logs: &Path) -> Self {
        Self { pods: root.join("pods"), logs: logs.to_path_buf() }
    }

    /// The directory that holds one directory per pod.
    pub fn all(&self) -> &Path {
        &self.pods
    }

    /// What volumes of all pods stand on.
    pub fn plugins(&self) -> PathBuf {
        self.pods.with_file_name("plugins")
    }

    /// Everything of one pod but its logs.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    /// The pod's `/etc/hosts`.
    pub fn hosts_file(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// Where one container of one attempt leaves its last words.
    pub fn termination_message(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join("containers").join(container).join(attempt.to_string())
    }

    /// A volume that lives in the pod's directory.
    pub fn volume(&self, uid: &str, plugin: &str, volume: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(plugin).join(volume)
    }

    /// A device that a pod has in its directory.
    pub fn volume_device(&self, uid: &str, plugin: &str, volume: &str) -> PathBuf {
        self.pod(uid).join("volumeDevices").join(plugin).join(volume)
    }

    /// A part of a volume, bound to a place of its own.
    pub fn sub_path(&self, uid: &str, volume: &str, container: &str, index: usize) -> PathBuf {
        self.pod(uid).join("volume-subpaths").join(volume).join(container).join(index.to_string())
    }

    /// The logs of one pod: `NAMESPACE_NAME_UID`.
    pub fn logs(&self, pod: &Pod) -> PathBuf {
        self.logs.join(format!("{}_{}_{}", pod::namespace(pod), pod::name(pod), log_uid(pod)))
    }

    /// Link to a container's log: `POD_NAMESPACE_CONTAINER-ID.log`, in `containers` beside the directory of logs.
    pub fn log_link(&self, pod: &Pod, container: &str, id: &str) -> PathBuf {
        let name = format!("{}_{}_{container}-{id}.log", pod::name(pod), pod::namespace(pod));
        self.logs.with_file_name("containers").join(name)
    }

    /// Where links to the pod's logs are, and how their names begin.
    pub fn log_links(&self, pod: &Pod) -> (PathBuf, String) {
        (self.logs.with_file_name("containers"), format!("{}_{}_", pod::name(pod), pod::namespace(pod)))
    }
}

/// A static pod's log directory carries the hash of its manifest, as the kubelet's does.
fn log_uid(pod: &Pod) -> &str {
    pod::annotation(pod, pod::HASH_ANNOTATION).filter(|_| pod::is_static(pod)).unwrap_or(pod::uid(pod))
}

/// Where a container's log is, relative to the pod's log directory.
pub fn container_log(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

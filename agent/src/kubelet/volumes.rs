//! A pod's volumes on the node: made before its sandbox, refreshed while it runs, unmounted and removed after it.
//!
//! Kinds that other parts of a cluster must provide (claims, CSI, network file systems) are refused by name. A
//! volume lives under the pod's own directory, except hostPath, which is the host's and is never removed.

mod atomic;
mod content;
mod empty_dir;
mod host_path;
mod mounts;
mod sub_path;
mod token;

use atomic::replace_contents;
pub use sub_path::bind_sub_path;
pub use token::{ClusterTokens, Token, TokenSource};

use crate::kubelet::facts::Facts;
use crate::kubelet::paths::Paths;
use crate::kubelet::pod;
use crate::kubelet::references::References;
use k8s_openapi::api::core::v1::{Pod, Volume};
use std::path::{Path, PathBuf};

/// A volume that could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeError {
    /// Its name in the pod.
    pub volume: String,
    /// Why, for the FailedMount event.
    pub message: String,
}

/// What volumes are made from.
#[derive(Clone, Copy)]
pub struct VolumeInputs<'a> {
    #[allow(missing_docs)]
    pub pod: &'a Pod,
    #[allow(missing_docs)]
    pub paths: &'a Paths,
    #[allow(missing_docs)]
    pub references: &'a References,
    #[allow(missing_docs)]
    pub facts: &'a Facts,
    /// Service account tokens; none without a cluster.
    pub tokens: Option<&'a dyn TokenSource>,
}

impl std::fmt::Debug for VolumeInputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeInputs").finish_non_exhaustive()
    }
}

/// Makes every volume of the pod, or brings those made of API objects up to date.
pub async fn set_up(inputs: VolumeInputs<'_>) -> Result<(), VolumeError> {
    for volume in pod::spec(inputs.pod).volumes.iter().flatten() {
        let fail = |message: String| VolumeError { volume: volume.name.clone(), message };
        set_up_one(inputs, volume).await.map_err(fail)?;
    }
    Ok(())
}

async fn set_up_one(inputs: VolumeInputs<'_>, volume: &Volume) -> Result<(), String> {
    let group = pod::spec(inputs.pod).security_context.as_ref().and_then(|context| context.fs_group);
    let Some(directory) = directory(inputs.paths, inputs.pod, volume) else {
        return Err(format!("volume type of \"{}\" is not supported yet", volume.name));
    };
    if let Some(source) = &volume.host_path {
        return host_path::check(source);
    }
    if let Some(source) = &volume.empty_dir {
        return empty_dir::set_up(&directory, source, inputs.pod, group);
    }
    if volume.image.is_some() {
        return Ok(());
    }
    let payload = content::payload(inputs, volume).await?;
    if payload.secret {
        mounts::mount_tmpfs(&directory, None).map_err(|error| error.to_string())?;
    }
    replace_contents(&directory, &payload.files, group)
        .map_err(|error| format!("write {}: {error}", directory.display()))
}

/// Where a volume's contents are on the host; `None` for a kind that this node cannot provide.
pub fn directory(paths: &Paths, pod: &Pod, volume: &Volume) -> Option<PathBuf> {
    if let Some(source) = &volume.host_path {
        return Some(PathBuf::from(&source.path));
    }
    let plugin = if volume.empty_dir.is_some() {
        "kubernetes.io~empty-dir"
    } else if volume.config_map.is_some() {
        "kubernetes.io~configmap"
    } else if volume.secret.is_some() {
        "kubernetes.io~secret"
    } else if volume.downward_api.is_some() {
        "kubernetes.io~downward-api"
    } else if volume.projected.is_some() {
        "kubernetes.io~projected"
    } else if volume.image.is_some() {
        "kubernetes.io~image"
    } else {
        return None;
    };
    Some(paths.volume(pod::uid(pod), plugin, &volume.name))
}

/// Unmounts everything below the pod's directory, then removes it. A mount that does not go keeps the directory:
/// removing files through it would destroy what is mounted.
pub fn tear_down(pod_directory: &Path) -> std::io::Result<()> {
    mounts::unmount_below(pod_directory)?;
    match std::fs::remove_dir_all(pod_directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

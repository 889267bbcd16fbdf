//! A pod's volumes on the node: made before its sandbox, refreshed while it runs, unmounted and removed after it.
//!
//! Everything that must be asked of others (objects, claims, tokens) is fetched first, so that making volumes is
//! file work alone; it blocks, and runs where that harms nobody. Storage drivers have published theirs by then (`csi`), and
//! what other machines export is mounted (`nfs`, `iscsi`). A volume lives under the pod's own directory, except hostPath and
//! local volumes, which are the host's and are never removed.

mod atomic;
mod content;
mod empty_dir;
mod host_path;
mod modes;
pub(in crate::kubelet) mod mounts;
mod nfs;
mod ownership;
mod shown_device;
mod source;
mod sub_path;
mod token;

use atomic::replace_contents;
pub use modes::mismatch;
pub use nfs::mount_all;
use ownership::Ownership;
pub(in crate::kubelet) use shown_device::Shown;
pub use source::{Source, directory, is_read_only, source};
pub use sub_path::bind_sub_path;
pub use token::{ClusterTokens, TokenSource, Tokens};

use crate::kubelet::facts::Facts;
use crate::kubelet::host::Host;
use crate::kubelet::observed::Sandbox;
use crate::kubelet::paths::Paths;
use crate::kubelet::pod;
use crate::kubelet::references::{self, References};
use k8s_openapi::api::core::v1::{Pod, Volume};
use std::path::Path;
use std::sync::Arc;

/// A volume that could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeError {
    /// Its name in the pod; none where no volume could be made at all.
    pub volume: Option<String>,
    /// Why, for the FailedMount event.
    pub message: String,
}

/// What a pod's volumes are made from.
#[derive(Debug, Clone)]
pub struct VolumeInputs {
    #[allow(missing_docs)]
    pub pod: Arc<Pod>,
    #[allow(missing_docs)]
    pub paths: Paths,
    #[allow(missing_docs)]
    pub references: References,
    #[allow(missing_docs)]
    pub facts: Facts,
    /// Service account tokens of its projected volumes.
    pub tokens: Tokens,
}

impl VolumeError {
    /// It was found out by looking at claims, before anything was mounted.
    pub fn is_of_claim(&self) -> bool {
        self.message.starts_with(references::CLAIM_FAILED) || modes::is_mismatch(&self.message)
    }
}

impl VolumeInputs {
    /// Asks for everything that the pod's volumes name.
    pub async fn gather(
        host: &Host,
        pod: &Arc<Pod>,
        sandbox: Option<&Sandbox>,
    ) -> Result<VolumeInputs, VolumeError> {
        let whole = |message: String| VolumeError { volume: None, message };
        let references = references::fetch(&*host.objects, pod).await.map_err(whole)?;
        modes::check(pod, &references)?;
        let tokens = token::fetch(host.tokens.as_deref(), pod).await?;
        Ok(VolumeInputs {
            pod: pod.clone(),
            paths: host.paths.clone(),
            references,
            facts: host.facts(pod, sandbox),
            tokens,
        })
    }
}

/// Whether the contents of any volume of this pod may change while it runs.
pub fn can_change(pod: &Pod) -> bool {
    let volumes = pod::spec(pod).volumes.iter().flatten();
    // What a claim is bound to may be a driver's.
    let is_drivers = |volume: &Volume| {
        volume.csi.is_some() || volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
    };
    volumes
        .into_iter()
        .any(|volume| is_drivers(volume) || source::plugin(volume).is_some_and(source::is_made_of_objects))
}

/// Makes every volume of the pod. Blocks.
pub fn set_up(inputs: &VolumeInputs) -> Result<(), VolumeError> {
    each(inputs, set_up_one)
}

/// Brings the volumes that are made of API objects up to date. Blocks.
pub fn refresh(inputs: &VolumeInputs) -> Result<(), VolumeError> {
    each(inputs, |inputs, volume| match source(&inputs.pod, volume, &inputs.references)? {
        Source::Objects(_) => set_up_one(inputs, volume),
        _ => Ok(()),
    })
}

fn each(
    inputs: &VolumeInputs,
    act: impl Fn(&VolumeInputs, &Volume) -> Result<(), String>,
) -> Result<(), VolumeError> {
    for volume in pod::spec(&inputs.pod).volumes.iter().flatten() {
        let fail = |message: String| VolumeError { volume: Some(volume.name.clone()), message };
        act(inputs, volume).map_err(fail)?;
    }
    Ok(())
}

fn set_up_one(inputs: &VolumeInputs, volume: &Volume) -> Result<(), String> {
    let ownership = Ownership::of(&inputs.pod);
    let source = source(&inputs.pod, volume, &inputs.references)?;
    let directory = directory(&inputs.paths, &inputs.pod, volume, &source);
    match source {
        Source::HostPath { path, kind } => host_path::check(path, kind),
        Source::Local { path } => match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => ownership.apply(Path::new(path)),
            Ok(_) => Err(format!("local volume \"{path}\" is not a directory")),
            Err(error) => Err(format!("path \"{path}\" does not exist: {error}")),
        },
        Source::Device { name, path } => {
            shown_device::show_local(&inputs.paths, pod::uid(&inputs.pod), name, path)
        }
        Source::EmptyDir(wanted) => empty_dir::set_up(&directory, wanted, inputs, ownership.group()),
        // A container's to mount, or published by its driver or mounted before this.
        Source::Image(_) | Source::Csi { .. } | Source::Nfs { .. } | Source::Iscsi { .. } => Ok(()),
        Source::Objects(_) => {
            let payload = content::payload(inputs, volume)?;
            if payload.secret {
                mounts::mount_tmpfs(&directory, None).map_err(|error| error.to_string())?;
            }
            replace_contents(&directory, &payload.files, ownership.group())
                .map_err(|error| format!("write {}: {error}", directory.display()))
        }
    }
}

/// Gives the files of a volume to the pod's group, as its security context says. Blocks.
pub fn give_to_group(pod: &Pod, volume: &Path) -> Result<(), String> {
    Ownership::of(pod).apply(volume)
}

/// Takes out of a pod what is not the pod's own: volumes of storage drivers, and disks of targets. What is mounted out of
/// them goes first, or they would stay in use.
pub async fn give_back(host: &Host, uid: &str) -> Result<(), String> {
    let (paths, own) = (host.paths.clone(), uid.to_owned());
    let unmounted = tokio::task::spawn_blocking(move || {
        mounts::unmount_below(&paths.pod(&own).join("volume-subpaths"))?;
        shown_device::hide_local(&paths, &own)
    });
    let unmounted = unmounted.await;
    unmounted.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let given = [
        host.csi.withdraw_all(&host.paths, uid).await.err(),
        host.iscsi.release_all(&host.paths, uid).await.err(),
    ];
    let errors: Vec<String> = given.into_iter().flatten().collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
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

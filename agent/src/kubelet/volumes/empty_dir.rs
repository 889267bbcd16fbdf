//! emptyDir: a directory that lives as long as its pod, on the node's disk or in memory.

use super::{VolumeInputs, mounts};
use crate::kubelet::resources;
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

pub(super) fn set_up(
    directory: &Path,
    source: &EmptyDirVolumeSource,
    inputs: &VolumeInputs,
    group: Option<u32>,
) -> Result<(), String> {
    let size = source.size_limit.as_ref().and_then(resources::value).filter(|size| *size > 0);
    let result = match source.medium.as_deref().unwrap_or_default() {
        "" => std::fs::create_dir_all(directory),
        "Memory" => {
            // The kubelet's rule: never more than the pod, or all pods together, may use in memory.
            let memory = resources::pod_limit(&inputs.pod, "memory").map(|milli| milli / 1000);
            let node = inputs.facts.allocatable.get("memory").and_then(resources::value);
            let size = [size, memory, node].into_iter().flatten().min();
            mounts::mount_tmpfs(directory, size.and_then(|size| u64::try_from(size).ok()))
        }
        pages if pages.starts_with("HugePages") => {
            return Err(format!("emptyDir medium \"{pages}\" is not supported yet by this node"));
        }
        other => return Err(format!("unknown storage medium \"{other}\"")),
    };
    // Everybody may write into memory, and remove only what is theirs: so the kernel makes it, and a kubelet leaves it.
    let sticky = if source.medium.as_deref() == Some("Memory") { 0o1000 } else { 0 };
    let permissions =
        |mode: u32| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode | sticky));
    let owned = result.and_then(|()| match group {
        // setgid, so that what containers create belongs to the group too.
        Some(group) => chown(directory, None, Some(group)).and_then(|()| permissions(0o2777)),
        None => permissions(0o777),
    });
    owned.map_err(|error| format!("{}: {error}", directory.display()))
}

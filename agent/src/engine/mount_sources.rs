//! Finds what CRI mounts refer to: paths of the host with symbolic links followed (a missing one is an error, never
//! created), and images mounted as read-only volumes.

use super::bundle;
use super::core::Core;
use super::records::SandboxRecord;
use super::rootfs_file;
use super::spec::ResolvedMount;
use anyhow::{Context, anyhow};
use knarr_cri::{
    Status,
    v1::{self, MountPropagation},
};
use knarr_images::Mount as ImageMount;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Resolves every mount of a container. Blocking.
pub(crate) fn resolve(
    core: &Core,
    container_id: &str,
    sandbox: &SandboxRecord,
    mounts: &[v1::Mount],
) -> anyhow::Result<Vec<ResolvedMount>> {
    // With hundreds of pods it takes milliseconds to read.
    let mountinfo: LazyLock<String> =
        LazyLock::new(|| std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    let resolve_one = |(index, mount): (usize, &v1::Mount)| match &mount.image {
        Some(image) if !image.image.is_empty() => {
            image_volume(core, (container_id, sandbox), index, mount, &image.image)
        }
        _ => host_path(mount, &mountinfo),
    };
    mounts.iter().enumerate().map(resolve_one).collect()
}

fn host_path(mount: &v1::Mount, mountinfo: &LazyLock<String>) -> anyhow::Result<ResolvedMount> {
    if !mount.host_path.starts_with('/') {
        return Err(
            Status::invalid_argument(format!("host_path {:?} is not absolute", mount.host_path)).into()
        );
    }
    let source = std::fs::canonicalize(&mount.host_path)
        .with_context(|| format!("failed to stat {:?}", mount.host_path))?;
    if mount.propagation() != MountPropagation::PropagationPrivate {
        check_propagation(&source, mount.propagation(), mountinfo)?;
    }
    Ok(ResolvedMount { request: mount.clone(), source })
}

/// Mounts can only travel over a mount that lets them.
fn check_propagation(source: &Path, wanted: MountPropagation, mountinfo: &str) -> anyhow::Result<()> {
    let (place, tags) = mount_of(source, mountinfo);
    let shared = tags.contains("shared:");
    let (fine, kind) = match wanted {
        MountPropagation::PropagationPrivate => (true, ""),
        MountPropagation::PropagationHostToContainer => {
            (shared || tags.contains("master:"), "shared or slave")
        }
        MountPropagation::PropagationBidirectional => (shared, "shared"),
    };
    anyhow::ensure!(
        fine,
        "path {:?} is mounted on {:?} but it is not a {kind} mount",
        source.display().to_string(),
        place
    );
    Ok(())
}

/// The mount point a path is on, and that mount's optional fields.
fn mount_of<'a>(path: &Path, mountinfo: &'a str) -> (&'a str, &'a str) {
    let mut best = ("", "");
    for line in mountinfo.lines() {
        let Some((left, _)) = line.split_once(" - ") else { continue };
        let mut fields = left.splitn(7, ' ');
        let (place, tags) = (fields.nth(4).unwrap_or_default(), fields.nth(1).unwrap_or_default());
        // A later line of the same place is mounted on top of the earlier one.
        if path.starts_with(place) && place.len() >= best.0.len() {
            best = (place, tags);
        }
    }
    best
}

fn image_volume(
    core: &Core,
    (container_id, sandbox): (&str, &SandboxRecord),
    index: usize,
    mount: &v1::Mount,
    name: &str,
) -> anyhow::Result<ResolvedMount> {
    let image =
        core.images.find(name)?.ok_or_else(|| Status::not_found(format!("image {name:?} not found")))?;
    let target = core.paths.image_volume(container_id, index);
    std::fs::create_dir_all(&target)?;
    for layer in core.images.view(&snapshot_key(container_id, index), &image)? {
        bundle::mount_snapshot(core, container_id, sandbox, &layer, &target)?;
    }
    let source = match mount.image_sub_path.trim_matches('/') {
        "" => target,
        sub_path => sub_directory(&target, sub_path)?,
    };
    let mut request = mount.clone();
    if let Some(spec) = request.image.as_mut() {
        spec.image = image.id;
    }
    Ok(ResolvedMount { request, source })
}

fn sub_directory(root: &Path, sub_path: &str) -> anyhow::Result<PathBuf> {
    if Path::new(sub_path).components().any(|part| part == std::path::Component::ParentDir) {
        return Err(
            Status::invalid_argument(format!("image_sub_path {sub_path:?} must not contain '..'")).into()
        );
    }
    rootfs_file::locate(root, sub_path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            anyhow!("image_sub_path {sub_path:?} does not exist in the image: no such file or directory")
        }
        _ => anyhow!("image_sub_path {sub_path:?}: {error}"),
    })
}

/// Key of an image volume's snapshot.
fn snapshot_key(container_id: &str, index: usize) -> String {
    format!("{container_id}-image-{index}")
}

/// Unmounts the image volumes of a container and lets their snapshots go. Blocking; idempotent.
pub(crate) fn release(core: &Core, container_id: &str, mounts: usize) -> anyhow::Result<()> {
    let mut failures = super::failures::Failures::default();
    for index in 0..mounts {
        let target = core.paths.image_volume(container_id, index);
        if target.exists() {
            failures.note("unmounting an image volume", ImageMount::unmount(&target));
            failures.note(
                "removing an image volume's snapshot",
                core.images.remove_snapshot(&snapshot_key(container_id, index)),
            );
            // What a part of a volume was bound to may be a file.
            drop(std::fs::remove_dir(&target).or_else(|_| std::fs::remove_file(&target)));
        }
    }
    failures.into_result()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw\n\
        30 22 0:5 / /data rw master:7 - ext4 /dev/sdb rw\n\
        31 22 0:6 / /private rw - tmpfs tmpfs rw\n";

    #[test]
    fn propagation_needs_a_mount_that_propagates() {
        use MountPropagation::{PropagationBidirectional, PropagationHostToContainer, PropagationPrivate};
        let check = |path: &str, wanted| check_propagation(Path::new(path), wanted, MOUNTINFO).is_ok();
        assert!(check("/x", PropagationBidirectional) && check("/x", PropagationHostToContainer));
        assert!(check("/data/x", PropagationHostToContainer) && !check("/data/x", PropagationBidirectional));
        assert!(check("/private/x", PropagationPrivate) && !check("/private", PropagationHostToContainer));
    }

    #[test]
    fn a_mount_point_is_matched_by_whole_names() {
        assert_eq!(mount_of(Path::new("/database"), MOUNTINFO).0, "/");
        assert_eq!(mount_of(Path::new("/data"), MOUNTINFO).0, "/data");
    }

    #[test]
    fn a_missing_host_path_is_an_error() {
        let mount = v1::Mount { host_path: "/no/such/path".into(), ..Default::default() };
        assert!(
            format!("{:#}", host_path(&mount, &LazyLock::new(String::new)).unwrap_err())
                .contains("/no/such/path")
        );
    }
}

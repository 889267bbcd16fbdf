//! One file or directory of a volume in the place of the whole, for containers of `knarr run` (`volume-subpath`).
//!
//! The volume's contents belong to containers, so a path in it may be replaced by a link to anywhere between our look and
//! the runtime's mount. The kernel resolves it once, beneath the volume, and what was found is bound to a place in the
//! bundle, which only this machine's root can change; the runtime mounts that place. It goes with the image volumes.

use super::core::Core;
use super::records::ContainerRecord;
use crate::pin::pin;
use anyhow::Context;
use knarr_images::{Mount as ImageMount, scoped_open};
use knarr_runtime::spec::Spec;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Has the mounts at these places show these paths of their sources. Blocking.
///
/// # Errors
/// For a place where nothing is mounted, and for a path that is not there or leaves the volume.
pub(super) fn narrow(
    core: &Core,
    container: &ContainerRecord,
    sub_paths: &BTreeMap<String, String>,
    spec: &mut Spec,
) -> anyhow::Result<()> {
    for (place, sub_path) in sub_paths {
        let index = container.config.mounts.iter().position(|mount| mount.container_path == *place);
        let mount = spec.mounts.iter_mut().find(|mount| mount.destination == *place);
        let (index, mount) = index.zip(mount).with_context(|| format!("nothing is mounted at {place}"))?;
        let target = core.paths.image_volume(&container.id, index);
        if target.exists() {
            ImageMount::unmount(&target).with_context(|| format!("unmount {}", target.display()))?;
        }
        let volume = Path::new(&mount.source);
        let found = find(volume, sub_path).and_then(|found| pin(&found, &target));
        found.with_context(|| format!("cannot access path {}", volume.join(sub_path).display()))?;
        mount.source = target.display().to_string();
    }
    Ok(())
}

fn find(volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(volume, flags | OFlags::DIRECTORY, Mode::empty())?;
    Ok(scoped_open(&root, sub_path, flags, ResolveFlags::BENEATH)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_path_leaves_its_volume() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("volume");
        std::fs::create_dir_all(volume.join("a/b")).unwrap();
        std::fs::write(directory.path().join("secret"), "x").unwrap();
        symlink("a", volume.join("inside")).unwrap();
        symlink("../secret", volume.join("outside")).unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        for there in ["a", "a/b", "inside/b", "a/../a/b"] {
            find(&volume, there).unwrap();
        }
        for not in ["c", "outside", "absolute", "../secret", "a/../../secret", "/etc"] {
            assert!(find(&volume, not).is_err(), "{not}");
        }
    }
}

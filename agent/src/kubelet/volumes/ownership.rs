//! `fsGroup`: who owns the files of a volume that the pod may own. The group gets what the user has, and directories
//! get the setgid bit, so that what containers create belongs to the group too.

use crate::kubelet::pod;
use k8s_openapi::api::core::v1::Pod;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::path::Path;

const SETGID: u32 = 0o2000;
const DIRECTORY_BITS: u32 = SETGID | 0o770;
const FILE_BITS: u32 = 0o660;

/// What the pod's security context says about volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ownership {
    group: Option<u32>,
    only_on_mismatch: bool,
}

impl Ownership {
    pub(super) fn of(pod: &Pod) -> Ownership {
        let context = pod::spec(pod).security_context.as_ref();
        let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
        Ownership {
            group: context.and_then(|context| u32::try_from(context.fs_group?).ok()),
            only_on_mismatch: policy == Some("OnRootMismatch"),
        }
    }

    pub(super) fn group(self) -> Option<u32> {
        self.group
    }

    /// Gives everything below `root` to the group; does nothing without one, or when the policy is content with the
    /// root directory as it is.
    pub(super) fn apply(self, root: &Path) -> Result<(), String> {
        let Some(group) = self.group else { return Ok(()) };
        let named = |error: io::Error| format!("applying fsGroup to {}: {error}", root.display());
        let found = std::fs::symlink_metadata(root).map_err(named)?;
        let fits = found.gid() == group && found.mode() & DIRECTORY_BITS == DIRECTORY_BITS;
        if self.only_on_mismatch && fits {
            return Ok(());
        }
        give(root, group).map_err(named)
    }
}

/// Links are never followed: they may lead out of the volume.
fn give(path: &Path, group: u32) -> io::Result<()> {
    let found = std::fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return lchown(path, None, Some(group));
    }
    let bits = if found.is_dir() { DIRECTORY_BITS } else { FILE_BITS };
    if found.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), group)?;
        }
    }
    // The root last: with OnRootMismatch it stands for all of it.
    chown(path, None, Some(group))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(found.mode() & 0o7777 | bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_gets_what_the_user_has() {
        let directory = tempfile::tempdir().unwrap();
        let (root, file) = (directory.path().join("v"), directory.path().join("v/f"));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        let before = std::fs::metadata("/etc/passwd").unwrap().gid();
        let always = Ownership { group: Some(1234), only_on_mismatch: false };
        always.apply(&root).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&root), mode(&file)), (0o2775, 0o664));
        assert_eq!(std::fs::metadata(&file).unwrap().gid(), 1234);
        assert_eq!(std::fs::metadata("/etc/passwd").unwrap().gid(), before);
        chown(&file, None, Some(1)).unwrap();
        Ownership { only_on_mismatch: true, ..always }.apply(&root).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().gid(), 1, "the root fits, so nothing is walked");
    }
}

//! Who reads the images: in a container with users of its own criu restores as the root of its user namespace, to whom the
//! files of this machine's root are closed.
//!
//! The group of that root may read them, and nobody may write them but their owner: what a restore goes on from is not the
//! container's to change.

use crate::error::{Context, Result};
use crate::spec::{Linux, NamespaceKind};
use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Gid, Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The link of criu's to the images of the dump before, of which one's own hold only what has changed.
const PARENT: &str = "parent";
/// Dumps on dumps; what leads in a circle ends too.
const MOST_PARENTS: u32 = 1000;

/// The group of the container's root, where it has users of its own.
pub(crate) fn group(linux: &Linux) -> Option<u32> {
    let new = |kind| linux.namespaces.iter().any(|one| one.kind == kind && one.path.is_empty());
    let root = linux.gid_mappings.iter().find(|map| map.container_id == 0)?;
    new(NamespaceKind::User).then_some(root.host_id)
}

/// Lets the group read the images in a directory, and those that they are built on.
pub(crate) fn admit(images: &Path, group: u32) -> Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory =
        rustix::fs::open(images, flags, Mode::empty()).context(|| format!("open {}", images.display()))?;
    for _ in 0..MOST_PARENTS {
        admit_one(&directory, group)
            .context(|| format!("letting group {group} read {}", images.display()))?;
        match rustix::fs::openat(&directory, PARENT, flags, Mode::empty()) {
            Ok(parent) => directory = parent,
            Err(rustix::io::Errno::NOENT) => break,
            Err(error) => return Err(error).context(|| format!("open {}/{PARENT}", images.display())),
        }
    }
    Ok(())
}

fn admit_one(directory: &OwnedFd, group: u32) -> rustix::io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if is_file(directory, &entry)? {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(directory, entry.file_name(), flags, Mode::empty())?;
            open_to(file.as_fd(), group, Mode::RGRP)?;
        }
    }
    open_to(directory.as_fd(), group, Mode::RGRP | Mode::XGRP)
}

/// Not every file system tells in its directories what an entry is.
fn is_file(directory: &OwnedFd, entry: &DirEntry) -> rustix::io::Result<bool> {
    let kind = match entry.file_type() {
        FileType::Unknown => {
            let stat = rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            FileType::from_raw_mode(stat.st_mode)
        }
        told => told,
    };
    Ok(kind == FileType::RegularFile)
}

fn open_to(file: BorrowedFd<'_>, group: u32, rights: Mode) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
    rustix::fs::fchown(file, None, Some(Gid::from_raw(group)))?;
    rustix::fs::fchmod(file, (mode | rights) & Mode::from_raw_mode(0o777))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn the_group_may_read_and_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (root.path().join("first"), root.path().join("second"));
        for directory in [&first, &second] {
            std::fs::create_dir(directory).unwrap();
            std::fs::write(directory.join("pages-1.img"), "memory").unwrap();
            std::fs::set_permissions(directory.join("pages-1.img"), PermissionsExt::from_mode(0o600))
                .unwrap();
            std::fs::set_permissions(directory, PermissionsExt::from_mode(0o700)).unwrap();
        }
        symlink("../first", second.join(PARENT)).unwrap();
        symlink("/etc/shadow", second.join("link.img")).unwrap();
        let group = rustix::process::getgid().as_raw();
        admit(&second, group).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        for directory in [&first, &second] {
            assert_eq!((mode(directory), mode(&directory.join("pages-1.img"))), (0o750, 0o640));
        }
        std::fs::remove_file(first.join("pages-1.img")).unwrap();
        symlink(".", first.join(PARENT)).unwrap();
        admit(&second, group).expect("a circle ends");
    }

    #[test]
    fn only_users_of_its_own_need_it() {
        let linux = |namespaces: serde_json::Value| -> Linux {
            let map = serde_json::json!([{"containerID": 1, "hostID": 5, "size": 1}, {"containerID": 0, "hostID": 7, "size": 1}]);
            serde_json::from_value(serde_json::json!({"namespaces": namespaces, "gidMappings": map})).unwrap()
        };
        assert_eq!(group(&linux(serde_json::json!([{"type": "user"}]))), Some(7));
        assert_eq!(group(&linux(serde_json::json!([{"type": "user", "path": "/x"}]))), None);
        assert_eq!(group(&linux(serde_json::json!([{"type": "mount"}]))), None);
    }
}

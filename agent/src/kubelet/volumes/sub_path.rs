//! `subPath`: one file or directory of a volume, mounted without its surroundings.
//!
//! The volume's contents belong to the containers, so a path in it may be replaced by a link to anywhere between
//! our look and the runtime's mount. The path is therefore resolved once, beneath the volume, by the kernel, and
//! what was found is bound to a place that only the node can change; the runtime mounts that place.

use crate::pin::pin;
use knarr_images::scoped_open;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path};

/// Binds `sub_path` of the volume at `volume` to `target` (made on the way); a missing directory is created.
pub fn bind_sub_path(volume: &Path, sub_path: &str, target: &Path) -> io::Result<()> {
    if Path::new(sub_path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("subPath \"{sub_path}\" leaves the volume"),
        ));
    }
    super::mounts::unmount_below(target)?;
    let source = open_beneath(volume, sub_path)?;
    pin(&source, target)
}

/// Opens a path beneath `volume`, creating directories that are missing.
fn open_beneath(volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match scoped_open(&root, sub_path, flags, ResolveFlags::BENEATH) {
        Ok(found) => return Ok(found),
        Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    // As the volume itself is: whoever may write there may write here.
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&root)?.st_mode & 0o7777);
    let mut current = root;
    for part in Path::new(sub_path).components().filter(|part| matches!(part, Component::Normal(_))) {
        let made = match rustix::fs::mkdirat(&current, part.as_os_str(), Mode::from_raw_mode(0o750)) {
            Ok(()) => true,
            Err(rustix::io::Errno::EXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        current = scoped_open(&current, part.as_os_str(), flags, resolve)?;
        if made {
            // The process's umask must not count.
            rustix::fs::chmod(format!("/proc/self/fd/{}", current.as_raw_fd()), mode)?;
        }
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_missing_is_made_as_open_as_the_volume_is() {
        let volume = tempfile::tempdir().unwrap();
        std::fs::create_dir(volume.path().join("there")).unwrap();
        for mode in [0o777, 0o2775] {
            std::fs::set_permissions(volume.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let path = format!("there/{mode}/deep");
            open_beneath(volume.path(), &path).unwrap();
            for made in [volume.path().join("there").join(mode.to_string()), volume.path().join(&path)] {
                let found = std::fs::metadata(&made).unwrap().permissions().mode() & 0o7777;
                assert_eq!(found, mode, "{}", made.display());
            }
        }
        let kept = std::fs::metadata(volume.path().join("there")).unwrap().permissions().mode() & 0o7777;
        assert_ne!(kept, 0o2775, "what was there stays as it is");
    }
}

//! The state directory is a private mount of its own: namespaces, root file systems and shared memory are mounted
//! below it, and none of that may travel into the mount namespaces of containers or of anybody else.

use anyhow::Context;
use knarr_sys::mount;
use std::path::Path;

/// `MS_PRIVATE`.
const PRIVATE: u64 = rustix::mount::MountPropagationFlags::PRIVATE.bits() as u64;

/// Makes the directory and mounts it onto itself, once.
pub(crate) fn make(state: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(state).with_context(|| format!("creating {}", state.display()))?;
    if is_mount_point(state)? {
        return Ok(());
    }
    mount::bind(state, state, false).with_context(|| format!("mounting {}", state.display()))?;
    Ok(mount::set_propagation(state, PRIVATE)?)
}

/// Undoes `make`, if nothing is mounted below any more.
pub(crate) fn remove(state: &Path) -> anyhow::Result<()> {
    if is_mount_point(state)? {
        mount::unmount(state, false).with_context(|| format!("unmounting {}", state.display()))?;
    }
    Ok(())
}

fn is_mount_point(path: &Path) -> anyhow::Result<bool> {
    let path = match std::fs::canonicalize(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
    // Blanks and backslashes are written in octal there; a state directory has none.
    Ok(mountinfo.lines().any(|line| line.split(' ').nth(4) == path.to_str()))
}

//! The state directory is a private mount of its own: namespaces, root file systems and shared memory are mounted
//! below it, and none of that may travel into the mount namespaces of containers or of anybody else.

use anyhow::Context;
use knarr_sys::mount;
use std::path::{Path, PathBuf};

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

/// Undoes `make`. Something still mounted below is an error and stays; open files are none, which is why the mount is
/// detached rather than unmounted.
pub(crate) fn remove(state: &Path) -> anyhow::Result<()> {
    if !is_mount_point(state)? {
        return Ok(());
    }
    let state = &std::fs::canonicalize(state)?;
    let below: Vec<_> =
        mount_points()?.into_iter().filter(|place| place.starts_with(state) && place != state).collect();
    anyhow::ensure!(below.is_empty(), "still mounted below {}: {below:?}", state.display());
    mount::unmount(state, true).with_context(|| format!("unmounting {}", state.display()))
}

fn is_mount_point(path: &Path) -> anyhow::Result<bool> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        path => Ok(mount_points()?.contains(&path?)),
    }
}

/// Blanks and backslashes are written in octal there; a state directory has none.
fn mount_points() -> std::io::Result<Vec<PathBuf>> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect())
}

//! Where a pod's device is found on the host besides its own place, as a kubelet lays it: by a link in the pod's directory,
//! and bound into a directory of all pods that have it. Operators and drivers look there.

use crate::kubelet::paths::Paths;
use knarr_sys::mount;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

const LOCAL: &str = "kubernetes.io~local-volume";

/// The places of one device of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kubelet) struct Shown {
    /// In the pod's directory: leads to the device.
    pub(in crate::kubelet) link: PathBuf,
    /// Among all pods that have the device: the same, bound.
    pub(in crate::kubelet) map: PathBuf,
}

impl Shown {
    /// Of a device of the node, by the name of the persistent volume.
    fn of_local(paths: &Paths, uid: &str, name: &str) -> Shown {
        let devices = paths.plugins().join("kubernetes.io/local-volume/volumeDevices");
        Shown { link: paths.volume_device(uid, LOCAL, name), map: devices.join(name).join(uid) }
    }

    /// Shows the device. Blocks.
    pub(in crate::kubelet) fn show(&self, device: &Path) -> io::Result<()> {
        let Shown { link, map } = self;
        make_parent(map)?;
        if !is_device(map) {
            std::fs::write(map, "")?;
            mount::bind(device, map, false)?;
        }
        make_parent(link)?;
        if std::fs::read_link(link).is_ok_and(|present| present == device) {
            return Ok(());
        }
        std::os::unix::fs::symlink(device, link)
    }

    /// Takes that back; each part may be gone. Blocks.
    pub(in crate::kubelet) fn hide(&self) -> io::Result<()> {
        let Shown { link, map } = self;
        mount::unmount_all(map)?;
        for file in [map, link] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // Other pods' are in it.
        let _others = map.parent().map(std::fs::remove_dir);
        Ok(())
    }
}

/// Shows a device of the node in a pod. Blocks.
pub(super) fn show_local(paths: &Paths, uid: &str, name: &str, device: &str) -> Result<(), String> {
    is_block_device(device)?;
    let shown = Shown::of_local(paths, uid, name).show(Path::new(device));
    shown.map_err(|error| format!("show \"{device}\": {error}"))
}

/// Takes back all that a pod has of the node. Blocks.
pub(super) fn hide_local(paths: &Paths, uid: &str) -> io::Result<()> {
    let entries = match std::fs::read_dir(paths.volume_device(uid, LOCAL, "")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        Shown::of_local(paths, uid, &entry?.file_name().to_string_lossy()).hide()?;
    }
    Ok(())
}

fn is_block_device(path: &str) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() => Ok(()),
        Ok(_) => Err(format!("path \"{path}\" is not a block device")),
        Err(error) => Err(format!("path \"{path}\" does not exist: {error}")),
    }
}

fn make_parent(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), std::fs::create_dir_all)
}

fn is_device(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| found.file_type().is_block_device())
}

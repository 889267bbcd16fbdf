//! Takes disks back: out of a pod that ended, and off the node when no pod has them any more.

use super::attach::{admin, place};
use super::{Disk, Iscsi, blocking, interface, record, session};
use crate::kubelet::paths::Paths;
use crate::kubelet::volumes::mounts;
use std::io;
use std::path::Path;

impl Iscsi {
    /// Takes every disk out of a pod's directory. Goes on after errors and returns them all; doing it again is harmless.
    pub async fn release_all(&self, paths: &Paths, uid: &str) -> Result<(), String> {
        let directory = paths.pod(uid);
        let found = blocking(move || record::of_pod(&directory)).await?;
        let mut errors = Vec::new();
        for (directory, disk) in found {
            if let Err(error) = self.release(paths, uid, &directory, &disk).await {
                errors.push(format!("UnmountVolume.TearDown failed for volume \"{}\" : {error}", disk.name));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    async fn release(&self, paths: &Paths, uid: &str, directory: &Path, disk: &Disk) -> Result<(), String> {
        let _turn = self.turn(&disk.target).await;
        let (place, global) = (place(paths, uid, disk), self.global(disk));
        let link = disk.block.then(|| global.join(uid));
        blocking(move || leave(&place, link.as_deref())).await?;
        let (pods, own) = (paths.all().to_path_buf(), directory.to_path_buf());
        let others = blocking(move || record::of_others(&pods, &own)).await?;
        let is_same = |other: &&Disk| (&other.target, other.lun) == (&disk.target, disk.lun);
        if !others.iter().any(|other| is_same(&other)) {
            let (target, lun) = (disk.target.clone(), disk.lun);
            blocking(move || unplug(&global, &target, lun)).await?;
        }
        if !others.iter().any(|other| other.target == disk.target) {
            log_out(disk).await;
        }
        let directory = directory.to_path_buf();
        blocking(move || record::remove(&directory)).await
    }
}

/// The disk out of the pod.
fn leave(place: &Path, link: Option<&Path>) -> io::Result<()> {
    let Some(link) = link else {
        mounts::unmount_below(place)?;
        return gone(std::fs::remove_dir(place));
    };
    gone(std::fs::remove_file(place))?;
    gone(std::fs::remove_file(link))
}

/// The disk off the node. Nothing is written to it any more when this has returned.
fn unplug(global: &Path, target: &str, lun: i32) -> io::Result<()> {
    mounts::unmount(global)?;
    // Where there is something in it, it is not ours to remove.
    let _left = std::fs::remove_dir(global);
    let mut devices: Vec<String> = Vec::new();
    for session in session::of_target(target)? {
        devices.extend(session.device(lun)?);
    }
    devices.iter().try_for_each(|device| session::delete_device(device))
}

/// What fails here is told, and holds nothing up: the disk is let go of already.
async fn log_out(disk: &Disk) {
    for portal in &disk.portals {
        let place = ["-m", "node", "-p", portal, "-T", &disk.target, "-I", &disk.interface];
        for rest in [&["--logout"][..], &["-o", "delete"][..]] {
            match admin(&place, rest).await {
                Ok(ended) if ended.code == Some(0) => {}
                Ok(ended) => tracing::warn!(target = disk.target, portal, "{}", ended.output.trim()),
                Err(error) => tracing::warn!(target = disk.target, portal, "{error}"),
            }
        }
    }
    interface::remove(disk).await;
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

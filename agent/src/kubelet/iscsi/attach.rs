//! Gives a pod its disks: the target is logged in to by each of its portals, and what comes of it is bound into the pod.

use super::chap::Passwords;
use super::session::{self, Session};
use super::{Disk, Iscsi, PATIENCE, PLUGIN, blocking, describe, file_system, interface, record};
use crate::kubelet::host::Host;
use crate::kubelet::program::{self, Ended};
use crate::kubelet::volumes::{VolumeError, VolumeInputs, give_to_group, mounts};
use crate::kubelet::{paths::Paths, pod};
use k8s_openapi::api::core::v1::Pod;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For a device to appear after a login.
const DEVICE: Duration = Duration::from_secs(10);
/// Between looks for it.
const PAUSE: Duration = Duration::from_millis(100);
/// `iscsiadm`: there is a session already.
const PRESENT: i32 = 15;

impl Iscsi {
    /// Gives the pod every disk that its volumes name.
    pub async fn attach_all(&self, host: &Host, inputs: &VolumeInputs) -> Result<(), VolumeError> {
        for volume in pod::spec(&inputs.pod).volumes.iter().flatten() {
            let Some(disk) = describe(&inputs.pod, volume, &inputs.references) else { continue };
            let attached = match disk {
                Ok(disk) => self.attach(host, &inputs.pod, &disk).await,
                Err(message) => Err(message),
            };
            attached.map_err(|message| VolumeError { volume: Some(volume.name.clone()), message })?;
        }
        Ok(())
    }

    async fn attach(&self, host: &Host, pod: &Pod, disk: &Disk) -> Result<(), String> {
        let _turn = self.turn(&disk.target).await;
        let directory = record::place(&host.paths.pod(pod::uid(pod)), &disk.name);
        let (noted, global) = (disk.clone(), self.global(disk));
        blocking(move || record::write(&directory, &noted)).await?;
        let device = log_in_everywhere(host, disk).await?;
        let place = place(&host.paths, pod::uid(pod), disk);
        if disk.block {
            let (uid, device) = (pod::uid(pod).to_owned(), PathBuf::from(device));
            return blocking(move || link(&device, &[place, global.join(uid)])).await;
        }
        file_system::mount(disk, &device, &global).await?;
        let read_only = disk.read_only;
        let bound = place.clone();
        blocking(move || bind(&global, &bound, read_only)).await?;
        let pod = pod.clone();
        if read_only { Ok(()) } else { blocking(move || Ok(give_to_group(&pod, &place))).await? }
    }
}

/// Where the disk is in the pod's directory.
pub(super) fn place(paths: &Paths, uid: &str, disk: &Disk) -> PathBuf {
    if disk.block {
        paths.volume_device(uid, PLUGIN, &disk.name)
    } else {
        paths.volume(uid, PLUGIN, &disk.name)
    }
}

fn bind(global: &Path, place: &Path, read_only: bool) -> io::Result<()> {
    std::fs::create_dir_all(place)?;
    if !mounts::is_mounted(place)? {
        mounts::bind(global, place, read_only)?;
    }
    Ok(())
}

/// Links that say which device the pod has.
fn link(device: &Path, places: &[PathBuf]) -> io::Result<()> {
    for place in places {
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent)?;
        }
        if std::fs::read_link(place).is_ok_and(|present| present == device) {
            continue;
        }
        match std::fs::remove_file(place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::os::unix::fs::symlink(device, place)?,
        }
    }
    Ok(())
}

/// The disk's device, by whichever portals answer.
async fn log_in_everywhere(host: &Host, disk: &Disk) -> Result<String, String> {
    let passwords = Passwords::of(host, disk).await?;
    interface::make(disk).await?;
    let (mut devices, mut last) = (Vec::new(), String::new());
    for portal in &disk.portals {
        match log_in(disk, portal, &passwords).await {
            Ok(device) => devices.push(device),
            Err(error) => last = error,
        }
    }
    let Some(first) = devices.first().cloned() else {
        return Err(format!("failed to get any path for iscsi disk, last err seen:\n{last}"));
    };
    let joined = multipath(devices).await?;
    Ok(format!("/dev/{}", joined.unwrap_or(first)))
}

/// Several ways to one disk are joined by a daemon of the machine, where it has one.
async fn multipath(devices: Vec<String>) -> Result<Option<String>, String> {
    let waits = devices.len() > 1 && Path::new("/sys/module/dm_multipath").exists();
    wait_for(if waits { DEVICE } else { Duration::ZERO }, move || session::multipath(&devices)).await
}

async fn log_in(disk: &Disk, portal: &str, passwords: &Passwords) -> Result<String, String> {
    let session = match session_with(disk, portal).await? {
        Some(session) => session,
        None => {
            discover(disk, portal, passwords).await?;
            enter(disk, portal, passwords).await?;
            let session = session_with(disk, portal).await?;
            session.ok_or_else(|| {
                format!("Could not get SCSI host number for portal {portal} after logging in")
            })?
        }
    };
    let lun = disk.lun;
    let scanned = session.clone();
    blocking(move || scanned.scan(lun)).await?;
    let found = wait_for(DEVICE, move || {
        let device = session.device(lun)?;
        Ok(device.filter(|device| Path::new("/dev").join(device).exists()))
    });
    found.await?.ok_or_else(|| format!("Could not attach disk: Timeout after {}s", DEVICE.as_secs()))
}

/// The session with a portal; a name is not what the kernel knows a portal by, so the only session will do.
async fn session_with(disk: &Disk, portal: &str) -> Result<Option<Session>, String> {
    let target = disk.target.clone();
    let sessions = blocking(move || session::of_target(&target)).await?;
    let is_named = disk.portals.len() == 1 && portal.contains(|one: char| one.is_ascii_alphabetic());
    let exact = sessions.iter().find(|session| session.portal == portal).cloned();
    Ok(exact.or_else(|| sessions.first().filter(|_| is_named && !portal.starts_with('[')).cloned()))
}

async fn wait_for<T: Send + 'static>(
    patience: Duration,
    look: impl Fn() -> io::Result<Option<T>> + Send + Clone + 'static,
) -> Result<Option<T>, String> {
    let begun = Instant::now();
    loop {
        let found = blocking(look.clone()).await?;
        if found.is_some() || begun.elapsed() >= patience {
            return Ok(found);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks the portal which targets it has: that makes open-iscsi's record of them.
async fn discover(disk: &Disk, portal: &str, passwords: &Passwords) -> Result<(), String> {
    let place = ["-m", "discoverydb", "-t", "sendtargets", "-p", portal, "-I", &disk.interface];
    // A record that is there already is as good.
    let _present = admin(&place, &["-o", "new"]).await;
    if disk.chap_discovery {
        for (name, value) in passwords.settings("discovery.sendtargets") {
            let set = admin(&place, &["-o", "update", "-n", &name, "-v", &value]).await?;
            expect(&set, || format!("failed to update discoverydb key {name:?}"))?;
        }
    }
    let found = admin(&place, &["--discover"]).await?;
    if found.code != Some(0) {
        let _gone = admin(&place, &["-o", "delete"]).await;
    }
    expect(&found, || format!("iscsi: failed to sendtargets to portal {portal}"))
}

async fn enter(disk: &Disk, portal: &str, passwords: &Passwords) -> Result<(), String> {
    let place = ["-m", "node", "-p", portal, "-T", &disk.target, "-I", &disk.interface];
    if disk.chap_session {
        for (name, value) in passwords.settings("node.session") {
            let set = admin(&place, &["-o", "update", "-n", &name, "-v", &value]).await?;
            expect(&set, || format!("iscsi: failed to update node session key {name:?}"))?;
        }
    }
    let entered = admin(&place, &["--login"]).await?;
    if !matches!(entered.code, Some(0 | PRESENT)) {
        let _gone = admin(&place, &["-o", "delete"]).await;
        return expect(&entered, || "iscsi: failed to attach disk".to_owned());
    }
    // A machine that starts again must not wait for a target that a pod once wanted.
    let _kept = admin(&place, &["-o", "update", "-n", "node.startup", "-v", "manual"]).await;
    Ok(())
}

fn expect(ended: &Ended, what: impl Fn() -> String) -> Result<(), String> {
    match ended.code {
        Some(0) => Ok(()),
        _ => Err(format!("{} output: {}, err {}", what(), ended.output.trim(), ended.status())),
    }
}

pub(super) async fn admin(place: &[&str], rest: &[&str]) -> Result<Ended, String> {
    let arguments: Vec<String> = place.iter().chain(rest).map(|&word| word.to_owned()).collect();
    program::run("iscsiadm", &arguments, PATIENCE).await
}

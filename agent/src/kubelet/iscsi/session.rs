//! Sessions with targets and the devices they have brought, as the kernel tells of them.

use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel tells.
const SESSIONS: &str = "/sys/class/iscsi_session";

/// A login to one portal of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// `ADDRESS:PORT`.
    pub(super) portal: String,
    /// Number of its SCSI host.
    host: u32,
    /// Of its devices.
    directory: PathBuf,
}

/// The sessions with a target. Blocks.
pub(super) fn of_target(target: &str) -> io::Result<Vec<Session>> {
    let mut found = Vec::new();
    for class in entries(Path::new(SESSIONS))? {
        if text(&class.join("targetname")).as_deref() != Some(target) {
            continue;
        }
        let Ok(directory) = class.join("device").canonicalize() else { continue };
        let Some(host) = directory.parent().and_then(host_number) else { continue };
        let portal = portal(&directory)?;
        found.extend(portal.map(|portal| Session { portal, host, directory }));
    }
    Ok(found)
}

fn host_number(directory: &Path) -> Option<u32> {
    directory.file_name()?.to_str()?.strip_prefix("host")?.parse().ok()
}

/// The portal that a session was made with.
fn portal(session: &Path) -> io::Result<Option<String>> {
    for connection in entries(session)?.into_iter().filter(|path| begins(path, "connection")) {
        for class in entries(&connection.join("iscsi_connection"))? {
            let of = |file: &str| text(&class.join(file));
            if let (Some(address), Some(port)) = (of("persistent_address"), of("persistent_port")) {
                let address = if address.contains(':') { format!("[{address}]") } else { address };
                return Ok(Some(format!("{address}:{port}")));
            }
        }
    }
    Ok(None)
}

impl Session {
    /// Has the kernel look for one disk, and for no other. Blocks.
    pub(super) fn scan(&self, lun: i32) -> io::Result<()> {
        std::fs::write(format!("/sys/class/scsi_host/host{}/scan", self.host), format!("0 0 {lun}"))
    }

    /// The name of the disk's device, such as `sda`, once it is there. Blocks.
    pub(super) fn device(&self, lun: i32) -> io::Result<Option<String>> {
        for target in entries(&self.directory)?.into_iter().filter(|path| begins(path, "target")) {
            for unit in entries(&target)?.into_iter().filter(|path| ends(path, &format!(":{lun}"))) {
                if let Some(device) = entries(&unit.join("block"))?.first().and_then(|path| path.file_name())
                {
                    return Ok(Some(device.to_string_lossy().into_owned()));
                }
            }
        }
        Ok(None)
    }
}

/// The device that joins several ways to one disk, if one of them is part of such. Blocks.
pub(super) fn multipath(devices: &[String]) -> io::Result<Option<String>> {
    for device in devices {
        for holder in entries(&Path::new("/sys/block").join(device).join("holders"))? {
            let joins = text(&holder.join("dm/uuid")).is_some_and(|uuid| uuid.starts_with("mpath-"));
            if let (true, Some(name)) = (joins, holder.file_name()) {
                return Ok(Some(name.to_string_lossy().into_owned()));
            }
        }
    }
    Ok(None)
}

/// Takes a device away from the kernel; it may be gone. Blocks.
pub(super) fn delete_device(device: &str) -> io::Result<()> {
    match std::fs::write(format!("/sys/block/{device}/device/delete"), "1") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn begins(path: &Path, beginning: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning))
}

fn ends(path: &Path, end: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end))
}

/// What is in a directory; nothing where it is not there.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let found = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    found.map(|entry| entry.map(|entry| entry.path())).collect()
}

fn text(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

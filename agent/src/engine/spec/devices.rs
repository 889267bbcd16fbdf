//! Device nodes and who may open them.
//!
//! The runtime itself makes the standard nodes (null, zero, full, random, urandom, tty); here come the devices that CRI
//! names, and for a privileged container all devices of the host.

use super::Input;
use knarr_runtime::spec::{Device, DeviceRule};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Devices found on the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HostDevices {
    /// Node to make, and the access (letters of `rwm`) that goes with it.
    pub(crate) devices: Vec<(Device, String)>,
}

/// The nodes to make in the container.
pub(super) fn nodes(input: &Input<'_>) -> Vec<Device> {
    input.devices.devices.iter().map(|(device, _)| device.clone()).collect()
}

/// Nothing but the devices given (and the runtime's own); everything for a privileged container.
pub(super) fn rules(input: &Input<'_>) -> Vec<DeviceRule> {
    if input.privileged() {
        return vec![DeviceRule { allow: true, access: "rwm".into(), ..DeviceRule::default() }];
    }
    let deny_all = DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() };
    let allowed = input.devices.devices.iter().map(|(device, access)| DeviceRule {
        allow: true,
        kind: device.kind.clone(),
        major: Some(device.major),
        minor: Some(device.minor),
        access: access.clone(),
    });
    std::iter::once(deny_all).chain(allowed).collect()
}

/// Looks up one CRI device: a node, or every node below a directory.
pub(crate) fn resolve(device: &knarr_cri::v1::Device) -> std::io::Result<HostDevices> {
    let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
    let mut found = HostDevices::default();
    collect(Path::new(&device.host_path), &device.container_path, access, &mut found)?;
    if found.devices.is_empty() {
        return Err(std::io::Error::other(format!("{} is not a device node", device.host_path)));
    }
    Ok(found)
}

/// Every device of the host, as a privileged container sees them.
pub(crate) fn all() -> std::io::Result<HostDevices> {
    /// File systems of their own, or bound to somebody's terminal.
    const SKIPPED: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
    let mut found = HostDevices::default();
    for entry in std::fs::read_dir("/dev")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !SKIPPED.contains(&name.as_str()) && !entry.file_type()?.is_symlink() {
            collect(&entry.path(), &format!("/dev/{name}"), "rwm", &mut found)?;
        }
    }
    Ok(found)
}

fn collect(host: &Path, container: &str, access: &str, found: &mut HostDevices) -> std::io::Result<()> {
    let metadata = std::fs::metadata(host)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        for entry in std::fs::read_dir(host)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !entry.file_type()?.is_symlink() {
                collect(&entry.path(), &format!("{container}/{name}"), access, found)?;
            }
        }
        return Ok(());
    }
    let letter = match (kind.is_char_device(), kind.is_block_device()) {
        (true, _) => "c",
        (_, true) => "b",
        _ => return Ok(()),
    };
    let number = metadata.rdev();
    let device = Device {
        path: container.into(),
        kind: letter.into(),
        major: i64::from(rustix::fs::major(number)),
        minor: i64::from(rustix::fs::minor(number)),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    };
    found.devices.push((device, access.to_owned()));
    Ok(())
}

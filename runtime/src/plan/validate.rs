//! What is wrong with a configuration in itself, before anything is decided from it.

use super::{Host, Options};
use crate::error::{Error, Result};
use crate::net_devices;
use crate::spec::{Hook, Hooks, Linux, NamespaceKind, Spec};

/// Checks what no later step would notice.
pub(super) fn spec(spec: &Spec, options: &Options, host: &Host) -> Result<()> {
    version(&spec.oci_version)?;
    match &spec.root {
        None => return Err(Error::invalid("root: must be specified")),
        Some(root) if root.path.is_empty() => return Err(Error::invalid("root.path: must not be empty")),
        Some(_) => {}
    }
    let Some(linux) = &spec.linux else { return Err(Error::invalid("linux: must be specified")) };
    let has = |kind: NamespaceKind| linux.namespaces.iter().any(|namespace| namespace.kind == kind);
    if !has(NamespaceKind::Mount) {
        among_host_mounts(linux)?;
    }
    if !spec.hostname.is_empty() && !has(NamespaceKind::Uts) {
        return Err(Error::invalid("hostname: unable to set hostname without a private UTS namespace"));
    }
    if !spec.domainname.is_empty() && !has(NamespaceKind::Uts) {
        return Err(Error::invalid("domainname: unable to set domainname without a private UTS namespace"));
    }
    net_devices(linux, options)?;
    let label = spec.process.as_ref().map_or("", |process| process.selinux_label.as_str());
    if !(host.selinux || label.is_empty() && linux.mount_label.is_empty()) {
        return Err(Error::invalid(
            "selinux label is specified in config, but selinux is disabled or not supported",
        ));
    }
    spec.hooks.as_ref().map_or(Ok(()), hooks)
}

/// What a container without a mount namespace would do to the host's own mounts.
fn among_host_mounts(linux: &Linux) -> Result<()> {
    if !linux.masked_paths.is_empty() || !linux.readonly_paths.is_empty() {
        return Err(Error::invalid("unable to restrict sys entries without a private MNT namespace"));
    }
    if !linux.rootfs_propagation.is_empty() {
        return Err(Error::invalid(
            "linux.rootfsPropagation: unable to set propagation without a private MNT namespace",
        ));
    }
    Ok(())
}

fn net_devices(linux: &Linux, options: &Options) -> Result<()> {
    if linux.net_devices.is_empty() {
        return Ok(());
    }
    if options.rootless {
        return Err(Error::invalid(
            "linux.netDevices: network devices are not supported for rootless containers",
        ));
    }
    if !linux.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::Network) {
        return Err(Error::invalid(
            "linux.netDevices: unable to move network devices without a private NET namespace",
        ));
    }
    for (name, device) in &linux.net_devices {
        if !net_devices::is_name(name) {
            return Err(Error::invalid(format!("linux.netDevices: invalid network device name {name:?}")));
        }
        if !device.name.is_empty() && !net_devices::is_name(&device.name) {
            return Err(Error::invalid(format!(
                "linux.netDevices: invalid network device name {:?}",
                device.name
            )));
        }
    }
    Ok(())
}

fn version(version: &str) -> Result<()> {
    if version.is_empty() {
        return Err(Error::invalid("ociVersion: must be specified"));
    }
    let mut parts = version.split(['.', '-', '+']);
    let number = |part: Option<&str>| part.and_then(|text| text.parse::<u32>().ok());
    match (number(parts.next()), number(parts.next()), number(parts.next())) {
        (Some(1), Some(_), Some(_)) => Ok(()),
        _ => Err(Error::invalid(format!("ociVersion: unsupported version {version:?}"))),
    }
}

fn hooks(hooks: &Hooks) -> Result<()> {
    let kinds = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (kind, list) in kinds {
        for (index, hook) in list.iter().enumerate() {
            self::hook(hook).map_err(|why| Error::invalid(format!("hooks.{kind}[{index}].{why}")))?;
        }
    }
    Ok(())
}

fn hook(hook: &Hook) -> std::result::Result<(), String> {
    if !hook.path.starts_with('/') {
        return Err(format!("path: {:?} is not absolute", hook.path));
    }
    match hook.timeout {
        Some(seconds) if seconds <= 0 => Err(format!("timeout: {seconds} must be greater than zero")),
        _ => Ok(()),
    }
}

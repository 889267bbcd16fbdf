//! Capabilities: containerd's fourteen by default, changed by CRI's add and drop lists, where ALL means all.
//!
//! "All" is what this engine itself holds: a set that the kernel would refuse to give cannot be asked for. Nothing is
//! inheritable (CVE-2022-24769); ambient only on request.

use super::Input;
use knarr_cri::Status;
use knarr_runtime::spec::Capabilities;
use std::collections::BTreeSet;

/// What a container has when nobody says anything.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The set without any wishes.
pub(crate) fn by_default() -> impl Iterator<Item = &'static str> {
    DEFAULT.into_iter()
}

/// Every capability by number.
pub(crate) const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

pub(super) fn build(input: &Input<'_>) -> Result<Capabilities, Status> {
    let set = effective(input)?;
    let requested = input.security().capabilities.unwrap_or_default();
    let ambient =
        requested.add_ambient_capabilities.iter().map(|name| known(name)).collect::<Result<_, _>>()?;
    let ambient: BTreeSet<String> = ambient;
    let mut held = set;
    held.extend(ambient.iter().cloned());
    let held: Vec<String> = held.into_iter().collect();
    Ok(Capabilities {
        bounding: held.clone(),
        effective: held.clone(),
        permitted: held,
        // Ambient capabilities exist only where they are inheritable too.
        inheritable: ambient.iter().cloned().collect(),
        ambient: ambient.into_iter().collect(),
    })
}

/// The set in force; also what decides which system calls the default seccomp profile opens.
pub(super) fn effective(input: &Input<'_>) -> Result<BTreeSet<String>, Status> {
    let all = || input.host.capabilities.iter().cloned().collect::<BTreeSet<_>>();
    if input.privileged() {
        return Ok(all());
    }
    let requested = input.security().capabilities.unwrap_or_default();
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut set: BTreeSet<String> = DEFAULT.iter().map(|&name| name.to_owned()).collect();
    if requested.add_capabilities.iter().any(is_all) {
        set = all();
    }
    if requested.drop_capabilities.iter().any(is_all) {
        set.clear();
        if requested.add_capabilities.iter().any(is_all) {
            set = all();
        }
    }
    for name in requested.add_capabilities.iter().filter(|name| !is_all(name)) {
        set.insert(known(name)?);
    }
    for name in requested.drop_capabilities.iter().filter(|name| !is_all(name)) {
        set.remove(&known(name)?);
    }
    Ok(set)
}

/// The kernel's name of a capability that was given with or without `CAP_`, in any case.
fn known(name: &str) -> Result<String, Status> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if !NAMES.contains(&full.as_str()) {
        return Err(Status::invalid_argument(format!("unknown capability {name:?}")));
    }
    Ok(full)
}

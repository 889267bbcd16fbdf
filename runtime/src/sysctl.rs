//! `linux.sysctl`: kernel parameters, only those that belong to a namespace of the container's own.

use crate::error::{Context, Error, Result};
use crate::plan::Namespaces;
use crate::spec::NamespaceKind;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// Parameters of the IPC namespace that have no prefix of their own.
const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Refuses what would change the host.
pub(crate) fn check(name: &str, namespaces: &Namespaces, sets_hostname: bool) -> Result<()> {
    // Separated by either, but a way up would make the first name a lie.
    if name.split(['/', '.']).any(str::is_empty) {
        return Err(Error::invalid(format!(
            "linux.sysctl: sysctl {name:?} is not a name of a kernel parameter"
        )));
    }
    let dotted = name.replace('/', ".");
    let needed = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        NamespaceKind::Ipc
    } else if dotted.starts_with("net.") {
        NamespaceKind::Network
    } else if dotted.starts_with("user.") {
        NamespaceKind::User
    } else if dotted == "kernel.domainname" {
        NamespaceKind::Uts
    } else if dotted == "kernel.hostname" {
        let why = "sysctl \"kernel.hostname\" is in conflict with hostname";
        return if sets_hostname {
            Err(Error::invalid(why))
        } else {
            check("kernel.domainname", namespaces, false)
        };
    } else {
        return Err(Error::invalid(format!(
            "linux.sysctl: sysctl {name:?} is not in a separate kernel namespace"
        )));
    };
    if namespaces.has(needed) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "linux.sysctl: sysctl {name:?} is not allowed in the hosts {needed:?} namespace"
    )))
}

/// Writes one through a descriptor of the real procfs, so a file system that only looks like it cannot catch the value.
pub(crate) fn set(proc: BorrowedFd<'_>, name: &str, value: &str) -> Result<()> {
    let path =
        if name.contains('/') { format!("sys/{name}") } else { format!("sys/{}", name.replace('.', "/")) };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(proc.as_fd(), &path, flags, Mode::empty(), resolve)
        .context(|| format!("open sysctl {name:?}"))?;
    std::fs::File::from(file).write_all(value.as_bytes()).context(|| format!("write sysctl {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_of_own_namespaces() {
        let linux = serde_json::json!({"namespaces": [{"type": "network"}, {"type": "ipc"}]});
        let namespaces = Namespaces::plan(&serde_json::from_value(linux).unwrap()).unwrap();
        for (name, allowed) in [
            ("net.ipv4.ip_forward", true),
            ("net/ipv4/conf/eth0.1/forwarding", true),
            ("kernel.shmmax", true),
            ("fs.mqueue.msg_max", true),
            ("kernel.domainname", false),
            ("kernel.core_pattern", false),
            ("vm.swappiness", false),
            ("net/../kernel/core_pattern", false),
            ("net/ipv4/../../kernel/core_pattern", false),
            ("net..kernel", false),
            ("net/", false),
            ("/net.x", false),
        ] {
            assert_eq!(check(name, &namespaces, false).is_ok(), allowed, "{name}");
        }
    }
}

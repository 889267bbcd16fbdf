//! A pod's namespaces without a process to hold them: network, IPC and UTS are made on a throw-away thread (by a helper
//! process where the pod has a user namespace), get the pod's host name and sysctls, and are kept by bind mounts. A pid namespace needs a living pid 1, so a pod that
//! shares one gets an init (see `pod_init`).

use super::paths::Paths;
use super::pod_user;
use super::records::SandboxRecord;
use anyhow::Context;
use knarr_cri::Status;
use knarr_runtime::spec::NamespaceKind;
use knarr_sys::{mount, namespace};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which namespaces of its own a pod has, by the file that pins each.
pub(crate) fn own(paths: &Paths, sandbox: &SandboxRecord) -> BTreeMap<NamespaceKind, PathBuf> {
    let mut own = BTreeMap::new();
    let mut add = |kind, name| own.insert(kind, paths.namespace(&sandbox.id, name));
    if !sandbox.host_network() {
        add(NamespaceKind::Network, "net");
        add(NamespaceKind::Uts, "uts");
    }
    if !sandbox.host_ipc() {
        add(NamespaceKind::Ipc, "ipc");
    }
    if pod_user::maps(sandbox).is_some() {
        add(NamespaceKind::User, "user");
    }
    own
}

/// Makes and pins them, with the host name and the sysctls of the pod.
pub(crate) fn pin(
    paths: &Paths,
    sandbox: &SandboxRecord,
    hostname: &str,
    monitor: Option<&Path>,
) -> anyhow::Result<()> {
    let directory = paths.namespaces(&sandbox.id);
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let own = own(paths, sandbox);
    let targets: Vec<(namespace::Kind, &Path)> =
        own.iter().filter_map(|(kind, path)| Some((sys_kind(*kind)?, path.as_path()))).collect();
    if targets.is_empty() {
        return Ok(());
    }
    let sysctls = sysctls(sandbox);
    let has_uts = own.contains_key(&NamespaceKind::Uts);
    let setup = || -> std::io::Result<()> {
        if has_uts {
            rustix::system::sethostname(hostname.as_bytes())?;
        }
        for (file, value) in &sysctls {
            std::fs::write(file, value).map_err(|error| {
                std::io::Error::new(error.kind(), format!("write {}: {error}", file.display()))
            })?;
        }
        Ok(())
    };
    match pod_user::maps(sandbox) {
        None => namespace::pin(&targets, setup).context("creating the pod's namespaces"),
        Some(maps) => {
            pin_owned(&own, &maps, monitor)?;
            namespace::within(&targets, setup).context("setting up the pod's namespaces")
        }
    }
}

/// The pod's namespaces as the property of its user namespace.
fn pin_owned(
    own: &BTreeMap<NamespaceKind, PathBuf>,
    maps: &pod_user::IdMaps,
    monitor: Option<&Path>,
) -> anyhow::Result<()> {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kinds: Vec<String> = own.values().map(name).filter(|name| name != "user").collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let holder = pod_user::Holder::start(monitor, maps, &kinds)?;
    for target in own.values() {
        std::fs::write(target, "")?;
        let source = holder.namespace(&name(target));
        mount::mount(Path::new(&source), target, "", rustix::mount::MountFlags::BIND.bits().into(), None)?;
    }
    Ok(())
}

/// Releases them. What is not pinned is fine.
pub(crate) fn unpin(paths: &Paths, sandbox_id: &str) -> anyhow::Result<()> {
    let mut failures = super::failures::Failures::default();
    for name in ["net", "uts", "ipc", "pid", "user"] {
        let file = paths.namespace(sandbox_id, name);
        failures.note("releasing a namespace", mount::unmount_all(&file));
        drop(std::fs::remove_file(&file));
    }
    failures.into_result()
}

fn sys_kind(kind: NamespaceKind) -> Option<namespace::Kind> {
    match kind {
        NamespaceKind::Network => Some(namespace::Kind::Network),
        NamespaceKind::Ipc => Some(namespace::Kind::Ipc),
        NamespaceKind::Uts => Some(namespace::Kind::Uts),
        _ => None,
    }
}

fn sysctls(sandbox: &SandboxRecord) -> Vec<(PathBuf, String)> {
    let linux = sandbox.config.linux.as_ref();
    let given = linux.map(|linux| linux.sysctls.clone()).unwrap_or_default();
    let mut files: Vec<_> = given.into_iter().map(|(name, value)| (sysctl_file(&name), value)).collect();
    files.sort();
    files
}

fn sysctl_file(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

/// Refuses a sysctl that is not the pod's own: it would change the whole machine.
pub(crate) fn check_sysctls(sandbox: &SandboxRecord) -> Result<(), Status> {
    let linux = sandbox.config.linux.as_ref();
    for name in linux.iter().flat_map(|linux| linux.sysctls.keys()) {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !plain || !is_namespaced(name, sandbox.host_network(), sandbox.host_ipc()) {
            return Err(Status::invalid_argument(format!(
                "sysctl {name:?} is not in a separate kernel namespace"
            )));
        }
    }
    Ok(())
}

fn is_namespaced(name: &str, host_network: bool, host_ipc: bool) -> bool {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    (name.starts_with("net.") && !host_network)
        || ((IPC.contains(&name) || name.starts_with("fs.mqueue.")) && !host_ipc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pods_own_sysctls_are_its_to_set() {
        let cases = [
            ("net.ipv4.ip_forward", false, false, true),
            ("net.ipv4.ip_forward", true, false, false),
            ("kernel.shm_rmid_forced", false, false, true),
            ("kernel.shm_rmid_forced", false, true, false),
            ("fs.mqueue.msg_max", false, false, true),
            ("kernel.core_pattern", false, false, false),
            ("vm.overcommit_memory", false, false, false),
        ];
        for (name, host_network, host_ipc, allowed) in cases {
            assert_eq!(is_namespaced(name, host_network, host_ipc), allowed, "{name}");
        }
        assert_eq!(sysctl_file("net.core.somaxconn"), Path::new("/proc/sys/net/core/somaxconn"));
    }
}

//! Mounts: the standard file systems, the pod's own files, then what CRI asks for.
//!
//! What CRI mounts somewhere replaces a standard mount of the same place. CRI's mounts are ordered by depth, so that
//! a mount never hides one that was asked for below it.

use super::{Input, ResolvedMount};
use knarr_cri::{Status, v1};
use knarr_runtime::spec::{IdMapping, Mount};
use std::path::{Component, Path};

/// All mounts, and the propagation the root file system needs for them.
pub(super) fn build(input: &Input<'_>) -> Result<(Vec<Mount>, String), Status> {
    let mut requested: Vec<&ResolvedMount> = input.mounts.iter().collect();
    requested.sort_by_key(|mount| depth(&mount.request.container_path));
    let mut mounts = standard(input.privileged());
    mounts.extend(pod_files(input));
    mounts.extend(input.volumes.iter().map(|(place, directory)| bind(place, directory, &["rw"])));
    mounts.retain(|mount| {
        !requested.iter().any(|asked| same_place(&asked.request.container_path, &mount.destination))
    });
    for mount in &requested {
        mounts.push(from_cri(mount)?);
    }
    Ok((mounts, rootfs_propagation(input.mounts)))
}

/// The kernel's own file systems.
pub(crate) fn standard(privileged: bool) -> Vec<Mount> {
    let access = if privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
    ];
    // Shows the queues of the IPC namespace that it is made in, the host's among them.
    mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]));
    mounts.push(mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", access],
    ));
    mounts
}

/// Of a pod's own /dev/shm.
const SHARED_MEMORY: &[&str] = &["rw", "nosuid", "noexec", "nodev"];

/// Host name, hosts and name servers are the pod's; a read-only root makes them read-only too.
fn pod_files(input: &Input<'_>) -> Vec<Mount> {
    let access = if input.security().readonly_rootfs { "ro" } else { "rw" };
    vec![
        bind("/etc/hostname", &input.files.hostname, &[access]),
        bind("/etc/hosts", &input.files.hosts, &[access]),
        bind("/etc/resolv.conf", &input.files.resolv_conf, &[access]),
        bind("/dev/shm", &input.files.shm, if input.sandbox.host_ipc() { &["rw"] } else { SHARED_MEMORY }),
    ]
}

pub(crate) fn mount(destination: &str, fs_type: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        fs_type: fs_type.into(),
        source: source.into(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

pub(crate) fn bind(destination: &str, source: &Path, options: &[&str]) -> Mount {
    let all: Vec<&str> = ["rbind", "rprivate"].iter().chain(options).copied().collect();
    mount(destination, "bind", &source.to_string_lossy(), &all)
}

fn from_cri(resolved: &ResolvedMount) -> Result<Mount, Status> {
    let request = &resolved.request;
    check(request)?;
    let propagation = match request.propagation() {
        v1::MountPropagation::PropagationPrivate => "rprivate",
        v1::MountPropagation::PropagationHostToContainer => "rslave",
        v1::MountPropagation::PropagationBidirectional => "rshared",
    };
    let access = match (request.readonly || request.image.is_some(), request.recursive_read_only) {
        (_, true) => "rro",
        (true, false) => "ro",
        (false, false) => "rw",
    };
    let source = resolved.source.to_string_lossy();
    let mut made = mount(&request.container_path, "bind", &source, &["rbind", propagation, access]);
    made.options.extend(request.mount_options.iter().cloned());
    made.uid_mappings = id_mappings(&request.uid_mappings);
    made.gid_mappings = id_mappings(&request.gid_mappings);
    Ok(made)
}

/// What a bind mount may be told besides what has fields of its own.
const MOUNT_OPTIONS: [&str; 10] =
    ["noexec", "exec", "nosuid", "suid", "nodev", "dev", "noatime", "nodiratime", "relatime", "nosymfollow"];

/// What cannot be meant, with the field that says so.
fn check(request: &v1::Mount) -> Result<(), Status> {
    let place = &request.container_path;
    let refuse = |reason: &str| Err(Status::invalid_argument(format!("mount of {place:?}: {reason}")));
    if !place.starts_with('/') {
        return refuse("container_path is not absolute");
    }
    if let Some(option) =
        request.mount_options.iter().find(|option| !MOUNT_OPTIONS.contains(&option.as_str()))
    {
        return refuse(&format!("mount_options: {option:?} is not one of {}", MOUNT_OPTIONS.join(", ")));
    }
    if request.recursive_read_only && !request.readonly {
        return refuse("recursive_read_only requires readonly");
    }
    if request.recursive_read_only && request.propagation() != v1::MountPropagation::PropagationPrivate {
        return refuse("recursive_read_only requires propagation to be PROPAGATION_PRIVATE");
    }
    if request.image.is_some() && !request.readonly {
        return refuse("an image mount must be readonly");
    }
    Ok(())
}

fn id_mappings(from: &[v1::IdMapping]) -> Vec<IdMapping> {
    let convert = |map: &v1::IdMapping| IdMapping {
        container_id: map.container_id,
        host_id: map.host_id,
        size: map.length,
    };
    from.iter().map(convert).collect()
}

/// A mount can only propagate through a root that does.
fn rootfs_propagation(mounts: &[ResolvedMount]) -> String {
    let asked = |wanted| mounts.iter().any(|mount| mount.request.propagation() == wanted);
    if asked(v1::MountPropagation::PropagationBidirectional) {
        return "rshared".into();
    }
    if asked(v1::MountPropagation::PropagationHostToContainer) {
        return "rslave".into();
    }
    String::new()
}

fn depth(path: &str) -> usize {
    parts(path).len()
}

fn same_place(left: &str, right: &str) -> bool {
    parts(left) == parts(right)
}

fn parts(path: &str) -> Vec<Component<'_>> {
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

//! What criu is asked for: its options, decided from the container's configuration and the command line.

use super::message::Fields;
use super::places::Bound;
use crate::cgroups::Cgroups;
use crate::error::{Error, Result};
use crate::plan::rootfs::default_devices;
use crate::safe_path::clean;
use crate::spec::{Linux, Mount, NamespaceKind, Spec};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Field numbers of `criu_opts`.
mod field {
    pub(super) const IMAGES_DIR: u64 = 1;
    pub(super) const PID: u64 = 2;
    pub(super) const LEAVE_RUNNING: u64 = 3;
    pub(super) const EXT_UNIX_SK: u64 = 4;
    pub(super) const TCP_ESTABLISHED: u64 = 5;
    pub(super) const EVASIVE_DEVICES: u64 = 6;
    pub(super) const SHELL_JOB: u64 = 7;
    pub(super) const FILE_LOCKS: u64 = 8;
    pub(super) const LOG_LEVEL: u64 = 9;
    pub(super) const LOG_FILE: u64 = 10;
    pub(super) const PAGE_SERVER: u64 = 11;
    pub(super) const NOTIFY_SCRIPTS: u64 = 12;
    pub(super) const ROOT: u64 = 13;
    pub(super) const PARENT_IMAGES: u64 = 14;
    pub(super) const TRACK_MEMORY: u64 = 15;
    pub(super) const AUTO_DEDUP: u64 = 16;
    pub(super) const WORK_DIR: u64 = 17;
    pub(super) const LINK_REMAP: u64 = 18;
    pub(super) const EXTERNAL_MOUNT: u64 = 23;
    pub(super) const MANAGE_CGROUPS: u64 = 24;
    pub(super) const CGROUP_ROOT: u64 = 25;
    pub(super) const RESTORE_SIBLING: u64 = 26;
    pub(super) const INHERIT_FD: u64 = 27;
    pub(super) const MANAGE_CGROUPS_MODE: u64 = 34;
    pub(super) const EXTERNAL: u64 = 37;
    pub(super) const EMPTY_NAMESPACES: u64 = 38;
    pub(super) const JOIN_NAMESPACE: u64 = 39;
    pub(super) const FREEZE_CGROUP: u64 = 44;
    pub(super) const TCP_SKIP_IN_FLIGHT: u64 = 46;
    pub(super) const LAZY_PAGES: u64 = 48;
    pub(super) const ORPHAN_PTS_MASTER: u64 = 50;
    pub(super) const CONFIG_FILE: u64 = 51;
    pub(super) const LSM_PROFILE: u64 = 53;
    pub(super) const LSM_MOUNT_CONTEXT: u64 = 63;
    pub(super) const NETWORK_LOCK: u64 = 64;
}

/// Settings of an administrator, and the annotation that names others.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";
const CONFIG_ANNOTATION: &str = "org.criu.config";

/// What the command line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) leave_running: bool,
    pub(crate) tcp_established: bool,
    pub(crate) tcp_skip_in_flight: bool,
    pub(crate) ext_unix_sk: bool,
    pub(crate) shell_job: bool,
    pub(crate) file_locks: bool,
    pub(crate) link_remap: bool,
    pub(crate) auto_dedup: bool,
    pub(crate) lazy_pages: bool,
    pub(crate) pre_dump: bool,
    pub(crate) page_server: Option<(String, u16)>,
    pub(crate) parent_path: String,
    pub(crate) cgroups_mode: u64,
    pub(crate) lsm_profile: String,
    pub(crate) lsm_mount_context: String,
    /// The network is held with nftables: the program that criu would use is not there.
    pub(crate) nftables: bool,
}

/// The number of a `--manage-cgroups-mode`.
pub(crate) fn cgroups_mode(word: &str) -> Result<u64> {
    match word {
        "ignore" => Ok(0),
        "" | "soft" => Ok(3),
        "full" => Ok(4),
        "strict" => Ok(5),
        _ => Err(Error::invalid("Invalid manage-cgroups-mode value")),
    }
}

/// `ADDRESS:PORT`
pub(crate) fn page_server(text: &str) -> Result<(String, u16)> {
    match text.rsplit_once(':') {
        Some((address, port)) if !address.is_empty() && !port.is_empty() => {
            let port = port.parse().map_err(|_| Error::invalid("Invalid port number"))?;
            Ok((address.trim_matches(['[', ']']).into(), port))
        }
        _ => Err(Error::invalid("Use --page-server ADDRESS:PORT to specify page server")),
    }
}

/// The directories that criu works in, open.
pub(crate) struct Directories {
    pub(crate) images: OwnedFd,
    pub(crate) work: Option<OwnedFd>,
}

/// A container, as far as criu must know of it.
pub(crate) struct Subject<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) binds: &'a [Bound],
}

/// What dump and restore have in common.
fn common(flags: &Flags, directories: &Directories, spec: &Spec, log: &str) -> Fields {
    let mut fields = Fields::default();
    fields
        .number(field::IMAGES_DIR, directories.images.as_raw_fd() as u64)
        .switch(field::EXT_UNIX_SK, flags.ext_unix_sk)
        .switch(field::TCP_ESTABLISHED, flags.tcp_established)
        .switch(field::SHELL_JOB, flags.shell_job)
        .switch(field::FILE_LOCKS, flags.file_locks)
        .number(field::LOG_LEVEL, 4)
        .text(field::LOG_FILE, log)
        .switch(field::NOTIFY_SCRIPTS, true)
        .switch(field::AUTO_DEDUP, flags.auto_dedup)
        .switch(field::MANAGE_CGROUPS, true)
        .number(field::MANAGE_CGROUPS_MODE, flags.cgroups_mode)
        // Devices, addresses and routes belong to whoever made the network.
        .number(field::EMPTY_NAMESPACES, libc::CLONE_NEWNET as u64)
        .switch(field::LAZY_PAGES, flags.lazy_pages)
        .switch(field::ORPHAN_PTS_MASTER, true);
    if flags.nftables {
        fields.number(field::NETWORK_LOCK, 2);
    }
    if let Some(work) = &directories.work {
        fields.number(field::WORK_DIR, work.as_raw_fd() as u64);
    }
    match spec.annotations.get(CONFIG_ANNOTATION).map(String::as_str) {
        Some("") => {}
        Some(file) => drop(fields.text(field::CONFIG_FILE, file)),
        None => drop(fields.text(field::CONFIG_FILE, CONFIG_FILE)),
    }
    fields
}

/// Options of a dump of the process `pid`. `masked` are the files that are covered with the null device.
pub(crate) fn dump(
    flags: &Flags,
    directories: &Directories,
    subject: &Subject<'_>,
    pid: i32,
    (root, masked): (&str, &[String]),
) -> Result<Fields> {
    let mut fields = common(flags, directories, subject.spec, DUMP_LOG);
    fields
        .number(field::PID, pid as u64)
        .text(field::ROOT, root)
        .switch(field::LEAVE_RUNNING, flags.leave_running)
        .switch(field::TCP_SKIP_IN_FLIGHT, flags.tcp_skip_in_flight)
        .switch(field::LINK_REMAP, flags.link_remap);
    if let Some((address, port)) = &flags.page_server {
        let mut server = Fields::default();
        server.text(1, address).number(2, u64::from(*port));
        fields.message(field::PAGE_SERVER, &server);
    }
    if !flags.parent_path.is_empty() {
        fields.text(field::PARENT_IMAGES, &flags.parent_path).switch(field::TRACK_MEMORY, true);
    }
    if let Some(freezer) = subject.cgroups.directory("freezer") {
        fields.text(field::FREEZE_CGROUP, &freezer.display().to_string());
    }
    for kind in [NamespaceKind::Network, NamespaceKind::Pid] {
        if let Some(path) = joined(subject.spec, kind) {
            let inode = inode(path)?;
            fields.text(field::EXTERNAL, &format!("{}[{inode}]:{}", short(kind), key(kind)));
        }
    }
    if !flags.pre_dump {
        for place in outside(subject) {
            external(&mut fields, &place, &place);
        }
        for path in masked {
            external(&mut fields, path, "/dev/null");
        }
    }
    Ok(fields)
}

/// Where the two commands' logs are, in the work directory or else in that of the images.
pub(crate) const DUMP_LOG: &str = "dump.log";
pub(crate) const RESTORE_LOG: &str = "restore.log";

/// Options of a restore. `inherited` are descriptors of ours that stand for what was open outside.
pub(crate) fn restore(
    flags: &Flags,
    directories: &Directories,
    subject: &Subject<'_>,
    root: &Path,
    inherited: &[(String, i32)],
) -> Result<Fields> {
    let mut fields = common(flags, directories, subject.spec, RESTORE_LOG);
    fields
        .switch(field::EVASIVE_DEVICES, true)
        .switch(field::RESTORE_SIBLING, true)
        .text(field::ROOT, &root.display().to_string());
    for (name, value) in
        [(field::LSM_PROFILE, &flags.lsm_profile), (field::LSM_MOUNT_CONTEXT, &flags.lsm_mount_context)]
    {
        if !value.is_empty() {
            fields.text(name, value);
        }
    }
    for bound in subject.binds {
        external(&mut fields, &text(&bound.inside), &text(&bound.outside));
    }
    for (inside, outside) in cgroup_binds(subject) {
        external(&mut fields, &inside, &outside);
    }
    let linux = subject.spec.linux.clone().unwrap_or_default();
    if !linux.masked_paths.is_empty() {
        external(&mut fields, "/dev/null", "/dev/null");
    }
    for device in devices(&linux) {
        external(&mut fields, &device, &device);
    }
    for directory in &subject.cgroups.directories {
        cgroup_root(&mut fields, directory);
    }
    for (key, fd) in inherited {
        let mut one = Fields::default();
        one.text(1, key).number(2, *fd as u64);
        fields.message(field::INHERIT_FD, &one);
    }
    join_namespaces(&mut fields, &linux)?;
    Ok(fields)
}

/// Names of criu for what is joined by path: descriptors for two kinds, files for the rest.
fn join_namespaces(fields: &mut Fields, linux: &crate::spec::Linux) -> Result<()> {
    for namespace in linux.namespaces.iter().filter(|namespace| !namespace.path.is_empty()) {
        match namespace.kind {
            NamespaceKind::Network | NamespaceKind::Pid => {}
            NamespaceKind::Cgroup | NamespaceKind::Time => {
                let kind = short(namespace.kind);
                return Err(Error::invalid(format!(
                    "criu cannot restore into a {kind} namespace that exists"
                )));
            }
            kind => {
                let mut join = Fields::default();
                join.text(1, short(kind)).text(2, &namespace.path);
                fields.message(field::JOIN_NAMESPACE, &join);
            }
        }
    }
    Ok(())
}

/// Namespaces of the configuration that criu inherits as descriptors: its key for each, and the file.
pub(crate) fn inherited_namespaces(spec: &Spec) -> Vec<(String, &str)> {
    let kinds = [NamespaceKind::Network, NamespaceKind::Pid];
    kinds.into_iter().filter_map(|kind| joined(spec, kind).map(|path| (key(kind), path))).collect()
}

fn joined(spec: &Spec, kind: NamespaceKind) -> Option<&str> {
    let namespaces = &spec.linux.as_ref()?.namespaces;
    namespaces.iter().find(|n| n.kind == kind && !n.path.is_empty()).map(|n| n.path.as_str())
}

fn short(kind: NamespaceKind) -> &'static str {
    crate::plan::sys_kind(kind).proc_name()
}

/// The same word at dump and restore, on any host; images of runc have it too.
fn key(kind: NamespaceKind) -> String {
    match kind {
        NamespaceKind::Network => "extRootNetNS".into(),
        _ => "extRootPidNS".into(),
    }
}

fn inode(path: &str) -> Result<u64> {
    use crate::error::Context;
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|metadata| metadata.ino()).context(|| format!("stat {path}"))
}

fn external(fields: &mut Fields, inside: &str, outside: &str) {
    let mut map = Fields::default();
    map.text(1, inside).text(2, outside);
    fields.message(field::EXTERNAL_MOUNT, &map);
}

/// Places inside at which something of the host is mounted.
fn outside(subject: &Subject<'_>) -> Vec<String> {
    let binds = subject.binds.iter().map(|bound| text(&bound.inside));
    let cgroups = cgroup_binds(subject).into_iter().map(|(inside, _)| inside);
    let devices = subject.spec.linux.iter().flat_map(devices);
    binds.chain(cgroups).chain(devices).collect()
}

/// Devices that may be mounts of the host's: with users of its own a container can have no nodes, and the nodes that every
/// container has are mounts too.
fn devices(linux: &Linux) -> Vec<String> {
    let users = linux.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::User);
    let given = linux.devices.iter().map(|device| device.path.clone());
    given.chain(default_devices().filter(|_| users)).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Version 1 without a cgroup namespace: directories of the host, each bound; else they are mounts of the container's.
fn cgroup_binds(subject: &Subject<'_>) -> Vec<(String, String)> {
    let namespaces = subject.spec.linux.iter().flat_map(|linux| &linux.namespaces);
    let namespaced = namespaces.into_iter().any(|namespace| namespace.kind == NamespaceKind::Cgroup);
    let view = crate::cgroups::view(subject.cgroups, namespaced, false);
    let crate::cgroups::View::V1 { hierarchies, namespaced: false } = view else { return vec![] };
    let mounts = subject.spec.mounts.iter().filter(|mount| mount.fs_type == "cgroup");
    let bind = |mount: &Mount| {
        let top = text(&clean(&mount.destination));
        let inside = |h: &crate::cgroups::ViewHierarchy| {
            (format!("{top}/{}", h.directory), h.path.display().to_string())
        };
        hierarchies.iter().map(inside).collect::<Vec<_>>()
    };
    mounts.flat_map(bind).collect()
}

/// Where a hierarchy's part of the images belongs now, from the root of the hierarchy.
fn cgroup_root(fields: &mut Fields, directory: &crate::cgroups::Directory) {
    let below = directory.path.strip_prefix(&directory.mount).unwrap_or(&directory.path);
    let mut root = Fields::default();
    root.text(1, &directory.controllers.join(",")).text(2, &format!("/{}", below.display()));
    fields.message(field::CGROUP_ROOT, &root);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        assert_eq!(cgroups_mode("").unwrap(), cgroups_mode("soft").unwrap());
        assert!(cgroups_mode("x").unwrap_err().to_string().contains("Invalid manage-cgroups-mode value"));
        assert_eq!(page_server("10.0.0.1:27").unwrap(), ("10.0.0.1".into(), 27));
        assert_eq!(page_server("[::1]:27").unwrap().0, "::1");
        for (bad, why) in
            [("x", "ADDRESS:PORT"), (":1", "ADDRESS:PORT"), ("a:", "ADDRESS:PORT"), ("a:b", "port number")]
        {
            assert!(page_server(bad).unwrap_err().to_string().contains(why), "{bad}");
        }
    }

    fn spec() -> Spec {
        serde_json::from_value(serde_json::json!({
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/data/", "type": "bind", "source": "/srv"}],
            "linux": {"maskedPaths": ["/proc/keys"], "devices": [{"path": "/dev/fuse", "type": "c"}],
                "namespaces": [{"type": "network", "path": "/run/netns/a"}, {"type": "pid"}]}}))
        .unwrap()
    }

    #[test]
    fn what_comes_from_outside_is_told() {
        let cgroups = Cgroups { directories: vec![], unified: true, scope: None };
        let spec = spec();
        let bound = |inside: &str| Bound { inside: inside.into(), outside: "/srv".into() };
        let subject = Subject { spec: &spec, cgroups: &cgroups, binds: &[bound("/data"), bound("/more")] };
        assert_eq!(outside(&subject), ["/data", "/more", "/dev/fuse"]);
        assert_eq!(inherited_namespaces(&spec), [("extRootNetNS".to_string(), "/run/netns/a")]);
    }

    #[test]
    fn a_joined_cgroup_namespace_cannot_be_restored() {
        let mut spec = spec();
        let linux = spec.linux.as_mut().unwrap();
        linux.namespaces.push(crate::spec::Namespace { kind: NamespaceKind::Cgroup, path: "/x".into() });
        assert!(join_namespaces(&mut Fields::default(), linux).is_err());
    }
}

//! The container's file system: mounts, device nodes and links, decided.

use super::{DevicePlan, Namespaces, Step};
use crate::error::{Error, Result};
use crate::mounts::options::{self, IdmapOption, Options};
use crate::mounts::{IdMap, MountPlan, Source};
use crate::safe_path::clean;
use crate::spec::{Device, Linux, Mount, Spec};
use knarr_sys::mount::attr;
use rustix::fs::{major, minor};
use std::path::{Path, PathBuf};

/// Devices every container has: path below `/dev`, major, minor.
const DEFAULT_DEVICES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("random", 1, 8), ("full", 1, 7), ("tty", 5, 0), ("zero", 1, 5), ("urandom", 1, 9)];

/// Where those are.
pub(crate) fn default_devices() -> impl Iterator<Item = String> {
    DEFAULT_DEVICES.iter().map(|(name, ..)| format!("/dev/{name}"))
}

/// Links every container has. They point into the container's own procfs.
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Where the kernel has it, as runc does: it is masked by default, but programs may look for the name.
const KCORE_LINK: (&str, &str) = ("/dev/core", "/proc/kcore");

/// Decides all mounts; what init itself may not open goes to `prepared`.
pub(super) fn mounts(
    spec: &Spec,
    command: &super::Options,
    namespaces: &Namespaces,
    prepared: &mut Vec<Source>,
) -> Result<Vec<Step>> {
    let label = spec.linux.as_ref().map_or("", |linux| linux.mount_label.as_str());
    let mut steps = Vec::with_capacity(spec.mounts.len());
    for (index, mount) in spec.mounts.iter().enumerate() {
        let plan = self::mount(mount, command, namespaces, prepared, label);
        steps.push(Step::Mount(plan.map_err(|why| Error::invalid(format!("mounts[{index}]: {why}")))?));
    }
    Ok(steps)
}

fn mount(
    mount: &Mount,
    command: &super::Options,
    namespaces: &Namespaces,
    prepared: &mut Vec<Source>,
    label: &str,
) -> std::result::Result<MountPlan, String> {
    if mount.destination.is_empty() {
        return Err("destination is missing".into());
    }
    let options = options::parse(&mount.options);
    let source = source(mount, &options, &command.bundle, label)?;
    // What a mount before it puts into the root is not there before init.
    let source_inside = match &source {
        Source::Bind { path, .. } if command.rootfs.parent().is_some() => {
            path.strip_prefix(&command.rootfs).ok().map(|below| Path::new("/").join(below))
        }
        _ => None,
    };
    let must_prepare = match &source {
        // An ordinary user has more rights in its user namespace than outside.
        Source::Bind { idmap, .. } => {
            let privileged = idmap.is_some() || (namespaces.any_user() && !command.rootless);
            command.prepare_all || (privileged && source_inside.is_none())
        }
        _ => false,
    };
    let prepared = must_prepare.then(|| {
        prepared.push(source.clone());
        prepared.len() - 1
    });
    let destination = inside(&mount.destination, &command.rootfs);
    let binds = matches!(source, Source::Bind { .. });
    let mut attributes = if binds { options.flags.replacing() } else { options.flags.attributes() };
    let is_tmpfs = matches!(&source, Source::New { fs_type, .. } if fs_type == "tmpfs");
    let read_only = attributes.set & attr::RDONLY != 0;
    // What is added to a running container comes alone.
    let read_only_later = read_only && !command.prepare_all && (is_tmpfs || destination == Path::new("/dev"));
    if read_only_later {
        attributes.set &= !attr::RDONLY;
    }
    Ok(MountPlan {
        destination,
        source,
        source_inside,
        attributes,
        cleared: options.flags.cleared_attributes(),
        locked: binds && namespaces.any_user(),
        read_only_later,
        recursive_attributes: options.recursive_attributes,
        propagation: options.propagation,
        tmpcopyup: options.tmpcopyup,
        prepared,
    })
}

/// A destination that is given as a path of the host, below the root, means the same place: runc has always taken it so.
pub(crate) fn inside(destination: &str, rootfs: &Path) -> PathBuf {
    let path = clean(destination);
    let below = if rootfs.parent().is_none() { None } else { path.strip_prefix(rootfs).ok() };
    below.map(|below| Path::new("/").join(below)).unwrap_or(path)
}

fn source(
    mount: &Mount,
    options: &Options,
    bundle: &Path,
    label: &str,
) -> std::result::Result<Source, String> {
    let maps = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if options.bind || mount.fs_type == "bind" {
        let foreign = options.foreign_to_bind();
        if !foreign.is_empty() {
            return Err(format!(
                "bind mounts cannot have any filesystem-specific options applied: {foreign:?}"
            ));
        }
        return Ok(Source::Bind {
            path: bundle.join(&mount.source),
            recursive: options.recursive_bind,
            idmap: (maps || options.idmap.is_some()).then(|| IdMap {
                uids: mount.uid_mappings.clone(),
                gids: mount.gid_mappings.clone(),
                recursive: options.idmap == Some(IdmapOption::Recursive),
            }),
        });
    }
    if maps || options.idmap.is_some() {
        return Err("id-mapped mounts are only supported for bind-mounts".into());
    }
    match mount.fs_type.as_str() {
        "" => Err("type is missing".into()),
        "cgroup" | "cgroup2" => Ok(Source::Cgroup),
        fs_type => Ok(Source::New {
            fs_type: fs_type.into(),
            source: mount.source.clone(),
            data: options.data.join(","),
            // The policy itself says how these are labelled, and they take no option.
            label: if matches!(fs_type, "proc" | "sysfs") { "" } else { label }.into(),
        }),
    }
}

/// Device nodes and links; none where `/dev` is the host's.
pub(super) fn devices(spec: &Spec, linux: &Linux, namespaces: &Namespaces, kcore: bool) -> Result<Vec<Step>> {
    let from_host = |mount: &Mount| {
        let bound = mount.fs_type == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind");
        bound && clean(&mount.destination) == Path::new("/dev")
    };
    if spec.mounts.iter().any(from_host) {
        return Ok(vec![]);
    }
    let mut plans = Vec::with_capacity(linux.devices.len() + DEFAULT_DEVICES.len());
    // Every container has these links, whatever is asked for in their places.
    let linked = |device: &Device| LINKS.iter().any(|(link, _)| clean(&device.path) == Path::new(link));
    for (index, device) in linux.devices.iter().enumerate().filter(|(_, device)| !linked(device)) {
        plans.push(
            self::device(device).map_err(|why| Error::invalid(format!("linux.devices[{index}]: {why}")))?,
        );
    }
    for (name, major, minor) in DEFAULT_DEVICES {
        let path = Path::new("/dev").join(name);
        if !plans.iter().any(|plan| plan.path == path) {
            plans.push(DevicePlan {
                path,
                kind: 'c',
                major: *major,
                minor: *minor,
                mode: 0o666,
                uid: 0,
                gid: 0,
                bind: false,
            });
        }
    }
    let bind = namespaces.any_user();
    let nodes = plans.into_iter().map(|plan| Step::Device(DevicePlan { bind, ..plan }));
    let links = LINKS
        .iter()
        .chain(kcore.then_some(&KCORE_LINK))
        .map(|(path, target)| Step::Link { path: PathBuf::from(path), target });
    Ok(nodes.chain(links).collect())
}

fn device(device: &Device) -> std::result::Result<DevicePlan, String> {
    if !device.path.starts_with('/') {
        return Err(format!("path {:?} is not absolute", device.path));
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => 'c',
        "b" => 'b',
        "p" => 'p',
        other => return Err(format!("invalid device type {other:?}")),
    };
    let number = |name: &str, value: i64| u32::try_from(value).map_err(|_| format!("invalid {name} {value}"));
    Ok(DevicePlan {
        path: clean(&device.path),
        kind,
        major: number("major", device.major)?,
        minor: number("minor", device.minor)?,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
        bind: false,
    })
}

/// Whether an inode is the device that a plan names.
pub(crate) fn is_device(stat: &rustix::fs::Stat, kind: char, wanted: (u32, u32)) -> bool {
    let file_type = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    let expected = match kind {
        'c' => rustix::fs::FileType::CharacterDevice,
        'b' => rustix::fs::FileType::BlockDevice,
        _ => return file_type == rustix::fs::FileType::Fifo,
    };
    file_type == expected && (major(stat.st_rdev), minor(stat.st_rdev)) == wanted
}

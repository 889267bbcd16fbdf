//! Making one planned mount inside the root.

use super::{Attributes, MountPlan, Source, cgroup, copy_up, locked, long_options, proc_guard, source};
use crate::cgroups::View;
use crate::error::{Context, Error, Result};
use crate::safe_path;
use knarr_sys::mount::{self, attr};
use rustix::fs::{FileType, Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What a mount needs to know of the container that is being built.
pub(crate) struct Site<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) prepared: &'a mut [Option<OwnedFd>],
    pub(crate) cgroups: &'a View,
    /// Has the runtime map the ids of a detached tree.
    pub(crate) map_ids: &'a dyn Fn(BorrowedFd<'_>) -> Result<()>,
}

/// Mounts it.
pub(crate) fn apply(plan: &MountPlan, site: &mut Site<'_>) -> Result<()> {
    mount_it(plan, site).context(|| {
        let (source, destination) = (source_name(&plan.source), plan.destination.display());
        format!("error mounting {source:?} to rootfs at \"{destination}\"")
    })
}

fn mount_it(plan: &MountPlan, site: &mut Site<'_>) -> Result<()> {
    match &plan.source {
        Source::Cgroup => cgroup::apply(plan, site),
        Source::Bind { path, recursive, .. } => {
            let tree =
                match plan.prepared.and_then(|index| site.prepared.get_mut(index)).and_then(Option::take) {
                    Some(tree) => tree,
                    None => match &plan.source_inside {
                        Some(inside) => {
                            mount::clone_tree(safe_path::find(site.root, inside)?, "", *recursive)?
                        }
                        None => source::bind(path, *recursive)?,
                    },
                };
            if plan.mapped_later().is_some() {
                (site.map_ids)(tree.as_fd())?;
            }
            let target = place_for(site.root, &tree, &plan.destination)?;
            proc_guard::check(site.root, &plan.destination, &target, || proc_guard::is_procfs(&tree))?;
            attach(plan, &tree, &target)
        }
        Source::New { fs_type, source, data, label } => new(plan, site.root, (fs_type, source, data), label),
    }
}

fn new(
    plan: &MountPlan,
    root: BorrowedFd<'_>,
    (fs_type, from, data): (&str, &str, &str),
    label: &str,
) -> Result<()> {
    // A place that was not there has no mode to keep: a tmpfs there is open to all, as the kernel makes it.
    let keeps_mode = fs_type == "tmpfs" && safe_path::find(root, &plan.destination).is_ok();
    let target = directory_for(root, &plan.destination, fs_type)?;
    proc_guard::check(root, &plan.destination, &target, || Ok(fs_type == "proc"))?;
    let data = if keeps_mode { with_mode_of(&target, data)? } else { data.to_string() };
    // Written to first, made read-only afterwards.
    let first = if plan.tmpcopyup { 0 } else { plan.attributes.set };
    let tree = made((fs_type, from, &data), first, label, &target)?;
    if plan.tmpcopyup {
        copy_up(&target, &tree).context(|| "tmpcopyup")?;
        mount::set_attributes(&tree, changes(plan.attributes), false)?;
    }
    finish(plan, &tree)?;
    Ok(mount::move_to_fd(&tree, &target)?)
}

fn made(
    (fs_type, from, data): (&str, &str, &str),
    attributes: u64,
    label: &str,
    target: &OwnedFd,
) -> Result<OwnedFd> {
    if !long_options::are_in(data) {
        return Ok(source::new_labelled(fs_type, from, data, attributes, label)?);
    }
    let context = if label.is_empty() { String::new() } else { format!(",context=\"{label}\"") };
    Ok(long_options::new((fs_type, from, &format!("{data}{context}")), attributes, target)?)
}

fn attach(plan: &MountPlan, tree: &OwnedFd, target: &OwnedFd) -> Result<()> {
    match (plan.attributes.is_empty(), plan.locked) {
        (true, _) => {}
        (false, true) => locked::set_before_lock(plan, tree)?,
        (false, false) => locked::set(plan, tree)?,
    }
    finish(plan, tree)?;
    Ok(mount::move_to_fd(tree, target)?)
}

/// What comes after the mount's own attributes. Propagation can only be set while it is detached by the same call.
fn finish(plan: &MountPlan, tree: &OwnedFd) -> Result<()> {
    if !plan.recursive_attributes.is_empty() {
        mount::set_attributes(tree, changes(plan.recursive_attributes), true)?;
    }
    for change in &plan.propagation {
        let only = mount::Attributes { propagation: change.flag, ..mount::Attributes::default() };
        mount::set_attributes(tree, only, change.recursive)?;
    }
    Ok(())
}

pub(super) fn changes(attributes: Attributes) -> mount::Attributes {
    mount::Attributes { set: attributes.set, clear: attributes.clear, propagation: 0 }
}

/// A directory for a directory, a file for anything else.
fn place_for(root: BorrowedFd<'_>, tree: &OwnedFd, destination: &Path) -> Result<OwnedFd> {
    let stat = rustix::fs::fstat(tree).context(|| "fstat(<source>)")?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        safe_path::make_directories(root, destination, 0o755)
    } else {
        safe_path::make_file(root, destination, 0o755)
    }
}

/// `/proc` and `/sys` must be real directories of the image: through a link, the security label of a process could be
/// written to a file that only looks like procfs (CVE-2019-19921, CVE-2023-27561).
pub(super) fn directory_for(root: BorrowedFd<'_>, destination: &Path, fs_type: &str) -> Result<OwnedFd> {
    if matches!(fs_type, "proc" | "sysfs") {
        let name = destination.strip_prefix("/").unwrap_or(destination);
        let link = rustix::fs::readlinkat(root, name, Vec::new());
        if link.is_ok() {
            return Err(Error::invalid(format!(
                "filesystem {fs_type:?} must be mounted on ordinary directory, {} is a symbolic link",
                destination.display()
            )));
        }
    }
    safe_path::make_directories(root, destination, 0o755)
}

/// A tmpfs over an existing directory takes over its mode, unless told otherwise later in the list.
fn with_mode_of(target: &OwnedFd, data: &str) -> Result<String> {
    if data.split(',').any(|option| option.starts_with("mode=")) {
        return Ok(data.to_string());
    }
    let mode = rustix::fs::fstat(target).context(|| "fstat(<target>)")?.st_mode & 0o7777;
    Ok(if data.is_empty() { format!("mode={mode:o}") } else { format!("mode={mode:o},{data}") })
}

/// Copies what a directory holds onto a detached tmpfs.
fn copy_up(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, ".", flags, Mode::empty()).context(|| "open(<target>)")?;
    copy_up::directory(source.as_fd(), to.as_fd(), 0)
}

fn source_name(source: &Source) -> String {
    match source {
        Source::Bind { path, .. } => path.display().to_string(),
        Source::New { source, fs_type, .. } => if source.is_empty() { fs_type } else { source }.clone(),
        Source::Cgroup => "cgroup".into(),
    }
}

/// Takes off what is mounted there. It may be a file, so it is named in its directory; a link there is not followed.
pub(crate) fn unmount(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let unmounted = || -> Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid("not a place of a mount"));
        };
        let directory = safe_path::open(root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::process::fchdir(&directory).context(|| "fchdir")?;
        Ok(mount::unmount(Path::new(name), true)?)
    };
    unmounted().context(|| format!("error unmounting {path:?}"))
}

/// Takes away the right to write to a mount that is complete.
pub(crate) fn make_read_only(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let read_only = mount::Attributes { set: attr::RDONLY, ..mount::Attributes::default() };
    let made =
        || -> Result<()> { Ok(mount::set_attributes(&safe_path::find(root, path)?, read_only, false)?) };
    made().context(|| format!("error making {path:?} read-only"))
}

/// A read-only mount of what is already there, on top of it.
pub(crate) fn cover_read_only(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let place = match safe_path::find(root, path) {
        Ok(found) => found,
        Err(error) if error.errno == rustix::io::Errno::NOENT => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let tree = mount::clone_tree(&place, "", true)?;
    let read_only = mount::Attributes { set: attr::RDONLY, ..mount::Attributes::default() };
    mount::set_attributes(&tree, read_only, false)?;
    Ok(mount::move_to_fd(&tree, &place)?)
}

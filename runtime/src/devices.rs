//! Device nodes and the links beside them.
//!
//! The directory is opened without following links at its end, and nodes are made on that descriptor: an image whose
//! `/dev` is a link must not move them elsewhere (CVE-2026-41579).

use crate::error::{Context, Error, Result};
use crate::plan::DevicePlan;
use crate::safe_path;
use knarr_sys::mount;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// Makes one node, or binds the host's.
pub(crate) fn make(root: BorrowedFd<'_>, device: &DevicePlan) -> Result<()> {
    let made = || -> Result<()> {
        let (directory, name) = parent(root, &device.path)?;
        if device.bind { bind(&directory, &name, device) } else { node(&directory, &name, device) }
    };
    made().context(|| format!("error creating device nodes: {}", device.path.display()))
}

/// The directory that holds a node or link, which must not be a link itself.
fn parent(root: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, OsString)> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::invalid(format!("{path:?} is not a path of a device")));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    match safe_path::open(root, above, flags) {
        Ok(directory) => Ok((directory, name.to_os_string())),
        Err(error) if error.errno == Errno::NOENT => safe_path::make_parent(root, path),
        Err(error) if matches!(error.errno, Errno::NOTDIR | Errno::LOOP) => {
            Err(Error::invalid(format!("{} is not an ordinary directory", above.display())))
        }
        Err(error) => Err(error.into()),
    }
}

fn node(directory: &OwnedFd, name: &OsStr, device: &DevicePlan) -> Result<()> {
    let kind = match device.kind {
        'b' => FileType::BlockDevice,
        'p' => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    // The umask must not narrow what was asked for; nodes are made with no rights first.
    let number = makedev(device.major, device.minor);
    match rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(device.mode), number) {
        Ok(()) => {}
        Err(Errno::EXIST) => return check_existing(directory, name, device),
        Err(Errno::PERM) => return bind(directory, name, device),
        Err(errno) => return Err(errno).context(|| "mknodat"),
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .context(|| "fchownat")?;
    rustix::fs::chmodat(directory, name, Mode::from_raw_mode(device.mode), AtFlags::empty())
        .context(|| "fchmodat")
}

/// What is there already is fine when it is the same device.
fn check_existing(directory: &OwnedFd, name: &OsStr, device: &DevicePlan) -> Result<()> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).context(|| "fstatat")?;
    if crate::plan::is_device(&stat, device.kind, (device.major, device.minor)) {
        return Ok(());
    }
    Err(Error::invalid("the path exists and is something else"))
}

/// The host's node, at the same path.
fn bind(directory: &OwnedFd, name: &OsStr, device: &DevicePlan) -> Result<()> {
    let host =
        rustix::fs::open(&device.path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .context(|| format!("open({:?})", device.path))?;
    let stat = rustix::fs::fstat(&host).context(|| "fstat")?;
    if !crate::plan::is_device(&stat, device.kind, (device.major, device.minor)) {
        return Err(Error::invalid("the host's file of this path is another device"));
    }
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o666)) {
        Ok(_) | Err(Errno::NXIO | Errno::ACCESS | Errno::PERM) => {}
        Err(errno) => return Err(errno).context(|| "openat(O_CREAT)"),
    }
    let target =
        rustix::fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .context(|| "openat(O_PATH)")?;
    let tree = mount::clone_tree(&host, "", false)?;
    Ok(mount::move_to_fd(&tree, &target)?)
}

/// A link; one that is there already is left alone unless it leads elsewhere.
pub(crate) fn link(root: BorrowedFd<'_>, path: &Path, target: &str) -> Result<()> {
    let (directory, name) = parent(root, path)?;
    // `/dev/fd` and its kind are only made where what they lead to exists in every container.
    match rustix::fs::symlinkat(target, &directory, &name) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) if name == "ptmx" => {
            rustix::fs::unlinkat(&directory, &name, AtFlags::empty())
                .context(|| "unlinkat(\"/dev/ptmx\")")?;
            rustix::fs::symlinkat(target, &directory, &name).context(|| "symlinkat(\"/dev/ptmx\")")
        }
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).context(|| format!("error creating symlink {}", path.display())),
    }
}

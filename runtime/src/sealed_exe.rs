//! Why this program executes itself once more before it makes a container.
//!
//! A process in a container can make the kernel execute `/proc/self/exe` (a script's `#!`, an ELF interpreter) while
//! that still is this program, and afterwards open it for writing as root: the next container would run the attacker's
//! code on the host (CVE-2019-5736). So whatever enters a container runs from a place where this file cannot be
//! written: a detached read-only mount of it. Once its descriptor is closed at exec nothing refers to that mount, so
//! nobody can make it writable again. A kernel or user that may not make one gets a sealed copy in memory.

use crate::error::{Context, Result};
use knarr_sys::mount::{self, attr};
use knarr_sys::process;
use rustix::fs::{CWD, MemfdFlags, SealFlags, StatVfsMountFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

const SELF: &str = "/proc/self/exe";

/// Returns when this process already runs from such a place; else becomes one that does.
pub(crate) fn ensure() -> Result<()> {
    if is_safe()? {
        return Ok(());
    }
    let copy = read_only_mount().or_else(|_| sealed_copy())?;
    let args: Vec<CString> =
        std::env::args_os().filter_map(|arg| CString::new(arg.into_vec()).ok()).collect();
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.into_vec(), value.into_vec()].join(&b'=')).ok())
        .collect();
    Err(process::exec_fd(copy.as_fd(), &args, &env))
        .context(|| "cannot execute the protected copy of the runtime")
}

fn is_safe() -> Result<bool> {
    let place = rustix::fs::statvfs(SELF).context(|| "statvfs(\"/proc/self/exe\")")?;
    if place.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    let exe = std::fs::File::open(SELF).context(|| "open(\"/proc/self/exe\")")?;
    Ok(rustix::fs::fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

fn read_only_mount() -> Result<OwnedFd> {
    let tree = mount::clone_tree(CWD, SELF, false)?;
    let read_only = mount::Attributes { set: attr::RDONLY, ..mount::Attributes::default() };
    mount::set_attributes(&tree, read_only, false)?;
    Ok(tree)
}

fn sealed_copy() -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create("knarr-runtime", flags).context(|| "memfd_create")?;
    let mut from = std::fs::File::open(SELF).context(|| "open(\"/proc/self/exe\")")?;
    let mut to = std::fs::File::from(copy.try_clone().context(|| "dup")?);
    std::io::copy(&mut from, &mut to).context(|| "copying the runtime")?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals).context(|| "fcntl(F_ADD_SEALS)")?;
    Ok(copy)
}

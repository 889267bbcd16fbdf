//! The root of the container: opened once, attached to itself so that it is a mount, and finally made `/`.

use crate::error::{Context, Result};
use crate::mounts::Propagation;
use knarr_sys::mount;
use rustix::fs::{CWD, Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What happens in this mount namespace must not reach the host's.
pub(crate) fn detach_from_host(change: Propagation) -> Result<()> {
    let deep = if change.recursive { libc::MS_REC } else { 0 };
    Ok(mount::set_propagation(Path::new("/"), change.flag | deep)?)
}

/// The root as a mount of its own, which pivot_root asks for. Not shared, so pivoting cannot leak: private, or the slave
/// of what the host has there.
pub(crate) fn open(path: &Path, slave: bool) -> Result<OwnedFd> {
    let propagation = if slave { libc::MS_SLAVE } else { libc::MS_PRIVATE };
    // Before it is cloned: what is unbindable cannot be.
    unshare_parent(path, propagation)?;
    let tree = mount::clone_tree(CWD, path, true).context(|| "error opening rootfs")?;
    let alone = mount::Attributes { propagation, ..mount::Attributes::default() };
    mount::set_attributes(&tree, alone, false)?;
    // Moved by path: it is the caller's own, and a descriptor of it taken before could be of something covered since.
    mount::move_to_path(&tree, path).context(|| "error attaching rootfs")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&tree, ".", flags, Mode::empty()).context(|| "error opening rootfs")
}

/// The root in a mount namespace that is not the container's own: one mount above which everything of the container
/// stands, to be taken off at once later. Private, or what is mounted in it would appear wherever the host's does.
pub(crate) fn open_hosted(path: &Path) -> Result<OwnedFd> {
    let tree = mount::clone_tree(CWD, path, true).context(|| "error opening rootfs")?;
    mount::move_to_path(&tree, path).context(|| "error attaching rootfs")?;
    // Where the host's mounts are shared, being attached among them has made it shared.
    let private = mount::Attributes { propagation: libc::MS_PRIVATE, ..mount::Attributes::default() };
    mount::set_attributes(&tree, private, true)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&tree, ".", flags, Mode::empty()).context(|| "error opening rootfs")
}

/// How many mounts stand on top of each other at a path; none where there is nothing.
pub(crate) fn mounts_at(path: &Path) -> Result<usize> {
    let Ok(path) = std::fs::canonicalize(path) else { return Ok(0) };
    let table = std::fs::read("/proc/self/mountinfo").context(|| "/proc/self/mountinfo")?;
    let place = path.as_os_str().as_encoded_bytes();
    Ok(table.split(|byte| *byte == b'\n').filter(|line| mount_point(line).as_deref() == Some(place)).count())
}

/// The fifth field of a line of mountinfo; blanks and backslashes are octal there.
fn mount_point(line: &[u8]) -> Option<Vec<u8>> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let octal =
            others.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                rest = others.get(3..).unwrap_or_default();
            }
            None => {
                path.push(*first);
                rest = others;
            }
        }
    }
    Some(path)
}

/// Takes off what was attached at `path` since there were `before` mounts, with all that is mounted in it.
pub(crate) fn close_hosted(path: &Path, before: usize) -> Result<()> {
    while mounts_at(path)? > before {
        mount::unmount(path, true)?;
    }
    Ok(())
}

/// Another root for this process alone; the mounts remain those of everybody.
pub(crate) fn change(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).context(|| "fchdir(<rootfs>)")?;
    rustix::process::chroot(".").context(|| "chroot(\".\")")?;
    rustix::process::chdir("/").context(|| "chdir(\"/\")")
}

/// The kernel pivots to no root whose parent mount is shared, as it is after `rootfsPropagation: rshared`. The mount
/// that holds `path` is at `path` itself or somewhere above.
fn unshare_parent(path: &Path, propagation: u64) -> Result<()> {
    let mut result = Ok(());
    for place in path.ancestors() {
        result = mount::set_propagation(place, propagation);
        match &result {
            // Not a mount point.
            Err(error) if error.errno == rustix::io::Errno::INVAL => {}
            _ => break,
        }
    }
    result.context(|| "error making the parent mount of rootfs private")
}

/// Swaps the roots. The old one lands on top of the new one (no directory is needed for it) and is taken off.
pub(crate) fn pivot(root: BorrowedFd<'_>) -> Result<()> {
    let old = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open(\"/\")")?;
    rustix::process::fchdir(root).context(|| "fchdir(<rootfs>)")?;
    rustix::process::pivot_root(".", ".").context(|| "pivot_root(\".\", \".\")")?;
    // Unmounting must not reach the host where the old root is shared.
    rustix::process::fchdir(&old).context(|| "fchdir(<old root>)")?;
    mount::set_propagation(Path::new("."), libc::MS_SLAVE | libc::MS_REC)?;
    mount::unmount(Path::new("."), true)?;
    rustix::process::chdir("/").context(|| "chdir(\"/\")")
}

/// For a root on a ramdisk, which cannot be pivoted away from. Everything of the host that could be reached by leaving
/// the chroot is covered first.
pub(crate) fn move_root(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).context(|| "fchdir(<rootfs>)")?;
    for path in ["/proc", "/sys"] {
        if mount::unmount(Path::new(path), true).is_err() {
            let empty = crate::mounts::source::new("tmpfs", "tmpfs", "size=0", mount::attr::RDONLY)?;
            mount::move_to_path(&empty, Path::new(path))?;
        }
    }
    mount::mount(Path::new("."), Path::new("/"), "", libc::MS_MOVE, None)?;
    rustix::process::chroot(".").context(|| "chroot(\".\")")?;
    rustix::process::chdir("/").context(|| "chdir(\"/\")")
}

/// The propagation that the container asked for, instead of the private one it was built with.
pub(crate) fn set_propagation(change: Propagation) -> Result<()> {
    detach_from_host(change)
}

/// No more writes below `/`, except to what is mounted there.
pub(crate) fn make_read_only(root: BorrowedFd<'_>) -> Result<()> {
    let here =
        rustix::fs::openat(root, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .context(|| "open(\"/\")")?;
    let read_only = mount::Attributes { set: mount::attr::RDONLY, ..mount::Attributes::default() };
    Ok(mount::set_attributes(here.as_fd(), read_only, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_mounts_are_read_as_the_kernel_writes_them() {
        for (line, place) in [
            ("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw", Some("/mnt2")),
            ("36 35 98:0 / /with\\040blank\\134end rw - tmpfs t rw", Some("/with blank\\end")),
            ("36 35 98:0 / /cut\\04 rw - tmpfs t rw", Some("/cut\\04")),
            ("36 35", None),
            ("", None),
        ] {
            assert_eq!(mount_point(line.as_bytes()).as_deref(), place.map(str::as_bytes), "{line}");
        }
    }

    #[test]
    fn the_root_is_a_mount_and_a_missing_place_is_none() {
        assert!(mounts_at(Path::new("/")).unwrap() >= 1);
        assert_eq!(mounts_at(Path::new("/nowhere/at/all")).unwrap(), 0);
    }
}

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

/// The root as a mount of its own, which pivot_root asks for; private, so pivoting cannot leak.
pub(crate) fn open(path: &Path) -> Result<OwnedFd> {
    let tree = mount::clone_tree(CWD, path, true).context(|| "error opening rootfs")?;
    make_parent_private(path)?;
    let private = mount::Attributes { propagation: libc::MS_PRIVATE, ..mount::Attributes::default() };
    mount::set_attributes(&tree, private, false)?;
    // Moved by path: it is the caller's own, and a descriptor of it taken before could be of something covered since.
    mount::move_to_path(&tree, path).context(|| "error attaching rootfs")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&tree, ".", flags, Mode::empty()).context(|| "error opening rootfs")
}

/// The kernel pivots to no root whose parent mount is shared, as it is after `rootfsPropagation: rshared`. The mount
/// that holds `path` is at `path` itself or somewhere above.
fn make_parent_private(path: &Path) -> Result<()> {
    let mut result = Ok(());
    for place in path.ancestors() {
        result = mount::set_propagation(place, libc::MS_PRIVATE);
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

//! The few mounts that volumes need: a tmpfs for what must not touch a disk, and the way back.

use rustix::mount::{MountFlags, UnmountFlags};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Mounts a tmpfs on `directory` unless one is there; `size` in bytes, half of the memory where absent.
pub(super) fn mount_tmpfs(directory: &Path, size: Option<u64>) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    if is_mounted(directory)? {
        return Ok(());
    }
    let options = size.map(|size| std::ffi::CString::new(format!("size={size}"))).transpose()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", directory, "tmpfs", flags, options.as_deref())?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))
}

/// Whether something is mounted on `directory`. Blocks.
pub(super) fn is_mounted(directory: &Path) -> io::Result<bool> {
    Ok(mount_points_below(directory)?.iter().any(|point| point == directory))
}

/// Unmounts every mount at or below `directory`, deepest first.
pub(super) fn unmount_below(directory: &Path) -> io::Result<()> {
    let mut points = mount_points_below(directory)?;
    points.sort_by_key(|point| std::cmp::Reverse(point.as_os_str().len()));
    for point in points {
        match rustix::mount::unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Gone since the table was read, or covered and uncovered by its neighbour.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Mount points at or below `directory`, from the kernel's table.
fn mount_points_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points =
        table.lines().filter_map(|line| line.split(' ').nth(4)).map(|field| PathBuf::from(unescape(field)));
    Ok(points.filter(|point| point.starts_with(directory)).collect())
}

/// The kernel writes space, tab, newline and backslash as octal.
fn unescape(field: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(field.to_string(), |text, (escape, plain)| text.replace(escape, plain))
}

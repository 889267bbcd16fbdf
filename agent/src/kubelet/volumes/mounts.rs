//! The few mounts that volumes need: a tmpfs for what must not touch a disk, and the way back.

use rustix::mount::{MountFlags, UnmountFlags};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For the server of a mount that goes.
const FAREWELL: Duration = Duration::from_secs(10);

/// File systems that another machine, or another program, answers for.
const REMOTE: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "glusterfs", "fuse"];

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
pub(in crate::kubelet) fn is_mounted(directory: &Path) -> io::Result<bool> {
    let place = as_in_table(directory);
    Ok(mounts_below(directory)?.iter().any(|mount| mount.point == place))
}

/// Mounts on `target` what is at `source`. Blocks.
pub(in crate::kubelet) fn bind(source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    rustix::mount::mount_bind(source, target)?;
    if read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        rustix::mount::mount_remount(target, flags, c"")?;
    }
    Ok(())
}

/// Unmounts one mount, and returns when nothing of it is used any more. Blocks.
pub(in crate::kubelet) fn unmount(directory: &Path) -> io::Result<()> {
    match rustix::mount::unmount(directory, UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Unmounts every mount at or below `directory`, deepest first.
pub(in crate::kubelet) fn unmount_below(directory: &Path) -> io::Result<()> {
    let mut found = mounts_below(directory)?;
    found.sort_by_key(|mount| std::cmp::Reverse(mount.point.as_os_str().len()));
    for Mount { point, remote } in found {
        if remote { detach_remote(point)? } else { detach(&point)? }
    }
    Ok(())
}

fn detach(point: &Path) -> io::Result<()> {
    match rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Gone since the table was read, or covered and uncovered by its neighbour.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The kernel takes leave of the server when the last mount goes, and a server that is no more lets it wait for minutes.
/// By then the mount is off the tree, which is all that the pod needs.
fn detach_remote(point: PathBuf) -> io::Result<()> {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let place = point.clone();
    std::thread::Builder::new().name("unmount".to_owned()).spawn(move || {
        // Whoever waited too long for it has gone on.
        let _heard = tell.send(detach(&place));
    })?;
    match told.recv_timeout(FAREWELL) {
        Ok(result) => result,
        Err(_) if !is_mounted(&point)? => Ok(()),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("unmount {}: its server does not answer", point.display()),
        )),
    }
}

struct Mount {
    point: PathBuf,
    /// Its server may not answer.
    remote: bool,
}

/// The kernel's table as it was.
pub(in crate::kubelet) struct Table(Vec<Mount>);

impl Table {
    /// Blocks.
    pub(in crate::kubelet) fn read() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
    }

    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(mount_of).collect())
    }

    /// Whether somebody else answers for what is at a path, which has no links.
    pub(in crate::kubelet) fn is_remote(&self, path: &Path) -> bool {
        let over = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        // The last of the longest is on top.
        over.max_by_key(|mount| mount.point.as_os_str().len()).is_some_and(|mount| mount.remote)
    }
}

/// Mounts at or below `directory`, from the kernel's table.
fn mounts_below(directory: &Path) -> io::Result<Vec<Mount>> {
    let Table(mounts) = Table::read()?;
    let place = as_in_table(directory);
    Ok(mounts.into_iter().filter(|mount| mount.point.starts_with(&place)).collect())
}

/// What the kernel calls a directory: the links on the way to it are followed (people put a link where the node's data
/// would be, to another disk). It is not looked at itself: it may be a mount whose server does not answer.
fn as_in_table(directory: &Path) -> PathBuf {
    let parent = directory.parent().and_then(|parent| parent.canonicalize().ok());
    parent
        .zip(directory.file_name())
        .map_or_else(|| directory.to_path_buf(), |(parent, name)| parent.join(name))
}

fn mount_of(line: &str) -> Option<Mount> {
    let (places, kind) = line.split_once(" - ")?;
    let point = PathBuf::from(unescape(places.split(' ').nth(4)?));
    let kind = kind.split(' ').next()?;
    Some(Mount { point, remote: REMOTE.contains(&kind) || kind.starts_with("fuse.") })
}

/// The kernel writes space, tab, newline and backslash as octal.
fn unescape(field: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(field.to_string(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_behind_a_link_is_what_the_kernel_calls_it() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap().join("disk");
        std::fs::create_dir(&real).unwrap();
        let link = root.path().join("data");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(as_in_table(&link.join("pods")), real.join("pods"));
        assert_eq!(as_in_table(Path::new("/")), Path::new("/"));
        assert_eq!(as_in_table(&root.path().join("none/below")), root.path().join("none/below"));
    }

    #[test]
    fn mounts_of_other_machines_are_told_apart() {
        let of = |line: &str| mount_of(line).map(|mount| (mount.point, mount.remote));
        let export = "36 32 0:31 / /a\\040b rw,relatime - nfs4 127.0.0.1:/a rw,vers=4.2";
        assert_eq!(of(export), Some((PathBuf::from("/a b"), true)));
        let own = "37 32 0:31 / /c rw shared:1 - tmpfs nfs rw";
        assert_eq!(of(own), Some((PathBuf::from("/c"), false)));
        assert_eq!(of("no table"), None);
    }

    #[test]
    fn what_is_on_top_answers() {
        let table = Table::parse(
            "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / /a/my\\040share rw - nfs4 h:/e rw\n\
             3 1 0:8 / /f rw - fuse.sshfs s rw\n",
        );
        for (path, expected) in [("/a", false), ("/a/my share/x", true), ("/f", true), ("/ff", false)] {
            assert_eq!(table.is_remote(Path::new(path)), expected, "{path}");
        }
    }
}

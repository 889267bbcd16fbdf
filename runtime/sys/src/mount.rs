//! The mount API of Linux 5.2 and later: a mount is made detached, as a file descriptor, gets its attributes there, and
//! is then moved to its place. Nothing half-configured is ever visible, and no path is walked twice.

use crate::error::{Call, Error, Result};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Attributes of a mount, as mount_setattr(2) takes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
}

/// `MOUNT_ATTR_*` as plain numbers, for tables.
pub mod attr {
    /// Read only.
    pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    /// Set-user-id bits have no effect.
    pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    /// The three access-time modes exclude each other: this is the mask, and `RELATIME` is its zero.
    pub const ATIME_MASK: u64 = libc::MOUNT_ATTR__ATIME;
    /// Access times never change.
    pub const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
    /// Access times always change.
    pub const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
    /// Access times of directories never change.
    pub const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
    /// Ids are mapped through a user namespace.
    pub const IDMAP: u64 = libc::MOUNT_ATTR_IDMAP;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
}

/// A detached copy of the mount at `path` (relative to `dir`; empty means `dir` itself), with what is mounted below it
/// where `recursive`.
pub fn clone_tree(dir: impl AsFd, path: impl AsRef<Path>, recursive: bool) -> Result<OwnedFd> {
    let (dir, path) = (dir.as_fd(), path.as_ref());
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(dir, path, flags).call(|| {
        let deep = if recursive { "|AT_RECURSIVE" } else { "" };
        format!("open_tree({}, {path:?}, OPEN_TREE_CLONE{deep})", name(dir))
    })
}

/// Attaches a detached mount, or moves an attached one, onto what `target` refers to.
pub fn move_to_fd(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let (mount, target) = (mount.as_fd(), target.as_fd());
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags)
        .call(|| format!("move_mount({}, \"\", {}, \"\")", name(mount), name(target)))
}

/// Attaches a detached mount onto an entry of a directory; a symbolic link is not followed.
pub fn move_into(mount: impl AsFd, directory: impl AsFd, entry: &str) -> Result<()> {
    let (mount, directory) = (mount.as_fd(), directory.as_fd());
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", directory, entry, flags)
        .call(|| format!("move_mount({}, \"\", {}, {entry:?})", name(mount), name(directory)))
}

/// Attaches a detached mount onto a path, following symbolic links. Only for paths that nobody hostile can change.
pub fn move_to_path(mount: impl AsFd, target: &Path) -> Result<()> {
    let mount = mount.as_fd();
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    rustix::mount::move_mount(mount, c"", CWD, target, flags)
        .call(|| format!("move_mount({}, \"\", AT_FDCWD, {target:?})", name(mount)))
}

/// Changes a mount, and those below it where `recursive`.
pub fn set_attributes(mount: impl AsFd, attributes: Attributes, recursive: bool) -> Result<()> {
    setattr(mount.as_fd(), attributes, recursive, None)
}

/// Maps the ids of a detached mount through a user namespace.
pub fn set_idmap(mount: impl AsFd, user_namespace: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let attributes = Attributes { set: attr::IDMAP, ..Attributes::default() };
    setattr(mount.as_fd(), attributes, recursive, Some(user_namespace))
}

fn setattr(
    mount: BorrowedFd<'_>,
    a: Attributes,
    recursive: bool,
    userns: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let raw = libc::mount_attr {
        attr_set: a.set,
        attr_clr: a.clear,
        propagation: a.propagation,
        userns_fd: userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static C string, `raw` lives across the call and its true size is passed; both file
    // descriptors are borrowed, so they are open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    let deep = if recursive { "|AT_RECURSIVE" } else { "" };
    Err(Error::last(format!(
        "mount_setattr({}, \"\", AT_EMPTY_PATH{deep}, {{set={:#x}, clr={:#x}, propagation={:#x}}})",
        name(mount),
        a.set,
        a.clear,
        a.propagation
    )))
}

/// A file system that is being configured.
#[derive(Debug)]
pub struct FsContext {
    context: OwnedFd,
    fs_type: String,
}

impl FsContext {
    /// Begins a new instance of a file system.
    pub fn open(fs_type: &str) -> Result<Self> {
        let context = rustix::mount::fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)
            .call(|| format!("fsopen({fs_type:?})"))?;
        Ok(FsContext { context, fs_type: fs_type.into() })
    }

    /// Sets `key=value`.
    pub fn set(&self, key: &str, value: impl AsRef<std::ffi::OsStr>) -> Result<()> {
        let value = value.as_ref();
        let result = rustix::mount::fsconfig_set_string(&self.context, key, value);
        self.explain(result, || format!("FSCONFIG_SET_STRING, {key:?}, {value:?}"))
    }

    /// Sets an option that has no value.
    pub fn set_flag(&self, key: &str) -> Result<()> {
        let result = rustix::mount::fsconfig_set_flag(&self.context, key);
        self.explain(result, || format!("FSCONFIG_SET_FLAG, {key:?}"))
    }

    /// Sets an option to an open file (e.g. overlay's `lowerdir+`).
    pub fn set_fd(&self, key: &str, value: impl AsFd) -> Result<()> {
        let value = value.as_fd();
        let result = rustix::mount::fsconfig_set_fd(&self.context, key, value);
        self.explain(result, || format!("FSCONFIG_SET_FD, {key:?}, {}", name(value)))
    }

    /// Sets the option string of mount(8): `key=value` and bare flags, separated by commas.
    pub fn set_options(&self, options: &str) -> Result<()> {
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some((key, value)) => self.set(key, value)?,
                None => self.set_flag(option)?,
            }
        }
        Ok(())
    }

    /// Makes the instance and a detached mount of it, with `MOUNT_ATTR_*`.
    pub fn create(self, attributes: u64) -> Result<OwnedFd> {
        self.explain(rustix::mount::fsconfig_create(&self.context), || "FSCONFIG_CMD_CREATE".into())?;
        let flags = MountAttrFlags::from_bits_retain(attributes as u32);
        let result = rustix::mount::fsmount(&self.context, FsMountFlags::FSMOUNT_CLOEXEC, flags);
        self.explain(result, || format!("fsmount, {attributes:#x}"))
    }

    fn explain<T>(&self, result: rustix::io::Result<T>, what: impl FnOnce() -> String) -> Result<T> {
        result.map_err(|errno| Error {
            call: format!("fsconfig(<{}>, {})", self.fs_type, what()),
            errno,
            detail: self.log(),
        })
    }

    /// The context keeps lines such as `e overlay: No changes allowed in reconfigure`.
    fn log(&self) -> Option<String> {
        let mut lines = Vec::new();
        let mut line = [0_u8; 512];
        while let Ok(length) = rustix::io::read(&self.context, &mut line) {
            if length == 0 {
                break;
            }
            lines.push(
                String::from_utf8_lossy(line.get(2..length).unwrap_or_default()).trim_end().to_string(),
            );
        }
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

/// mount(2), for what the new interface cannot do or where it is missing.
pub fn mount(source: &Path, target: &Path, fs_type: &str, flags: u64, data: Option<&CStr>) -> Result<()> {
    let flags_typed = rustix::mount::MountFlags::from_bits_retain(flags as u32);
    rustix::mount::mount(source, target, fs_type, flags_typed, data)
        .call(|| format!("mount({source:?}, {target:?}, {fs_type:?}, {flags:#x}, {data:?})"))
}

/// Binds `source` onto `target`, both existing.
pub fn bind(source: &Path, target: &Path, recursive: bool) -> Result<()> {
    move_to_path(clone_tree(CWD, source, recursive)?, target)
}

/// Changes the propagation of the mount at a path; `MS_REC` may be among the flags.
pub fn set_propagation(target: &Path, flags: u64) -> Result<()> {
    let typed = MountPropagationFlags::from_bits_retain(flags as u32);
    rustix::mount::mount_change(target, typed).call(|| format!("mount(NULL, {target:?}, NULL, {flags:#x})"))
}

/// Unmounts without following a symbolic link at the end; lazily where `detach`.
pub fn unmount(target: &Path, detach: bool) -> Result<()> {
    let mut flags = UnmountFlags::NOFOLLOW;
    if detach {
        flags |= UnmountFlags::DETACH;
    }
    rustix::mount::unmount(target, flags)
        .call(|| format!("umount2({target:?}, UMOUNT_NOFOLLOW{})", if detach { "|MNT_DETACH" } else { "" }))
}

/// Unmounts everything stacked on a path; nothing there (or no such path) is success.
pub fn unmount_all(target: &Path) -> Result<()> {
    loop {
        match unmount(target, true) {
            Ok(()) => {}
            Err(error) if matches!(error.errno, Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn name(fd: BorrowedFd<'_>) -> String {
    if fd.as_raw_fd() == libc::AT_FDCWD {
        return "AT_FDCWD".into();
    }
    let number = fd.as_raw_fd();
    match std::fs::read_link(format!("/proc/self/fd/{number}")) {
        Ok(path) => format!("{number}<{}>", path.display()),
        Err(_) => number.to_string(),
    }
}

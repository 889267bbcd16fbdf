//! The one description of a mount that images and engine share: a snapshot is handed out as a list of these, and
//! nobody outside this crate learns how a layer is kept.

use crate::error::{Error, Result};
use crate::fuse_overlay;
use knarr_sys::loop_device::attach;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// The kernel takes no longer string for one parameter.
const MAX_PARAMETER: usize = 255;

/// The kernel's overlay was found to want all its parameters at once; it would log each attempt to do otherwise.
static OLD_OVERLAY: AtomicBool = AtomicBool::new(false);

/// One mount, in the terms of mount(8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// `overlay`, `bind`, `erofs`, ...
    pub fs_type: String,
    /// Device, directory or file.
    pub source: String,
    /// `ro`, `lowerdir=...`, ...
    pub options: Vec<String>,
}

impl Mount {
    /// A directory seen at another place.
    pub(crate) fn bind(source: &Path, read_only: bool) -> Self {
        let access = if read_only { "ro" } else { "rw" };
        let options = vec!["rbind".to_owned(), access.to_owned()];
        Self { fs_type: "bind".to_owned(), source: source.display().to_string(), options }
    }

    /// A layer's image, read from its file.
    pub(crate) fn erofs(source: String) -> Self {
        Self { fs_type: "erofs".to_owned(), source, options: vec!["ro".to_owned()] }
    }

    /// The same for writes that nobody needs after a crash: the kernel waits for none of them to reach the disk, neither
    /// when the container asks nor when it is unmounted. After a power cut it cannot be mounted again.
    #[must_use]
    pub fn volatile(mut self) -> Self {
        if self.options.iter().any(|option| option.starts_with("upperdir=")) && !self.has("volatile") {
            self.options.push("volatile".to_owned());
        }
        self
    }

    /// Mounts it at a directory that exists. A list of mounts is mounted in order, all at the same target.
    pub fn mount_at(&self, target: &Path) -> std::result::Result<(), Error> {
        if self.fs_type == "bind" {
            return self.bind_at(target);
        }
        match self.mount_by_the_kernel(target) {
            Err(error) if fuse_overlay::is_refused(self, &error) => fuse_overlay::mount(self, target, error),
            result => result,
        }
    }

    fn mount_by_the_kernel(&self, target: &Path) -> Result<()> {
        let is_overlay = self.fs_type == "overlay";
        if is_overlay && OLD_OVERLAY.load(Ordering::Relaxed) {
            return self.mount_at_once(target);
        }
        match self.mount_by_parts(target) {
            Err(error) if error.errno() == Some(Errno::NOSYS.raw_os_error()) => self.mount_at_once(target),
            // Before Linux 6.5 overlay takes whatever it is told, and dislikes what it does not know at the very end.
            Err(error) if is_overlay && error.errno() == Some(Errno::INVAL.raw_os_error()) => {
                // If it is something else that it dislikes, it has said so in words.
                self.mount_at_once(target).map_err(|_| error)?;
                OLD_OVERLAY.store(true, Ordering::Relaxed);
                Ok(())
            }
            result => result,
        }
    }

    /// Undoes every mount at a target; one that is not a mount point is no error.
    pub fn unmount(target: &Path) -> std::result::Result<(), Error> {
        loop {
            let result = match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
                Err(Errno::BUSY) => {
                    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                }
                result => result,
            };
            match result {
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
                Err(error) => return Err(Error::path("umount", target, error)),
            }
        }
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|given| given == option)
    }

    fn bind_at(&self, target: &Path) -> Result<()> {
        let failed = |e| Error::io(format_args!("bind mount {} at {}", self.source, target.display()), e);
        rustix::mount::mount_bind_recursive(self.source.as_str(), target).map_err(failed)?;
        if self.has("ro") {
            let flags = MountFlags::BIND | MountFlags::RDONLY;
            let read_only = rustix::mount::mount_remount(target, flags, c"").map_err(failed);
            if let Err(error) = read_only {
                Self::unmount(target)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// By fsopen and fsmount: no limit on the number of layers, and the kernel says in words what it dislikes.
    fn mount_by_parts(&self, target: &Path) -> Result<()> {
        let at = |error: Error| error.context(format_args!("mount at {}", target.display()));
        let mount = self.detached().map_err(at)?;
        move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|e| at(Error::io("move_mount", e)))
    }

    /// The mount itself, not yet at any place.
    pub(crate) fn detached(&self) -> Result<OwnedFd> {
        match self.detached_from(&self.source) {
            // Before 6.12, and from a file system that cannot be mapped: it takes a block device.
            Err(error) if self.fs_type == "erofs" && error.errno() == Some(Errno::NOTBLK.raw_os_error()) => {
                let file =
                    File::open(&self.source).map_err(|e| Error::path("open", Path::new(&self.source), e))?;
                let failed =
                    |e: knarr_sys::Error| Error::io(format_args!("loop device for {}", self.source), e.errno);
                let device = attach(&file).map_err(failed)?;
                self.detached_from(&device.path.display().to_string())
            }
            result => result,
        }
    }

    fn detached_from(&self, source: &str) -> Result<OwnedFd> {
        let failed = |call: &str, e| Error::io(format_args!("{call} {}", self.fs_type), e);
        let context =
            fsopen(self.fs_type.as_str(), FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| failed("fsopen", e))?;
        let mut attributes = MountAttrFlags::empty();
        set_string(&context, "source", source).map_err(|e| failed("fsconfig", e))?;
        for option in &self.options {
            match attribute(option) {
                Some(attribute) => attributes |= attribute,
                None => {
                    set(&context, option).map_err(|e| {
                        complain(&context, failed(&format!("mount option {option:?} for"), e))
                    })?;
                }
            }
        }
        if attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
            fsconfig_set_flag(&context, "ro").map_err(|e| failed("fsconfig", e))?;
        }
        fsconfig_create(&context).map_err(|e| complain(&context, failed("mount", e)))?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|e| complain(&context, failed("fsmount", e)))
    }

    /// By mount(2), for kernels before 5.2.
    fn mount_at_once(&self, target: &Path) -> Result<()> {
        let mut flags = MountFlags::empty();
        let mut data = Vec::new();
        for option in &self.options {
            match option.as_str() {
                "ro" => flags |= MountFlags::RDONLY,
                "rw" => {}
                "nodev" => flags |= MountFlags::NODEV,
                "nosuid" => flags |= MountFlags::NOSUID,
                "noexec" => flags |= MountFlags::NOEXEC,
                other => data.push(other),
            }
        }
        let failed = |e| Error::io(format_args!("mount {} at {}", self.fs_type, target.display()), e);
        let data = std::ffi::CString::new(data.join(","))
            .map_err(|_| Error::invalid("mount option with a zero byte"))?;
        rustix::mount::mount(self.source.as_str(), target, self.fs_type.as_str(), flags, data.as_c_str())
            .map_err(failed)
    }
}

fn attribute(option: &str) -> Option<MountAttrFlags> {
    match option {
        "ro" => Some(MountAttrFlags::MOUNT_ATTR_RDONLY),
        "rw" => Some(MountAttrFlags::empty()),
        "nodev" => Some(MountAttrFlags::MOUNT_ATTR_NODEV),
        "nosuid" => Some(MountAttrFlags::MOUNT_ATTR_NOSUID),
        "noexec" => Some(MountAttrFlags::MOUNT_ATTR_NOEXEC),
        _ => None,
    }
}

fn set(context: &OwnedFd, option: &str) -> rustix::io::Result<()> {
    match option.split_once('=') {
        None => fsconfig_set_flag(context, option),
        Some(("lowerdir", layers)) => set_layers(context, layers),
        Some((key, value)) => set_string(context, key, &unescape(value)),
    }
}

/// One layer per call (kernel 6.5); all in one string before.
fn set_layers(context: &OwnedFd, layers: &str) -> rustix::io::Result<()> {
    for (index, layer) in split_layers(layers).iter().enumerate() {
        match set_string(context, "lowerdir+", layer) {
            Err(Errno::INVAL) if index == 0 => return fsconfig_set_string(context, "lowerdir", layers),
            result => result?,
        }
    }
    Ok(())
}

/// A value that is too long for a string is a path, which is handed over as a descriptor (kernel 6.13).
fn set_string(context: &OwnedFd, key: &str, value: &str) -> rustix::io::Result<()> {
    if value.len() <= MAX_PARAMETER {
        return fsconfig_set_string(context, key, value);
    }
    let fd = rustix::fs::open(value, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    fsconfig_set_fd(context, key, &fd)
}

/// Adds what the kernel wrote about it.
fn complain(context: &OwnedFd, error: Error) -> Error {
    let mut buffer = [0u8; 1024];
    let mut words = Vec::new();
    while let Ok(count @ 1..) = rustix::io::read(context, &mut buffer) {
        let line = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).trim().to_owned();
        words.push(line.strip_prefix("e ").unwrap_or(&line).to_owned());
    }
    if words.is_empty() { error } else { error.context(words.join("; ")) }
}

/// Escapes a path for a list in `lowerdir=` (a colon separates, a backslash escapes, and mount(2) splits at commas).
pub(crate) fn escape(path: &Path) -> String {
    let mut escaped = String::new();
    for char in path.display().to_string().chars() {
        if matches!(char, ':' | ',' | '\\') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

fn unescape(text: &str) -> String {
    split_at(text, None).concat()
}

fn split_layers(text: &str) -> Vec<String> {
    split_at(text, Some(':'))
}

fn split_at(text: &str, separator: Option<char>) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            _ if Some(char) == separator => parts.push(String::new()),
            '\\' => parts.last_mut().into_iter().for_each(|part| part.extend(chars.next())),
            char => parts.last_mut().into_iter().for_each(|part| part.push(char)),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn only_writes_can_be_volatile() {
        let overlay = |option: &str| Mount {
            fs_type: "overlay".to_owned(),
            source: "overlay".to_owned(),
            options: vec![option.to_owned()],
        };
        assert_eq!(overlay("upperdir=/u").volatile().volatile().options, ["upperdir=/u", "volatile"]);
        assert_eq!(overlay("lowerdir=/l").volatile().options, ["lowerdir=/l"]);
    }

    #[test]
    fn lists_of_layers_survive_odd_names() {
        let odd = ["/a:b", "/c,d", "/e\\f", "/plain"];
        let joined: Vec<String> = odd.iter().map(|path| escape(&PathBuf::from(path))).collect();
        assert_eq!(split_layers(&joined.join(":")), odd);
        assert_eq!(unescape(&joined[0]), "/a:b");
    }
}

//! AppArmor profiles and SELinux labels: what the program runs under from its execve on.
//!
//! The kernel takes them through procfs. They are written through a descriptor of the host's procfs, opened before the
//! container had any say, so a file system that only looks like procfs cannot swallow a label (CVE-2019-16884).

use crate::error::{Context, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Serialize;
use std::os::fd::{AsFd, BorrowedFd};

/// A label, by the module that knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum SecurityLabel {
    AppArmor(String),
    SeLinux(String),
}

impl SecurityLabel {
    /// What is written, and where: the first of these files that this kernel has.
    fn parts(&self) -> (String, &'static [&'static str]) {
        match self {
            SecurityLabel::AppArmor(profile) => {
                (format!("exec {profile}"), &["self/attr/apparmor/exec", "self/attr/exec"])
            }
            SecurityLabel::SeLinux(label) => (label.clone(), &["self/attr/exec"]),
        }
    }
}

/// Whether this kernel has SELinux and a policy is loaded.
pub(crate) fn selinux_enabled() -> bool {
    const MAGIC: i64 = 0xf97c_ff8c;
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|stat| stat.f_type == MAGIC)
}

/// Asks for the label at the next execve.
pub(crate) fn apply(proc: BorrowedFd<'_>, label: &SecurityLabel) -> Result<()> {
    let (value, files) = label.parts();
    write(proc, &value, files).context(|| match label {
        SecurityLabel::AppArmor(profile) => {
            format!("unable to apply apparmor profile {profile:?}: apparmor failed to apply profile")
        }
        SecurityLabel::SeLinux(label) => {
            format!("unable to set selinux label {label:?} (is selinux enabled?)")
        }
    })
}

fn write(proc: BorrowedFd<'_>, value: &str, files: &[&str]) -> rustix::io::Result<()> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let open = |file: &&str| match rustix::fs::openat2(proc.as_fd(), *file, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT) => None,
        opened => Some(opened),
    };
    let file = files.iter().find_map(open).unwrap_or(Err(Errno::NOENT))?;
    rustix::io::write(&file, value.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_module_is_told() {
        let (value, files) = SecurityLabel::AppArmor("docker-default".into()).parts();
        assert_eq!((value.as_str(), files[0]), ("exec docker-default", "self/attr/apparmor/exec"));
        let (value, files) = SecurityLabel::SeLinux("system_u:system_r:container_t:s0".into()).parts();
        assert_eq!(
            (value.as_str(), files),
            ("system_u:system_r:container_t:s0", ["self/attr/exec"].as_slice())
        );
    }
}

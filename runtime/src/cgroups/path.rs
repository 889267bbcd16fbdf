//! `linux.cgroupsPath`: where below the hierarchies a container belongs.

use crate::error::{Error, Result};
use std::path::{Component, Path, PathBuf};

/// A path without `.` and `..`, and without a leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CgroupPath {
    /// From the root of the hierarchy.
    Absolute(PathBuf),
    /// From our own cgroup.
    Relative(PathBuf),
}

/// Reads the field; without one, the container's id names its cgroup.
pub(crate) fn parse(field: &str, id: &str) -> Result<CgroupPath> {
    if field.is_empty() {
        return Ok(CgroupPath::Relative(id.into()));
    }
    if field.split('/').any(|name| name == "..") {
        return Err(Error::invalid(format!("linux.cgroupsPath: {field:?} must not contain \"..\"")));
    }
    let clean: PathBuf =
        Path::new(field).components().filter(|c| matches!(c, Component::Normal(_))).collect();
    if clean.as_os_str().is_empty() {
        return Err(Error::invalid(format!("linux.cgroupsPath: {field:?} names the root cgroup")));
    }
    Ok(if field.starts_with('/') { CgroupPath::Absolute(clean) } else { CgroupPath::Relative(clean) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(parse("", "id").unwrap(), CgroupPath::Relative("id".into()));
        assert_eq!(parse("/a//b/.", "id").unwrap(), CgroupPath::Absolute("a/b".into()));
        assert_eq!(parse("a/b", "id").unwrap(), CgroupPath::Relative("a/b".into()));
        for bad in ["/", "/a/../..", "..", "."] {
            assert!(parse(bad, "id").is_err(), "{bad}");
        }
    }
}

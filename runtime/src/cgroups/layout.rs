//! What cgroup hierarchies this host has and where we are in them.
//!
//! Found from `/proc/self/cgroup` and the customary mount points; the mount table, which grows with every container, is
//! only read when a hierarchy is not where it usually is.

use super::{Cgroups, Directory};
use crate::cgroups::path::CgroupPath;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel_file;
use crate::systemd::Scope;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Where all hierarchies are by custom.
const ROOT: &str = "/sys/fs/cgroup";
const CGROUP2_MAGIC: i64 = 0x6367_7270;
const CGROUP1_MAGIC: i64 = 0x0027_e0eb;

/// All hierarchies of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Version 2 alone.
    V2(Hierarchy),
    /// Version 1; a version 2 tree beside it comes last and has no controllers, but firewalls and tracers tell
    /// containers apart by it.
    V1(Vec<Hierarchy>),
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) controllers: Vec<String>,
    pub(crate) mount: PathBuf,
    /// Our own cgroup, relative to the mount.
    pub(crate) own: PathBuf,
}

impl Layout {
    /// Looks at this host.
    pub(crate) fn detect() -> Result<Self> {
        let own = kernel_file::read("/proc/self/cgroup").context(|| "read /proc/self/cgroup")?;
        if magic(Path::new(ROOT)) == Some(CGROUP2_MAGIC) {
            return Ok(Layout::V2(unified(&own)));
        }
        let mut mounts = None;
        let place = |(controllers, own): (Vec<String>, PathBuf)| {
            let mount = usual_place(&controllers).or_else(|| {
                let read = || std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                find_in(mounts.get_or_insert_with(read), &controllers)
            })?;
            Some(Hierarchy { controllers, mount, own })
        };
        let mut hierarchies: Vec<Hierarchy> = own.lines().filter_map(parse_line).filter_map(place).collect();
        hierarchies.extend(beside(&own));
        if hierarchies.is_empty() {
            return Err(nothing_mounted());
        }
        Ok(Layout::V1(hierarchies))
    }

    /// The cgroups of a container at this path.
    pub(crate) fn place(&self, path: &CgroupPath) -> Cgroups {
        match self {
            Layout::V2(hierarchy) => {
                // A cgroup with processes cannot have controllers for its children, so ours is made beside our own.
                let base = hierarchy.own.parent().unwrap_or(Path::new(""));
                Cgroups { directories: vec![directory(hierarchy, base, path)], unified: true, scope: None }
            }
            Layout::V1(all) => Cgroups {
                directories: all.iter().map(|h| directory(h, &h.own, path)).collect(),
                unified: false,
                scope: None,
            },
        }
    }

    /// The cgroups of a scope, where systemd will make them.
    pub(crate) fn place_scope(&self, scope: &Scope) -> Result<Cgroups> {
        let own = match self {
            Layout::V2(hierarchy) => &hierarchy.own,
            Layout::V1(all) => all.last().map(|last| &last.own).ok_or_else(nothing_mounted)?,
        };
        let top = if scope.user { user_manager(own)? } else { PathBuf::new() };
        let cgroups = self.place(&CgroupPath::Absolute(top.join(scope.path()?)));
        Ok(Cgroups { scope: Some(scope.clone()), ..cgroups })
    }
}

fn nothing_mounted() -> Error {
    Error::new(Kind::Unsupported, "no cgroup hierarchy is mounted")
}

/// The cgroup of the user's own systemd, which everything of that user is below.
fn user_manager(own: &Path) -> Result<PathBuf> {
    let is_manager = |name: &std::ffi::OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("user@") && name.ends_with(".service")
    };
    let found = own.ancestors().find(|path| path.file_name().is_some_and(is_manager));
    let missing = || Error::new(Kind::Unsupported, "--systemd-cgroup: no systemd of this user is above us");
    found.map(Path::to_path_buf).ok_or_else(missing)
}

fn directory(hierarchy: &Hierarchy, base: &Path, path: &CgroupPath) -> Directory {
    let below = match path {
        CgroupPath::Absolute(path) => path.clone(),
        CgroupPath::Relative(path) => base.join(path),
    };
    Directory {
        controllers: hierarchy.controllers.clone(),
        mount: hierarchy.mount.clone(),
        path: hierarchy.mount.join(below),
    }
}

fn unified(own: &str) -> Hierarchy {
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    Hierarchy { controllers: vec![], mount: ROOT.into(), own: relative(path) }
}

/// The version 2 tree of a hybrid host.
fn beside(own: &str) -> Option<Hierarchy> {
    let mount = Path::new(ROOT).join("unified");
    (magic(&mount) == Some(CGROUP2_MAGIC)).then(|| Hierarchy { mount, ..unified(own) })
}

fn relative(path: &str) -> PathBuf {
    let clean = crate::safe_path::clean(path);
    clean.strip_prefix("/").map(Path::to_path_buf).unwrap_or_default()
}

/// `4:cpu,cpuacct:/a/b`; the version 2 line has no controllers and is not one of these.
fn parse_line(line: &str) -> Option<(Vec<String>, PathBuf)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    if controllers.is_empty() {
        return None;
    }
    Some((controllers.split(',').map(String::from).collect(), relative(path)))
}

fn usual_place(controllers: &[String]) -> Option<PathBuf> {
    let joined = controllers.join(",");
    let name = joined.strip_prefix("name=").unwrap_or(&joined);
    let path = Path::new(ROOT).join(name);
    (magic(&path) == Some(CGROUP1_MAGIC)).then_some(path)
}

/// Looks a hierarchy up in the text of `/proc/self/mountinfo`.
fn find_in(mountinfo: &str, controllers: &[String]) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let has_all =
            || controllers.iter().all(|controller| options.split(',').any(|option| option == controller));
        if kind == "cgroup" && has_all() { left.split(' ').nth(4).map(PathBuf::from) } else { None }
    })
}

fn magic(path: &Path) -> Option<i64> {
    loop {
        match rustix::fs::statfs(path) {
            Ok(stat) => return Some(stat.f_type),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(controllers: &str, mount: &str, own: &str) -> Hierarchy {
        Hierarchy {
            controllers: controllers.split(',').filter(|c| !c.is_empty()).map(String::from).collect(),
            mount: mount.into(),
            own: own.into(),
        }
    }

    #[test]
    fn lines_of_proc_self_cgroup() {
        assert_eq!(parse_line("4:cpu,cpuacct:/a/b").unwrap().1, Path::new("a/b"));
        assert_eq!(parse_line("9:name=systemd:/").unwrap(), (vec!["name=systemd".into()], PathBuf::new()));
        assert_eq!(parse_line("0::/x"), None);
        assert_eq!(unified("0::/user.slice/a\n").own, Path::new("user.slice/a"));
    }

    #[test]
    fn relative_paths_start_at_our_own_cgroup_and_beside_it_on_version_2() {
        let v1 = Layout::V1(vec![hierarchy("cpu", "/sys/fs/cgroup/cpu", "a")]);
        let v2 = Layout::V2(hierarchy("", "/sys/fs/cgroup", "a/self"));
        let path = |layout: &Layout, path: CgroupPath| layout.place(&path).directories[0].path.clone();
        let relative = || CgroupPath::Relative("x".into());
        let absolute = || CgroupPath::Absolute("x/y".into());
        assert_eq!(path(&v1, relative()), Path::new("/sys/fs/cgroup/cpu/a/x"));
        assert_eq!(path(&v1, absolute()), Path::new("/sys/fs/cgroup/cpu/x/y"));
        assert_eq!(path(&v2, relative()), Path::new("/sys/fs/cgroup/a/x"));
        assert_eq!(path(&v2, absolute()), Path::new("/sys/fs/cgroup/x/y"));
    }

    #[test]
    fn a_hierarchy_in_an_unusual_place_is_found_in_the_mount_table() {
        let table = "30 25 0:27 / /cg/one rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                     31 25 0:28 / /cg/two rw - cgroup2 cgroup2 rw\n";
        assert_eq!(find_in(table, &["cpuacct".into()]), Some("/cg/one".into()));
        assert_eq!(find_in(table, &["memory".into()]), None);
    }
}

//! Where the cgroup hierarchies of this machine are mounted: v1 (one mount per set of controllers), v2, or both.

use std::io;
use std::path::{Path, PathBuf};

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMount {
    /// v1: the controllers (or `name=...`); empty for v2.
    pub controllers: Vec<String>,
    /// The cgroup that is visible as the mount's root.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
}

impl CgroupMount {
    /// All hierarchies that this process sees.
    pub fn all() -> io::Result<Vec<Self>> {
        Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
    }

    /// This is the v2 hierarchy.
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    /// The directory of a cgroup given as in `/proc/PID/cgroup`.
    pub fn directory(&self, cgroup: &Path) -> PathBuf {
        let below = cgroup.strip_prefix(&self.root).unwrap_or(cgroup);
        self.point.join(below.strip_prefix("/").unwrap_or(below))
    }

    /// The hierarchies in which a process must leave the engine's cgroup so that neither the engine's limits, nor its
    /// out-of-memory kills, nor its service manager reach it: memory, pids, systemd's own, v2.
    pub fn matters_for_separation(&self) -> bool {
        self.is_v2()
            || self.controllers.iter().any(|c| matches!(c.as_str(), "memory" | "pids" | "name=systemd"))
    }
}

/// Field 4 is the root, 5 the mount point; after ` - ` come the type, the source and the super block's options.
fn parse(mountinfo: &str) -> Vec<CgroupMount> {
    mountinfo.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<CgroupMount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut filesystem = filesystem.split(' ');
    let controllers = match filesystem.next()? {
        "cgroup2" => Vec::new(),
        "cgroup" => controllers_of(filesystem.nth(1)?),
        _ => return None,
    };
    Some(CgroupMount { controllers, root: root.into(), point: point.into() })
}

fn controllers_of(options: &str) -> Vec<String> {
    let no_controller = ["rw", "ro", "xattr", "noprefix", "clone_children", "favordynmods", "cpuset_v2_mode"];
    options.split(',').filter(|option| !no_controller.contains(option)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_is_understood() {
        let mounts = parse(
            "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw\n\
             31 25 0:27 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
        );
        assert_eq!(mounts.len(), 4);
        assert!(mounts[0].is_v2());
        assert_eq!(mounts[1].directory(Path::new("/docker/x/pod")), Path::new("/sys/fs/cgroup/memory/pod"));
        assert_eq!(mounts[2].directory(Path::new("/a/b")), Path::new("/sys/fs/cgroup/systemd/a/b"));
        let separated: Vec<_> = mounts.iter().map(CgroupMount::matters_for_separation).collect();
        assert_eq!(separated, [true, true, true, false]);
    }
}

//! Where the cgroup hierarchies of this machine are mounted: v1 (one mount per set of controllers), v2, or both.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _};
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
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        first_of_each(&own, io::BufReader::new(std::fs::File::open("/proc/self/mountinfo")?).lines())
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

/// The mounts of the hierarchies named in `/proc/PID/cgroup`. The kernel makes up each line when it is read, with hundreds of
/// pods thousands of them, and these stand near the beginning: what comes after the last of them is not asked for.
fn first_of_each(
    own: &str,
    mountinfo: impl IntoIterator<Item = io::Result<String>>,
) -> io::Result<Vec<CgroupMount>> {
    let mut hierarchies: BTreeSet<Vec<String>> = own.lines().filter_map(controllers_in).collect();
    let mut found = Vec::new();
    for line in mountinfo {
        let line = line?;
        let Some(mount) = parse_line(&line) else { continue };
        let mut controllers = mount.controllers.clone();
        controllers.sort();
        hierarchies.remove(&controllers);
        found.push(mount);
        if hierarchies.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// `NUMBER:CONTROLLERS:CGROUP`; v2 has none.
fn controllers_in(line: &str) -> Option<Vec<String>> {
    let names = line.split(':').nth(1)?.split(',').filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort();
    Some(names)
}

/// Field 4 is the root, 5 the mount point; after ` - ` come the type, the source and the super block's options.
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

    const MOUNTINFO: &str = "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw\n\
        31 25 0:27 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        34 25 0:26 / /elsewhere rw - cgroup2 cgroup2 rw\n";

    fn seen(own: &str) -> Vec<CgroupMount> {
        first_of_each(own, MOUNTINFO.lines().map(|line| Ok(line.to_owned()))).unwrap()
    }

    #[test]
    fn nothing_is_read_behind_the_last_hierarchy() {
        let own = "4:cpuacct,cpu:/\n3:memory:/a\n1:name=systemd:/\n0::/x\n";
        assert_eq!(seen(own).len(), 4);
        assert_eq!(seen(&format!("9:misc:/\n{own}")).len(), 5, "one that is mounted nowhere");
    }

    #[test]
    fn a_hybrid_machine_is_understood() {
        let mounts = seen("4:cpu,cpuacct:/\n3:memory:/\n1:name=systemd:/\n0::/\n");
        assert_eq!(mounts.len(), 4);
        assert!(mounts[0].is_v2());
        assert_eq!(mounts[1].directory(Path::new("/docker/x/pod")), Path::new("/sys/fs/cgroup/memory/pod"));
        assert_eq!(mounts[2].directory(Path::new("/a/b")), Path::new("/sys/fs/cgroup/systemd/a/b"));
        let separated: Vec<_> = mounts.iter().map(CgroupMount::matters_for_separation).collect();
        assert_eq!(separated, [true, true, true, false]);
    }
}

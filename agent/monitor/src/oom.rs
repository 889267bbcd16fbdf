//! Whether the kernel's OOM killer struck in a container's cgroup, by the kernel's own count.
//!
//! v1 counts in `memory.oom_control`, v2 in `memory.events`, both on a line `oom_kill N`. The file is found when the
//! container is created (its init must still be alive for that) and read when its init ends: the cgroup is removed by
//! the engine only after it has learned of the exit.

use knarr_monitor::cgroup_mounts::CgroupMount;
use std::path::{Path, PathBuf};

/// The file that counts OOM kills around process `pid`; `None` where no memory controller holds it.
pub(crate) fn counter_of(pid: i32, mounts: &[CgroupMount]) -> Option<PathBuf> {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    counter_in(&cgroups, mounts)
}

fn counter_in(cgroups: &str, mounts: &[CgroupMount]) -> Option<PathBuf> {
    let v1 = mounts.iter().find(|mount| mount.controllers.iter().any(|c| c == "memory"));
    let (mount, file) = match v1 {
        Some(mount) => (mount, "memory.oom_control"),
        None => (mounts.iter().find(|mount| mount.is_v2())?, "memory.events"),
    };
    let cgroup = cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let same = if mount.is_v2() {
            controllers.is_empty()
        } else {
            controllers.split(',').any(|controller| controller == "memory")
        };
        same.then_some(path)
    })?;
    Some(mount.directory(Path::new(cgroup)).join(file))
}

/// The counter is above zero.
pub(crate) fn struck(counter: &Path) -> bool {
    std::fs::read_to_string(counter).is_ok_and(|text| kills(&text) > 0)
}

fn kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_in_either_version() {
        let v1 = CgroupMount { controllers: vec!["memory".into()], root: "/".into(), point: "/m".into() };
        let v2 = CgroupMount { controllers: vec![], root: "/".into(), point: "/u".into() };
        let cgroups = "4:memory:/kubepods/pod1/c\n2:cpu,cpuacct:/x\n0::/kubepods/pod2/c\n";
        assert_eq!(
            counter_in(cgroups, &[v2.clone(), v1]),
            Some("/m/kubepods/pod1/c/memory.oom_control".into())
        );
        assert_eq!(counter_in(cgroups, &[v2]), Some("/u/kubepods/pod2/c/memory.events".into()));
        assert_eq!(counter_in(cgroups, &[]), None);
    }

    #[test]
    fn kills_are_counted() {
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(kills("low 0\nhigh 0\nmax 4\noom 1\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(kills("oom 2\n"), 0);
    }
}

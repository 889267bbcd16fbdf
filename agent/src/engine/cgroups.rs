//! The cgroup tree as the engine uses it: where a container's group is, what its files say, and how a whole group is
//! killed and removed. Limits are the runtime's business.
//!
//! Version 1 (one tree per controller), hybrid (version 1 plus an empty version 2 tree) and version 2 (one tree) look
//! the same from outside: ask for the directory of a controller.

mod pressure;
mod stats;

pub(crate) use pressure::{Psi, PsiLine, pressure_of};
pub(crate) use stats::{Usage, field, usage};

use super::failures::Failures;
use anyhow::Context;
use knarr_runtime::slice;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Pods that name no parent live below this.
const DEFAULT_PARENT: &str = "/knarr-pods";

/// What the names of our scopes begin with.
const SCOPE_PREFIX: &str = "knarr";

/// Where the hierarchies are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    unified: Option<PathBuf>,
    /// Version 1 controllers (`name=systemd` among them) and their mount points.
    controllers: BTreeMap<String, PathBuf>,
}

impl Hierarchies {
    /// Reads `/proc/self/mountinfo`.
    pub(crate) fn detect() -> std::io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
    }

    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, file_system)) = line.split_once(" - ") else { continue };
            let Some(place) = mount.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut fields = file_system.split(' ');
            match (fields.next(), fields.nth(1)) {
                (Some("cgroup2"), _) if found.unified.is_none() => found.unified = Some(place),
                (Some("cgroup"), Some(options)) => {
                    for option in options.split(',').filter(|&option| !matches!(option, "rw" | "ro")) {
                        found.controllers.entry(option.to_owned()).or_insert_with(|| place.clone());
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// One version 2 tree holds everything.
    pub(crate) fn is_unified(&self) -> bool {
        self.unified.is_some() && self.controllers.keys().all(|name| name.starts_with("name="))
    }

    /// The root of the tree that a controller is in.
    pub(crate) fn controller(&self, name: &str) -> Option<&Path> {
        match self.controllers.get(name) {
            Some(place) => Some(place),
            None => self.unified.as_deref().filter(|_| self.is_unified()),
        }
    }

    /// The controller can be used: it is mounted, or the tree that holds everything has it. What a version 2 tree beside
    /// version 1 has is out of a runtime's reach.
    pub(crate) fn has(&self, controller: &str) -> bool {
        match self.unified.as_ref().filter(|_| self.is_unified()) {
            Some(root) => std::fs::read_to_string(root.join("cgroup.controllers"))
                .is_ok_and(|listed| listed.split_whitespace().any(|name| name == controller)),
            None => self.controllers.contains_key(controller),
        }
    }

    /// The directory of a group in the tree that a controller is in.
    pub(crate) fn group(&self, controller: &str, group: &str) -> Option<PathBuf> {
        self.controller(controller).map(|root| below(root, group))
    }

    /// The root of every tree, each once.
    fn roots(&self) -> Vec<&Path> {
        let mut roots: Vec<&Path> =
            self.controllers.values().chain(&self.unified).map(PathBuf::as_path).collect();
        roots.sort_unstable();
        roots.dedup();
        roots
    }

    /// The group exists in some tree.
    pub(crate) fn exists(&self, group: &str) -> bool {
        self.roots().iter().any(|root| below(root, group).exists())
    }

    /// Pids of the processes in a group and in the groups below it.
    pub(crate) fn processes(&self, group: &str) -> Vec<i32> {
        let mut pids: Vec<i32> = Vec::new();
        for root in self.roots() {
            collect_processes(&below(root, group), &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills every process of a group: by `cgroup.kill` where there is one, else one by one.
    pub(crate) fn kill(&self, group: &str) {
        if let Some(unified) = &self.unified {
            // Absent before Linux 5.14 and in groups that exist only in version 1; the walk below covers both.
            drop(std::fs::write(below(unified, group).join("cgroup.kill"), "1"));
        }
        for pid in self.processes(group).into_iter().filter_map(rustix::process::Pid::from_raw) {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Removes a group and the (empty) groups below it from every tree. A group that is not there is fine.
    pub(crate) fn remove(&self, group: &str) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        for root in self.roots() {
            let directory = below(root, group);
            if directory != *root {
                let removed = remove_tree(&directory);
                failures.note("removing a cgroup", removed.with_context(|| directory.display().to_string()));
            }
        }
        failures.into_result()
    }

    /// Removes a group if it is empty; says nothing if it is not.
    pub(crate) fn remove_if_empty(&self, group: &str) {
        for root in self.roots() {
            let directory = below(root, group);
            if directory != *root {
                drop(std::fs::remove_dir(directory));
            }
        }
    }
}

/// The parent for the containers of a pod: as CRI says, else one of our own. A slice of systemd's is named by its whole
/// path or by the end of it.
pub(crate) fn parent_of(requested: &str, sandbox_id: &str) -> String {
    match slice(requested).and_then(slice::path) {
        Some(path) => format!("/{}", path.display()),
        None if requested.is_empty() => format!("{DEFAULT_PARENT}/{sandbox_id}"),
        None => format!("/{}", requested.trim_matches('/')),
    }
}

/// The name of the slice that a group is: systemd rules it, and what is in it.
pub(crate) fn slice(group: &str) -> Option<&str> {
    let last = group.trim_end_matches('/').rsplit('/').next()?;
    last.ends_with(".slice").then_some(last)
}

/// Pods can be in a slice of this name. The root slice is no place for them.
pub(crate) fn takes_pods(slice: &str) -> bool {
    slice::path(slice).is_some_and(|path| path.parent().is_some())
}

/// The group above all pods that name no parent.
pub(crate) fn default_parent() -> &'static str {
    DEFAULT_PARENT
}

/// The group of a container: in a slice, a scope.
pub(crate) fn container_path(parent: &str, container_id: &str) -> String {
    match slice(parent) {
        Some(_) => format!("{parent}/{SCOPE_PREFIX}-{container_id}.scope"),
        None => format!("{}/{container_id}", parent.trim_end_matches('/')),
    }
}

/// The same as a runtime is told it: a path, or what it has to ask of systemd.
pub(crate) fn cgroups_path(parent: &str, container_id: &str) -> String {
    match slice(parent) {
        Some(slice) => format!("{slice}:{SCOPE_PREFIX}:{container_id}"),
        None => container_path(parent, container_id),
    }
}

fn below(root: &Path, group: &str) -> PathBuf {
    root.join(group.trim_start_matches('/'))
}

fn collect_processes(directory: &Path, pids: &mut Vec<i32>) {
    let listed = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    pids.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(directory).unwrap_or_default() {
        collect_processes(&child, pids);
    }
}

fn children(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn remove_tree(directory: &Path) -> std::io::Result<()> {
    let children = match children(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    children.iter().try_for_each(|child| remove_tree(child))?;
    match rustix::fs::rmdir(directory) {
        Err(Errno::NOENT) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn hybrid_keeps_controllers_in_their_own_trees() {
        let found = Hierarchies::parse(HYBRID);
        assert!(!found.is_unified());
        assert_eq!(found.controller("cpuacct").unwrap(), Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(found.controller("io"), None);
        assert!(found.has("memory") && !found.has("hugetlb"));
        assert_eq!(found.roots().len(), 4);
    }

    #[test]
    fn one_tree_holds_every_controller() {
        let found =
            Hierarchies::parse("41 31 0:38 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
        assert!(found.is_unified());
        assert_eq!(found.controller("memory").unwrap(), Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn parents_are_absolute_and_never_the_root() {
        assert_eq!(parent_of("kubepods/besteffort/pod1/", "x"), "/kubepods/besteffort/pod1");
        assert_eq!(parent_of("", "x"), "/knarr-pods/x");
        assert_eq!(container_path("/a/", "c"), "/a/c");
        assert_eq!(cgroups_path("/a/", "c"), "/a/c");
    }

    #[test]
    fn slices_lie_in_each_other_and_hold_scopes() {
        let parent = "/kubepods.slice/kubepods-pod1.slice";
        for requested in ["kubepods-pod1.slice", parent, "/kubepods-pod1.slice/"] {
            assert_eq!(parent_of(requested, "x"), parent);
        }
        assert_eq!(parent_of("system.slice", "x"), "/system.slice");
        assert_eq!(container_path(parent, "c"), format!("{parent}/knarr-c.scope"));
        assert_eq!(cgroups_path(parent, "c"), "kubepods-pod1.slice:knarr:c");
        assert_eq!(slice("/a.slice/b"), None);
        assert!(takes_pods("a-b.slice") && !takes_pods("-.slice") && !takes_pods("a--b.slice"));
    }
}

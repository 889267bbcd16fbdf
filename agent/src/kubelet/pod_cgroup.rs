//! The kubelet's cgroup tree: `kubepods`, its children `burstable` and `besteffort`, and one cgroup per pod, in
//! every hierarchy of the machine (v1, hybrid or v2). Containers are placed below by the runtime.

use crate::kubelet::resources::{self, CPU_PERIOD_US, Qos};
use crate::kubelet::{memory_qos, pod};
use k8s_openapi::api::core::v1::Pod;
use std::io;
use std::path::{Path, PathBuf};

/// The pod's cgroup, relative to each hierarchy's root.
pub fn path(root: &str, pod: &Pod) -> String {
    let uid = pod::uid(pod);
    let parent = parent(root);
    match resources::qos(pod) {
        Qos::Guaranteed => format!("{parent}/pod{uid}"),
        Qos::Burstable => format!("{parent}/burstable/pod{uid}"),
        Qos::BestEffort => format!("{parent}/besteffort/pod{uid}"),
    }
}

/// The cgroup of all pods.
pub fn parent(root: &str) -> String {
    format!("{}/kubepods", root.trim_end_matches('/'))
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    mount: PathBuf,
    /// Empty for v2.
    controllers: Vec<String>,
    v2: bool,
}

/// The hierarchies of this machine.
pub fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    Ok(parse_hierarchies(&std::fs::read_to_string("/proc/self/mounts")?))
}

fn parse_hierarchies(table: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, mount, kind, options, ..] = fields[..] else { continue };
        if !matches!(kind, "cgroup" | "cgroup2") {
            continue;
        }
        let known = ["cpu", "cpuacct", "cpuset", "memory", "pids", "hugetlb", "blkio", "devices", "freezer"];
        // A hierarchy without a controller (`name=systemd`) only groups processes, but runtimes put them there too.
        let wanted = |option: &&str| known.contains(option) || option.starts_with("name=");
        let controllers: Vec<String> = options.split(',').filter(wanted).map(str::to_string).collect();
        let v2 = kind == "cgroup2";
        let hierarchy = Hierarchy { mount: mount.into(), controllers, v2 };
        let same = |other: &Hierarchy| other.v2 == v2 && other.controllers == hierarchy.controllers;
        if (v2 || !hierarchy.controllers.is_empty()) && !found.iter().any(same) {
            found.push(hierarchy);
        }
    }
    found
}

/// Makes the cgroup of all pods. Blocks.
pub fn create_parent(hierarchies: &[Hierarchy], root: &str) -> io::Result<()> {
    let parent = parent(root);
    for hierarchy in hierarchies {
        if hierarchy.v2 {
            descend_v2(hierarchy, &parent)?;
        } else if hierarchy.controllers.iter().any(|controller| controller == "cpu" || controller == "memory")
        {
            std::fs::create_dir_all(directory(hierarchy, &parent))?;
        }
    }
    Ok(())
}

/// What a pod's cgroup gets beside the sums of what its containers ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most processes.
    pub pids: Option<u64>,
    /// Bytes that are never taken away; version 2.
    pub memory_min: Option<i64>,
    /// Bytes of huge pages of each size that the machine knows, by the cgroups' name of the size.
    pub huge_pages: Vec<(String, i64)>,
    /// A container has processors for itself: their time is not limited.
    pub own_processors: bool,
}

impl Limits {
    /// The most time of processors per period.
    fn quota(&self, pod: &Pod) -> Option<i64> {
        resources::pod_limit(pod, "cpu").filter(|_| !self.own_processors).map(resources::cpu_quota)
    }
}

/// Memory can be protected and throttled here: version 2 has its controller.
pub fn protects_memory(hierarchies: &[Hierarchy]) -> bool {
    hierarchies.iter().filter(|hierarchy| hierarchy.v2).any(|hierarchy| {
        let controllers = std::fs::read_to_string(hierarchy.mount.join("cgroup.controllers"));
        controllers.is_ok_and(|names| names.split_whitespace().any(|name| name == "memory"))
    })
}

/// Makes the pod's cgroup and writes its limits wherever a controller for them exists.
pub fn create(hierarchies: &[Hierarchy], cgroup: &str, pod: &Pod, limits: &Limits) -> io::Result<()> {
    for hierarchy in hierarchies {
        if hierarchy.v2 {
            create_v2(hierarchy, cgroup, pod, limits)?;
        } else if ["cpu", "memory", "pids", "hugetlb"]
            .iter()
            .any(|wanted| hierarchy.controllers.iter().any(|c| c == wanted))
        {
            create_v1(hierarchy, cgroup, pod, limits)?;
        }
        if let Some(pids) = limits.pids {
            write_optional(&directory(hierarchy, cgroup), "pids.max", pids)?;
        }
        if let Some(bytes) = limits.memory_min {
            write_optional(&directory(hierarchy, cgroup), memory_qos::MIN, bytes)?;
        }
        bound_huge_pages(hierarchy, cgroup, &limits.huge_pages)?;
    }
    Ok(())
}

/// What is used, and what is reserved for use where the kernel counts that too.
fn bound_huge_pages(hierarchy: &Hierarchy, cgroup: &str, limits: &[(String, i64)]) -> io::Result<()> {
    let file = if hierarchy.v2 { "max" } else { "limit_in_bytes" };
    let directory = directory(hierarchy, cgroup);
    for (size, bytes) in limits {
        write_optional(&directory, &format!("hugetlb.{size}.{file}"), bytes)?;
        write_optional(&directory, &format!("hugetlb.{size}.rsvd.{file}"), bytes)?;
    }
    Ok(())
}

fn create_v1(hierarchy: &Hierarchy, cgroup: &str, pod: &Pod, limits: &Limits) -> io::Result<()> {
    let directory = directory(hierarchy, cgroup);
    std::fs::create_dir_all(&directory)?;
    for controller in &hierarchy.controllers {
        match controller.as_str() {
            "cpu" => {
                let shares = resources::cpu_shares(resources::pod_request(pod, "cpu"));
                write(&directory, "cpu.shares", shares)?;
                if let Some(quota) = limits.quota(pod) {
                    write(&directory, "cpu.cfs_period_us", CPU_PERIOD_US)?;
                    write(&directory, "cpu.cfs_quota_us", quota)?;
                }
            }
            "memory" => {
                if let Some(limit) = resources::pod_limit(pod, "memory") {
                    write(&directory, "memory.limit_in_bytes", limit / 1000)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn create_v2(hierarchy: &Hierarchy, cgroup: &str, pod: &Pod, limits: &Limits) -> io::Result<()> {
    let Some(current) = descend_v2(hierarchy, cgroup)? else { return Ok(()) };
    let shares = resources::cpu_shares(resources::pod_request(pod, "cpu"));
    write_optional(&current, "cpu.weight", resources::cpu_weight(shares))?;
    if let Some(quota) = limits.quota(pod) {
        write_optional(&current, "cpu.max", format!("{quota} {CPU_PERIOD_US}"))?;
    }
    if let Some(limit) = resources::pod_limit(pod, "memory") {
        write_optional(&current, "memory.max", limit / 1000)?;
    }
    Ok(())
}

/// Raises the pod's limits where it is to have more than it has, before its containers grow. What is to be less waits for
/// `create`, until they have shrunk: the kernel refuses a pod that has less than one of its containers.
pub fn grow(hierarchies: &[Hierarchy], cgroup: &str, pod: &Pod) -> io::Result<()> {
    let quota = resources::pod_limit(pod, "cpu").map(resources::cpu_quota);
    let bytes = resources::pod_limit(pod, "memory").map(|milli| milli / 1000);
    for hierarchy in hierarchies {
        let directory = directory(hierarchy, cgroup);
        let (cpu, memory, period) = match hierarchy.v2 {
            true => ("cpu.max", "memory.max", format!(" {CPU_PERIOD_US}")),
            false => ("cpu.cfs_quota_us", "memory.limit_in_bytes", String::new()),
        };
        for (file, wanted, rest) in [(cpu, quota, period), (memory, bytes, String::new())] {
            let Some(wanted) = wanted.filter(|wanted| has_less(&directory.join(file), *wanted)) else {
                continue;
            };
            write(&directory, file, format!("{wanted}{rest}"))?;
        }
    }
    Ok(())
}

/// Whether a file holds a smaller limit; one that is not there, or says that there is none, does not.
fn has_less(file: &Path, wanted: i64) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let present = text.split_whitespace().next().and_then(|word| word.parse::<i64>().ok());
    present.is_some_and(|present| (0..wanted).contains(&present))
}

/// Makes a cgroup of version 2 with every controller on its way; `None` where there are none.
fn descend_v2(hierarchy: &Hierarchy, cgroup: &str) -> io::Result<Option<PathBuf>> {
    let available = std::fs::read_to_string(hierarchy.mount.join("cgroup.controllers"))?;
    if available.trim().is_empty() {
        // Hybrid: the controllers are on v1, this hierarchy only groups processes, which the runtime sees to.
        return Ok(None);
    }
    let mut current = hierarchy.mount.clone();
    for part in Path::new(cgroup.trim_start_matches('/')).components() {
        for controller in available.split_whitespace() {
            // One that cannot be delegated here is simply not used by the pods.
            let _ = std::fs::write(current.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        current.push(part);
        match std::fs::create_dir(&current) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(Some(current))
}

/// Where a cgroup is in this hierarchy.
pub fn directory(hierarchy: &Hierarchy, cgroup: &str) -> PathBuf {
    hierarchy.mount.join(cgroup.trim_start_matches('/'))
}

fn write(directory: &Path, file: &str, value: impl ToString) -> io::Result<()> {
    let path = directory.join(file);
    std::fs::write(&path, value.to_string())
        .map_err(|error| io::Error::new(error.kind(), format!("write {}: {error}", path.display())))
}

fn write_optional(directory: &Path, file: &str, value: impl ToString) -> io::Result<()> {
    if directory.join(file).exists() { write(directory, file, value) } else { Ok(()) }
}

/// Removes a cgroup with everything below it, in every hierarchy; one that still holds processes is an error.
pub fn remove(hierarchies: &[Hierarchy], cgroup: &str) -> io::Result<()> {
    let mut result = Ok(());
    for hierarchy in hierarchies {
        let removed = remove_tree(&directory(hierarchy, cgroup));
        result = result.and(removed);
    }
    result
}

/// Removes a cgroup that nobody uses any more; one with others below it (of another instance) stays.
pub fn remove_if_empty(hierarchies: &[Hierarchy], cgroup: &str) {
    for hierarchy in hierarchies {
        drop(std::fs::remove_dir(directory(hierarchy, cgroup)));
    }
}

/// The pod cgroups that exist, by pod uid.
pub fn list(hierarchies: &[Hierarchy], root: &str) -> Vec<(String, String)> {
    let mut found = std::collections::BTreeMap::new();
    for hierarchy in hierarchies {
        for class in ["", "/burstable", "/besteffort"] {
            let parent = format!("{}{class}", parent(root));
            let entries = std::fs::read_dir(directory(hierarchy, &parent)).into_iter().flatten().flatten();
            for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
                if let Some(uid) = name.strip_prefix("pod") {
                    found.insert(uid.to_string(), format!("{parent}/{name}"));
                }
            }
        }
    }
    found.into_iter().collect()
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("rmdir {}: {error}", directory.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_grows_and_does_not_shrink() {
        let root = tempfile::tempdir().unwrap();
        let limits = serde_json::json!({"limits": {"cpu": "200m", "memory": "64Mi"}});
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": limits}]}}))
        .unwrap();
        for (v2, cpu, memory) in
            [(false, "cpu.cfs_quota_us", "memory.limit_in_bytes"), (true, "cpu.max", "memory.max")]
        {
            let mount = root.path().join(cpu);
            std::fs::create_dir_all(mount.join("p")).unwrap();
            let hierarchies = [Hierarchy { mount: mount.clone(), controllers: vec![], v2 }];
            let rest = if v2 { " 100000" } else { "" };
            for (before, after) in [
                (["10000", "1048576"], ["20000", "67108864"]),
                (["30000", "1048576"], ["30000", "67108864"]),
                (["-1", "99999999999"], ["-1", "99999999999"]),
                (["max", "max"], ["max", "max"]),
            ] {
                std::fs::write(mount.join("p").join(cpu), format!("{}{rest}", before[0])).unwrap();
                std::fs::write(mount.join("p").join(memory), before[1]).unwrap();
                grow(&hierarchies, "/p", &pod).unwrap();
                let read = |file| std::fs::read_to_string(mount.join("p").join(file)).unwrap();
                assert_eq!([read(cpu), read(memory)], [format!("{}{rest}", after[0]), after[1].to_owned()]);
            }
        }
    }

    #[test]
    fn a_pod_has_the_huge_pages_that_it_asks_for_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {"containers": []}})).unwrap();
        for (v2, file) in [(false, "limit_in_bytes"), (true, "max")] {
            let mount = root.path().join(file);
            std::fs::create_dir_all(mount.join("p")).unwrap();
            std::fs::write(mount.join("cgroup.controllers"), "hugetlb").unwrap();
            let files = [format!("hugetlb.2MB.{file}"), format!("hugetlb.2MB.rsvd.{file}")];
            files.iter().for_each(|file| std::fs::write(mount.join("p").join(file), "max").unwrap());
            let hierarchies = [Hierarchy { mount: mount.clone(), controllers: vec!["hugetlb".into()], v2 }];
            let huge_pages = vec![("2MB".to_owned(), 4 << 20), ("1GB".to_owned(), 0)];
            create(&hierarchies, "/p", &pod, &Limits { huge_pages, ..Limits::default() }).unwrap();
            for file in files {
                assert_eq!(std::fs::read_to_string(mount.join("p").join(file)).unwrap(), "4194304");
            }
            assert!(!mount.join(format!("p/hugetlb.1GB.{file}")).exists(), "the kernel counts none of these");
        }
    }

    #[test]
    fn hierarchies_of_a_hybrid_machine() {
        let table = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n\
                     cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                     cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\n\
                     cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = parse_hierarchies(table);
        assert_eq!(found.len(), 4);
        assert!(found[3].v2 && found[0].controllers == ["cpu", "cpuacct"]);
    }
}

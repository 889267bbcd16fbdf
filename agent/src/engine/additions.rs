//! What a single container may have beyond what CRI can say: file systems in memory, limits of its processes, the
//! size of its shared memory, groups by name, namespaces of others. Applied to a `config.json` that was made from CRI's words.

pub use knarr_runtime::spec::{BlockIo, DeviceRule, Mount, NamespaceKind, ThrottleDevice, WeightDevice};
use knarr_runtime::spec::{Cpu, Linux, Memory, Namespace, Pids, Resources, Rlimit, Spec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Additions {
    /// File systems in memory: where, and with which mount options.
    pub tmpfs: Vec<(String, Vec<String>)>,
    /// `nofile`, soft and hard limit.
    pub limits: Vec<(String, u64, u64)>,
    /// Further groups of the first process, by name or number.
    pub groups: Vec<String>,
    /// Most processes; -1 is any number.
    pub pids: Option<i64>,
    /// Bytes that the container is left with when memory is short.
    pub memory_reservation: Option<i64>,
    /// How willingly the kernel swaps it out, 0 to 100.
    pub swappiness: Option<u64>,
    /// Nothing below /proc and /sys is hidden or read-only.
    pub bare_system_paths: bool,
    /// Process 1 is a reaper that starts the command.
    pub init: bool,
    /// Namespaces that are not the pod's: that at a path, or this machine's where there is none.
    pub namespaces: Vec<(NamespaceKind, Option<String>)>,
    /// Which part of a volume is mounted at a place.
    pub sub_paths: BTreeMap<String, String>,
    /// In the place of those that go to the same places.
    pub mounts: Vec<Mount>,
    /// For the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Name of its own UTS namespace, where that is not the pod's.
    pub hostname: String,
    /// NIS name of its own UTS namespace.
    pub domainname: String,
    /// Weights and throttles of block devices.
    pub block_io: Option<BlockIo>,
    /// Devices that it may use though nobody made them for it.
    pub device_rules: Vec<DeviceRule>,
    /// Microseconds of each period for its processes that ask for real time, and that period.
    pub realtime: (Option<i64>, Option<u64>),
    /// It is not killed when it is out of memory; it waits for some.
    pub no_oom_kill: bool,
}

/// Where that program is in the container, and how its command line begins.
pub const INIT: [&str; 3] = ["/sbin/docker-init", "init", "--"];

/// What a tmpfs has unless its options say otherwise.
const TMPFS: [(&str, &str); 3] = [("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")];

/// Changes a specification; the groups have been looked up, and the program of the reaper.
pub(crate) fn apply(additions: &Additions, group_ids: &[u32], reaper: &Path, spec: &mut Spec) {
    if additions.init {
        begin_with_reaper(reaper, spec);
    }
    for (target, options) in &additions.tmpfs {
        place(spec, tmpfs(target, options));
    }
    for mount in &additions.mounts {
        place(spec, mount.clone());
    }
    if let Some(process) = spec.process.as_mut() {
        for (name, soft, hard) in &additions.limits {
            let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
            process.rlimits.retain(|known| known.kind != kind);
            process.rlimits.push(Rlimit { kind, hard: *hard, soft: *soft });
        }
        let groups = &mut process.user.additional_gids;
        let new: Vec<u32> = group_ids.iter().copied().filter(|id| !groups.contains(id)).collect();
        groups.extend(new);
    }
    spec.annotations.extend(additions.annotations.clone());
    if !additions.hostname.is_empty() {
        spec.hostname.clone_from(&additions.hostname);
    }
    if !additions.domainname.is_empty() {
        spec.domainname.clone_from(&additions.domainname);
    }
    if additions.namespaces.contains(&(NamespaceKind::Uts, None)) {
        // That name is not ours to change.
        spec.hostname.clear();
    }
    let Some(linux) = spec.linux.as_mut() else { return };
    limit(additions, linux.resources.get_or_insert_default());
    join(&additions.namespaces, linux);
    if additions.bare_system_paths {
        linux.masked_paths.clear();
        linux.readonly_paths.clear();
    }
}

fn join(namespaces: &[(NamespaceKind, Option<String>)], linux: &mut Linux) {
    for (kind, path) in namespaces {
        linux.namespaces.retain(|known| known.kind != *kind);
        linux.namespaces.extend(path.clone().map(|path| Namespace { kind: *kind, path }));
    }
}

fn begin_with_reaper(program: &Path, spec: &mut Spec) {
    let [place_of_it, ..] = INIT;
    place(
        spec,
        Mount {
            destination: place_of_it.to_owned(),
            fs_type: "bind".into(),
            source: program.display().to_string(),
            options: ["bind", "ro", "nosuid", "nodev"].map(str::to_owned).to_vec(),
            ..Mount::default()
        },
    );
    if let Some(process) = spec.process.as_mut() {
        process.args.splice(0..0, INIT.map(str::to_owned));
    }
}

/// What of it is a limit.
pub(crate) fn limit(additions: &Additions, resources: &mut Resources) {
    if additions.pids.is_some() {
        resources.pids = Some(Pids { limit: additions.pids });
    }
    resources.block_io = additions.block_io.clone().or(resources.block_io.take());
    resources.devices.extend(additions.device_rules.iter().cloned());
    if additions.realtime != (None, None) {
        let cpu: &mut Cpu = resources.cpu.get_or_insert_default();
        (cpu.realtime_runtime, cpu.realtime_period) = additions.realtime;
    }
    if additions.no_oom_kill {
        resources.memory.get_or_insert_default().disable_oom_killer = Some(true);
    }
    if additions.memory_reservation.is_some() || additions.swappiness.is_some() {
        let memory: &mut Memory = resources.memory.get_or_insert_default();
        memory.reservation = additions.memory_reservation.or(memory.reservation);
        memory.swappiness = additions.swappiness.or(memory.swappiness);
    }
}

fn tmpfs(target: &str, options: &[String]) -> Mount {
    let mut all: Vec<String> = TMPFS
        .iter()
        .filter(|(_, opposite)| !options.iter().any(|option| option == opposite))
        .map(|(option, _)| (*option).to_owned())
        .collect();
    all.extend(options.iter().cloned());
    Mount {
        destination: target.to_owned(),
        fs_type: "tmpfs".into(),
        source: "tmpfs".into(),
        options: all,
        ..Mount::default()
    }
}

/// Puts a mount in the place of the one that is there, and never over one below it.
fn place(spec: &mut Spec, mount: Mount) {
    let below = format!("{}/", mount.destination.trim_end_matches('/'));
    spec.mounts.retain(|known| known.destination.trim_end_matches('/') != below.trim_end_matches('/'));
    let first = spec.mounts.iter().position(|known| known.destination.starts_with(&below));
    spec.mounts.insert(first.unwrap_or(spec.mounts.len()), mount);
}

#[cfg(test)]
mod tests {
    use super::*;
    use knarr_runtime::spec::{Linux, Process};

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn spec() -> Spec {
        let mount = |destination: &str| Mount { destination: destination.into(), ..Mount::default() };
        Spec {
            process: Some(Process::default()),
            mounts: vec![mount("/proc"), mount("/dev/shm"), mount("/run/user/1")],
            linux: Some(Linux { masked_paths: words(&["/proc/kcore"]), ..Linux::default() }),
            ..Spec::default()
        }
    }

    #[test]
    fn a_file_system_in_memory_is_below_what_was_asked_for_in_it() {
        let mut spec = spec();
        let tmpfs = vec![("/run".to_owned(), words(&["exec", "size=1m"])), ("/tmp".to_owned(), Vec::new())];
        apply(&Additions { tmpfs, ..Additions::default() }, &[], Path::new("/m"), &mut spec);
        let places: Vec<&str> = spec.mounts.iter().map(|mount| mount.destination.as_str()).collect();
        assert_eq!(places, ["/proc", "/dev/shm", "/run", "/run/user/1", "/tmp"]);
        assert_eq!(spec.mounts[2].options, ["nosuid", "nodev", "exec", "size=1m"]);
    }

    #[test]
    fn a_reaper_stands_before_the_command() {
        let mut spec = spec();
        spec.process.as_mut().unwrap().args = words(&["sh"]);
        apply(&Additions { init: true, ..Additions::default() }, &[], Path::new("/m"), &mut spec);
        assert_eq!(spec.process.unwrap().args, ["/sbin/docker-init", "init", "--", "sh"]);
        let mount = spec.mounts.iter().find(|mount| mount.source == "/m").unwrap();
        assert_eq!(mount.destination, "/sbin/docker-init");
    }

    #[test]
    fn limits_and_groups() {
        let mut spec = spec();
        let additions = Additions {
            limits: vec![("nofile".into(), 1, 2)],
            pids: Some(5),
            bare_system_paths: true,
            ..Additions::default()
        };
        apply(&additions, &[7, 7], Path::new("/m"), &mut spec);
        let process = spec.process.unwrap();
        assert_eq!((process.rlimits[0].kind.as_str(), process.rlimits[0].soft), ("RLIMIT_NOFILE", 1));
        let linux = spec.linux.unwrap();
        assert_eq!(linux.resources.unwrap().pids.unwrap().limit, Some(5));
        assert!(linux.masked_paths.is_empty());
    }

    #[test]
    fn a_namespace_of_another_or_of_the_machine() {
        let mut spec = spec();
        spec.hostname = "own".into();
        let own = [NamespaceKind::Network, NamespaceKind::Uts, NamespaceKind::Pid];
        spec.linux.as_mut().unwrap().namespaces =
            own.map(|kind| Namespace { kind, path: "/own".into() }).to_vec();
        let namespaces = vec![(NamespaceKind::Network, Some("/other".into())), (NamespaceKind::Uts, None)];
        apply(&Additions { namespaces, ..Additions::default() }, &[], Path::new("/m"), &mut spec);
        let found: Vec<_> =
            spec.linux.unwrap().namespaces.into_iter().map(|known| (known.kind, known.path)).collect();
        assert_eq!(found, [(NamespaceKind::Pid, "/own".into()), (NamespaceKind::Network, "/other".into())]);
        assert_eq!(spec.hostname, "");
    }
}

//! Each step as a person reads it: the kernel operation and why it is done.

use super::{HookKind, Side, Step};
use crate::mounts::{MountPlan, Source, long_options};
use serde::Serialize;

/// A step in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Description {
    /// Who does it.
    pub(crate) side: Side,
    /// The step's name.
    pub(crate) step: &'static str,
    /// The kernel operation with its arguments.
    pub(crate) operation: String,
    /// The field that asks for it, or what it prevents.
    pub(crate) reason: &'static str,
}

impl Step {
    /// In words.
    pub(crate) fn description(&self) -> Description {
        let (step, reason) = self.name_and_reason();
        Description { side: self.side(), step, operation: self.operation(), reason }
    }

    /// The step's name alone.
    pub(crate) fn name(&self) -> &'static str {
        self.name_and_reason().0
    }

    fn operation(&self) -> String {
        match self {
            Step::CreateCgroups => "mkdir(<cgroup>), cgroup.subtree_control".into(),
            Step::CreateUnifiedCgroup => "mkdir(<cgroup of version 2>)".into(),
            Step::LimitCgroups(writes) => {
                let each: Vec<String> = writes.iter().map(|w| format!("{}={:?}", w.file, w.value)).collect();
                format!("write {}", each.join(" "))
            }
            Step::FilterDevices(rules) => {
                format!("bpf(BPF_PROG_LOAD, BPF_PROG_ATTACH) {} rules", rules.len())
            }
            Step::PrepareMounts => {
                "open_tree(<source>, OPEN_TREE_CLONE), mount_setattr(MOUNT_ATTR_IDMAP)".into()
            }
            Step::Clone { flags, into_cgroup } => {
                format!(
                    "clone3({}{})",
                    flag_names(*flags),
                    if *into_cgroup { "CLONE_INTO_CGROUP|CLONE_PIDFD" } else { "CLONE_PIDFD" }
                )
            }
            Step::FirstCpus(cpus) => {
                format!("sched_setaffinity(0, {cpus:?}), affinity: 0x{}", hexadecimal(cpus))
            }
            Step::StartScope(_) => "StartTransientUnit(<scope>, PIDs=[PID])".into(),
            Step::EnterResctrl(group) => format!("write PID to {:?}", group.directory.join("tasks")),
            Step::MapIds => "write /proc/PID/gid_map, /proc/PID/uid_map".into(),
            Step::OpenCgroups => "open(<cgroup>/tasks) in every hierarchy".into(),
            Step::NewNetwork => "unshare(CLONE_NEWNET)".into(),
            Step::EnterPidNamespace { .. } => "setns(<pidfd of init>, CLONE_NEWPID)".into(),
            Step::LimitProcess(limits) => {
                let each: Vec<String> =
                    limits.iter().map(|l| format!("{}={}:{}", l.kind, l.soft, l.hard)).collect();
                format!("prlimit(PID, {})", each.join(" "))
            }
            Step::OomScore(score) => format!("write /proc/PID/oom_score_adj {score}"),
            Step::MoveNetDevice { from, to } => format!("RTM_NEWLINK {from:?} -> netns, name {to:?}"),
            Step::Hooks(kind) => format!("run hooks {}", kind.name()),
            other => other.operation_of_init(),
        }
    }

    fn operation_of_init(&self) -> String {
        match self {
            Step::EnterCgroups => "write(<tasks>, \"0\") in every hierarchy".into(),
            Step::JoinContainer { flags } => format!("setns(<pidfd of init>, {})", flag_names(*flags)),
            Step::JoinNamespace { kind, path } => format!("setns({:?}, {kind:?})", path.display()),
            Step::Keyring(name) => format!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {name:?})"),
            Step::DetachFromHost(change) => {
                format!("mount(NULL, \"/\", NULL, {}, NULL)", propagation(change))
            }
            Step::OpenRoot { path, slave } => format!(
                "open_tree({:?}, OPEN_TREE_CLONE|AT_RECURSIVE), mount_setattr({}), move_mount(onto itself)",
                path.display(),
                if *slave { "MS_SLAVE" } else { "MS_PRIVATE" }
            ),
            Step::OpenHostedRoot(path) => {
                format!(
                    "open_tree({:?}, OPEN_TREE_CLONE|AT_RECURSIVE), move_mount(onto itself), private",
                    path.display()
                )
            }
            Step::EnterRoot => "fchdir(/proc/<init>/root), chroot(\".\"), chdir(\"/\")".into(),
            Step::Mount(plan) => mount(plan),
            Step::OpenJoinedRoot => "open(\"/\", O_PATH)".into(),
            Step::Unmount(path) => format!("umount2({:?}, MNT_DETACH)", path.display()),
            Step::NullStdio => "open(\"/dev/null\"), dup2 where 0, 1, 2 are the host's".into(),
            Step::Finish => "_exit(0)".into(),
            Step::MakeWorkingDirectory(path) => {
                format!("mkdirat(<rootfs>, {:?}) where it is missing", path.display())
            }
            Step::Device(d) if d.bind => format!("bind {:?} of the host", d.path.display()),
            Step::Device(d) => {
                format!("mknodat({:?}, {} {}:{}, {:o})", d.path.display(), d.kind, d.major, d.minor, d.mode)
            }
            Step::Link { path, target } => format!("symlinkat({target:?}, {:?})", path.display()),
            Step::RootPropagation(change) => {
                format!("mount(NULL, \"/\", NULL, {}, NULL)", propagation(change))
            }
            Step::Console { width, height } => {
                format!("open(ptmx), TIOCGPTPEER, TIOCSCTTY, TIOCSWINSZ {width}x{height}")
            }
            Step::LoopbackUp => "netlink RTM_NEWLINK(lo, IFF_UP)".into(),
            Step::Hostname(name) => format!("sethostname({name:?})"),
            Step::Domainname(name) => format!("setdomainname({name:?})"),
            Step::Sysctl { name, value } => format!("write /proc/sys {name} = {value:?}"),
            Step::ReadonlyPath(path) => {
                format!("open_tree, mount_setattr(RDONLY), move_mount({:?})", path.display())
            }
            Step::MaskPaths(paths) => format!("move_mount(/dev/null or empty tmpfs) onto {}", join(paths)),
            Step::AllCpus => "sched_setaffinity(0, all)".into(),
            Step::EndOnSignals => {
                "sigaction(SIGHUP, SIGINT, SIGQUIT, SIGTERM), handler _exit(128 + n)".into()
            }
            Step::Cpus(cpus) => format!("sched_setaffinity(0, {cpus:?})"),
            Step::Label(label) => format!("write /proc/self/attr/exec {label:?}"),
            Step::Umask(mask) => format!("umask({mask:03o})"),
            Step::Personality(value) => format!("personality({value:#x})"),
            Step::Scheduler(plan) => format!("sched_setattr(0, {plan:?})"),
            Step::IoPriority(plan) => format!("ioprio_set({plan:?})"),
            Step::MemoryPolicy(plan) => format!("set_mempolicy({plan:?})"),
            Step::Seccomp(plan) => format!(
                "seccomp(SECCOMP_SET_MODE_FILTER, {:#x}, {} instructions)",
                plan.flags,
                plan.program.len()
            ),
            Step::LimitSelf(limits) => format!("prlimit(0, {})", limit_list(limits)),
            Step::Bounding(sets) => format!("prctl(PR_CAPBSET_DROP) all but {:#x}", sets.bounding),
            Step::BecomeUser(user) => {
                format!("setgroups({:?}), setresgid({}), setresuid({})", user.groups, user.gid, user.uid)
            }
            Step::WorkingDirectory(path) => format!("chdir({:?}), getcwd", path.display()),
            Step::Capabilities(c) => format!(
                "capset(effective={:#x}, permitted={:#x}, inheritable={:#x}), ambient={:#x}",
                c.effective, c.permitted, c.inheritable, c.ambient
            ),
            Step::CloseFds { first } => {
                format!("close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)")
            }
            Step::FreshSignals => "sigaction(1..64, SIG_DFL), sigprocmask(SIG_SETMASK, [])".into(),
            Step::Execute(process) => format!("execve({:?})", process.args),
            other => other.operation_without_arguments(),
        }
    }

    fn operation_without_arguments(&self) -> String {
        match self {
            Step::NewSession => "setsid()".into(),
            Step::CgroupNamespace => "unshare(CLONE_NEWCGROUP)".into(),
            Step::BecomeRoot => "setresgid(0), setresuid(0), setgroups([])".into(),
            Step::PivotRoot => "pivot_root(\".\", \".\"), umount2(<old root>, MNT_DETACH)".into(),
            Step::MoveRoot => "mount(\".\", \"/\", MS_MOVE), chroot(\".\")".into(),
            Step::ChangeRoot => "fchdir(<rootfs>), chroot(\".\"), chdir(\"/\")".into(),
            Step::ReadonlyRoot => "mount_setattr(\"/\", RDONLY)".into(),
            Step::ReadonlyMount(path) => format!("mount_setattr({:?}, RDONLY)", path.display()),
            Step::Dumpable => "prctl(PR_SET_DUMPABLE, 1)".into(),
            Step::NoNewPrivileges => "prctl(PR_SET_NO_NEW_PRIVS, 1)".into(),
            Step::StdioOwner(uid) => format!("fchown(0, 1, 2, {uid}) where they are another's"),
            Step::FindProgram => "fstatat, faccessat along $PATH".into(),
            other => other.name_and_reason().0.to_string(),
        }
    }

    fn name_and_reason(&self) -> (&'static str, &'static str) {
        match self {
            Step::CreateCgroups => (
                "create cgroups",
                "linux.cgroupsPath: what the container uses is counted and can be found again",
            ),
            Step::CreateUnifiedCgroup => {
                ("create unified cgroup", "linux.cgroupsPath: the only one that must be there for the clone")
            }
            Step::LimitCgroups(_) => {
                ("limit cgroups", "linux.resources: in force before the first process enters")
            }
            Step::FilterDevices(_) => ("filter devices", "linux.resources.devices: cgroup v2 asks a program"),
            Step::PrepareMounts => ("prepare mounts", "sources that init, in a user namespace, may not open"),
            Step::Clone { .. } => {
                ("clone", "linux.namespaces: one call, and on v2 no write to cgroup.procs ever")
            }
            Step::FirstCpus(_) => {
                ("first cpus", "process.execCPUAffinity.initial: until the cgroup is entered")
            }
            Step::StartScope(_) => {
                ("start scope", "--systemd-cgroup: systemd makes the cgroup, so it and we agree about it")
            }
            Step::EnterResctrl(_) => {
                ("enter resctrl group", "linux.intelRdt: a share of the cache and of memory bandwidth")
            }
            Step::MapIds => ("map ids", "linux.uidMappings, gidMappings: who root is outside"),
            Step::OpenCgroups => ("open cgroups", "cgroup v1: by the runtime, whose rights to them count"),
            Step::EnterPidNamespace { .. } => {
                ("enter pid namespace", "for children only: the next clone is in it")
            }
            Step::LimitProcess(_) => {
                ("limit process", "process.rlimits: after init's own work, which they could hinder")
            }
            Step::OomScore(_) => ("oom score", "process.oomScoreAdj"),
            Step::MoveNetDevice { .. } => ("move network device", "linux.netDevices"),
            Step::Release => ("release init", "it may rely on its cgroups, ids and devices now"),
            Step::AwaitInit => ("await init", "its error, if any, is the command's error"),
            Step::Hooks(kind) => ("hooks", hook_reason(*kind)),
            Step::JoinContainer { .. } => (
                "join container",
                "all namespaces at once, by the pidfd of a process that cannot be replaced",
            ),
            Step::JoinNamespace { .. } => ("join namespace", "linux.namespaces[].path"),
            Step::NewNetwork => (
                "new network",
                "linux.namespaces: by init, as it takes as long as making the version 1 cgroups does",
            ),
            Step::EnterCgroups => (
                "enter cgroups",
                "cgroup v1: a thread that moves itself need not wait for the quiet of all CPUs",
            ),
            Step::AwaitRelease => {
                ("await release", "cgroups, ids and network devices are made and given from outside")
            }
            Step::BecomeRoot => {
                ("become root", "of the user namespace: everything from here on is done with its rights only")
            }
            Step::NewSession => {
                ("new session", "no controlling terminal of the caller to push keystrokes into")
            }
            Step::CgroupNamespace => {
                ("cgroup namespace", "made here: its root is the cgroup of whoever makes it")
            }
            Step::Keyring(_) => ("keyring", "keys of the caller's session stay out of reach"),
            Step::DetachFromHost(_) => ("detach from host", "mounts made here must not appear outside"),
            Step::OpenHostedRoot(_) => (
                "open hosted root",
                "root.path, without a mount namespace: one mount to take off again holds all of the container's",
            ),
            Step::OpenRoot { .. } => {
                ("open root", "root.path: opened once; every path inside is resolved from this descriptor")
            }
            _ => self.name_and_reason_inside(),
        }
    }

    fn name_and_reason_inside(&self) -> (&'static str, &'static str) {
        match self {
            Step::Mount(_) => (
                "mount",
                "mounts[]: made detached, moved onto a descriptor found beneath the root (CVE-2021-30465)",
            ),
            Step::EnterRoot => (
                "enter root",
                "there is no mount namespace to bring it: the container's init was moved to it",
            ),
            Step::OpenJoinedRoot => {
                ("open joined root", "opened once; every path inside is resolved from this descriptor")
            }
            Step::Unmount(_) => ("unmount", "mounts remove: by name in a directory found beneath the root"),
            Step::NullStdio => {
                ("null stdio", "a descriptor of a mount outside could not be restored from a checkpoint")
            }
            Step::Finish => ("finish", "the helper has done its work"),
            Step::MakeWorkingDirectory(_) => {
                ("make working directory", "process.cwd need not exist in the image")
            }
            Step::Device(_) => {
                ("device", "linux.devices and the default ones: made on a descriptor of the directory")
            }
            Step::Link { .. } => ("link", "every container has these"),
            Step::AwaitHooks => {
                ("await hooks", "hooks of the runtime see the namespaces before the root is swapped")
            }
            Step::PivotRoot => ("pivot root", "the host's root is unmounted, not only hidden"),
            Step::MoveRoot => ("move root", "--no-pivot: for a root on a ramdisk"),
            Step::ChangeRoot => (
                "change root",
                "without a mount namespace there is nothing to pivot: the mounts are the host's",
            ),
            Step::RootPropagation(_) => ("root propagation", "linux.rootfsPropagation"),
            Step::Console { .. } => (
                "console",
                "process.terminal: the slave comes from the master, never from a name (CVE-2025-52565)",
            ),
            Step::LoopbackUp => (
                "loopback",
                "linux.namespaces: a new network has no device that is up, and 127.0.0.1 is the least that programs expect",
            ),
            Step::Hostname(_) => ("host name", "hostname"),
            Step::Domainname(_) => ("domain name", "domainname"),
            Step::Sysctl { .. } => {
                ("sysctl", "linux.sysctl: written through the real procfs (CVE-2025-52881)")
            }
            Step::ReadonlyPath(_) => ("read-only path", "linux.readonlyPaths"),
            Step::MaskPaths(_) => (
                "mask paths",
                "linux.maskedPaths: with the host's null device, checked by inode (CVE-2025-31133)",
            ),
            Step::ReadonlyMount(_) => {
                ("read-only mount", "mounts[]: other mounts and devices had to be made in it first")
            }
            Step::ReadonlyRoot => ("read-only root", "root.readonly"),
            _ => self.name_and_reason_of_program(),
        }
    }

    fn name_and_reason_of_program(&self) -> (&'static str, &'static str) {
        match self {
            Step::NoNewPrivileges => {
                ("no new privileges", "process.noNewPrivileges: set-user-id programs gain nothing")
            }
            Step::Scheduler(_) => ("scheduler", "process.scheduler"),
            Step::IoPriority(_) => ("io priority", "process.ioPriority"),
            Step::MemoryPolicy(_) => ("memory policy", "linux.memoryPolicy"),
            Step::Personality(_) => ("personality", "linux.personality"),
            Step::AllCpus => {
                ("all cpus", "its cgroup says where it runs, not the mask its caller happened to have")
            }
            Step::EndOnSignals => (
                "end on signals",
                "while it waits for start: the kernel spares the first process of a pid namespace what it has no handler for",
            ),
            Step::Cpus(_) => ("cpus", "process.execCPUAffinity.final"),
            Step::Label(_) => {
                ("label", "process.apparmorProfile, selinuxLabel: through the host's procfs (CVE-2019-16884)")
            }
            Step::Umask(_) => ("umask", "process.user.umask"),
            Step::Seccomp(_) => ("seccomp", "linux.seccomp: as late as the rights it needs allow"),
            Step::Bounding(_) => {
                ("bounding set", "process.capabilities.bounding: what no program can ever regain")
            }
            Step::StdioOwner(_) => {
                ("stdio owner", "the user may open its own standard input and outputs again")
            }
            Step::BecomeUser(_) => ("become user", "process.user"),
            Step::WorkingDirectory(_) => {
                ("working directory", "process.cwd: checked to be inside the root (CVE-2024-21626)")
            }
            Step::Capabilities(_) => ("capabilities", "process.capabilities: the other four sets"),
            Step::FindProgram => ("find program", "a missing program is create's error"),
            Step::Dumpable => (
                "dumpable",
                "an ordinary user may reach its own init: exec before `start`, the listener of a filter",
            ),
            Step::Ready => ("ready", "everything but the program itself has happened"),
            Step::AwaitStart => ("await start", "exec.fifo: until `start`"),
            Step::CloseFds { .. } => {
                ("close descriptors", "nothing of the host leaks, whoever opened it (CVE-2024-21626)")
            }
            Step::FreshSignals => ("fresh signals", "those that we ignore or block would be inherited"),
            Step::Execute(_) => ("execute", "process.args"),
            _ => ("step", ""),
        }
    }
}

fn hook_reason(kind: HookKind) -> &'static str {
    match kind {
        HookKind::Prestart => "hooks.prestart: in the runtime's namespaces",
        HookKind::CreateRuntime => "hooks.createRuntime: in the runtime's namespaces",
        HookKind::CreateContainer => {
            "hooks.createContainer: in the container's namespaces, with the host's files"
        }
        HookKind::StartContainer => "hooks.startContainer: in the container, before its program",
        HookKind::Poststart => "hooks.poststart",
        HookKind::Poststop => "hooks.poststop",
    }
}

fn mount(plan: &MountPlan) -> String {
    let destination = plan.destination.display();
    let attributes = attribute_names(plan.attributes);
    match &plan.source {
        Source::Bind { path, recursive, .. } => {
            let deep = if *recursive { "|AT_RECURSIVE" } else { "" };
            let place = match &plan.source_inside {
                Some(inside) => format!("<rootfs>, {:?}", inside.display().to_string()),
                None => format!("{:?}", path.display().to_string()),
            };
            format!(
                "open_tree({place}, OPEN_TREE_CLONE{deep}), mount_setattr({attributes}), move_mount({:?})",
                destination.to_string()
            )
        }
        Source::New { fs_type, data, .. } if long_options::are_in(data) => format!(
            "mount({fs_type:?}, {data:?}), open_tree(OPEN_TREE_CLONE), mount_setattr({attributes}), move_mount({:?})",
            destination.to_string()
        ),
        Source::New { fs_type, data, .. } => {
            format!(
                "fsopen({fs_type:?}), fsconfig({data:?}), fsmount({attributes}), move_mount({:?})",
                destination.to_string()
            )
        }
        Source::Cgroup => format!(
            "mount the container's view of its cgroups at {:?}, {attributes}",
            destination.to_string()
        ),
    }
}

/// The set as the kernel writes it, of any size and without leading zeros.
fn hexadecimal(cpus: &[usize]) -> String {
    let mut digits = vec![0_u8; cpus.iter().max().map_or(1, |last| last / 4 + 1)];
    for cpu in cpus {
        if let Some(digit) = digits.get_mut(cpu / 4) {
            *digit |= 1 << (cpu % 4);
        }
    }
    digits.iter().rev().map(|digit| format!("{digit:x}")).collect()
}

/// By the kernel's names without their prefix; what is only cleared has a minus.
fn attribute_names(attributes: crate::mounts::Attributes) -> String {
    use knarr_sys::mount::attr;
    let names = [
        (attr::RDONLY, "RDONLY"),
        (attr::NOSUID, "NOSUID"),
        (attr::NODEV, "NODEV"),
        (attr::NOEXEC, "NOEXEC"),
        (attr::NODIRATIME, "NODIRATIME"),
        (attr::NOSYMFOLLOW, "NOSYMFOLLOW"),
    ];
    let word = |sign: &'static str, bits: u64| {
        names.iter().filter(move |(bit, _)| bits & bit != 0).map(move |(_, name)| format!("{sign}{name}"))
    };
    let mut found: Vec<String> = word("", attributes.set).chain(word("-", attributes.clear)).collect();
    // One field of the mount with three values; its zero is told by what is cleared.
    match attributes.set & attr::ATIME_MASK {
        attr::NOATIME => found.push("NOATIME".into()),
        attr::STRICTATIME => found.push("STRICTATIME".into()),
        _ if attributes.clear & attr::ATIME_MASK != 0 => found.push("RELATIME".into()),
        _ => {}
    }
    if found.is_empty() { "0".into() } else { found.join("|") }
}

fn propagation(change: &crate::mounts::Propagation) -> String {
    let names = [
        (libc::MS_SHARED, "MS_SHARED"),
        (libc::MS_SLAVE, "MS_SLAVE"),
        (libc::MS_PRIVATE, "MS_PRIVATE"),
        (libc::MS_UNBINDABLE, "MS_UNBINDABLE"),
    ];
    let name = names.iter().find(|(flag, _)| *flag == change.flag).map_or("?", |(_, name)| name);
    if change.recursive { format!("MS_REC|{name}") } else { name.into() }
}

fn flag_names(flags: u64) -> String {
    use knarr_sys::namespace::Kind;
    let kinds = [
        (Kind::User, "CLONE_NEWUSER"),
        (Kind::Pid, "CLONE_NEWPID"),
        (Kind::Mount, "CLONE_NEWNS"),
        (Kind::Network, "CLONE_NEWNET"),
        (Kind::Ipc, "CLONE_NEWIPC"),
        (Kind::Uts, "CLONE_NEWUTS"),
        (Kind::Cgroup, "CLONE_NEWCGROUP"),
        (Kind::Time, "CLONE_NEWTIME"),
    ];
    kinds
        .iter()
        .filter(|(kind, _)| flags & kind.clone_flag() != 0)
        .map(|(_, name)| format!("{name}|"))
        .collect()
}

fn limit_list(limits: &[crate::rlimits::Limit]) -> String {
    limits.iter().map(|l| format!("{}={}:{}", l.kind, l.soft, l.hard)).collect::<Vec<_>>().join(" ")
}

fn join(paths: &[std::path::PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_cpus_are_numbers_of_any_size() {
        for (cpus, text) in [
            (vec![], "0"),
            (vec![0], "1"),
            (vec![1, 3], "a"),
            (vec![4, 5], "30"),
            (vec![131], "800000000000000000000000000000000"),
        ] {
            assert_eq!(hexadecimal(&cpus), text);
        }
    }
}

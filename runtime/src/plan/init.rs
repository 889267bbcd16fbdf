//! What init does, from its first instruction to the container's program: the list reads in the order the kernel needs.

use super::{HookKind, Host, Options, Plan, ProcessPlan, Step, rootfs};
use crate::error::{Error, Result};
use crate::mounts::Propagation;
use crate::mounts::options as mount_options;
use crate::safe_path::clean;
use crate::scheduling;
use crate::seccomp;
use crate::spec::{Linux, NamespaceKind, Process, Spec};
use crate::sysctl;
use std::path::Path;

pub(super) fn steps(
    spec: &Spec,
    linux: &Linux,
    process: &ProcessPlan,
    (options, host): (&Options, &Host),
    plan: &mut Plan,
) -> Result<Vec<Step>> {
    let given = spec.process.clone().unwrap_or_default();
    let mut steps = enter(linux, plan, options);
    steps.extend(build_root(spec, linux, process, (options, host), plan)?);
    let late = late_read_only(&steps);
    steps.extend(leave_host(linux, options, plan)?);
    steps.extend(settle(spec, linux, &given, process, plan)?);
    // The console is the last thing that is made in one of them.
    steps.extend(late);
    let (early, late) = filter(&given, linux)?;
    let reachable = |wanted: bool| (wanted && alone_with_user(options, plan)).then_some(Step::Dumpable);
    let early = reachable(has_listener(early.as_ref())).into_iter().chain(early);
    steps.extend(become_program(&given, process, linux, early, plan.namespaces.any_user())?);
    steps.push(Step::FindProgram);
    steps.extend(reachable(options.wait_for_start || has_listener(late.as_ref())));
    steps.extend(late);
    steps.push(Step::Ready);
    if options.wait_for_start {
        steps.push(Step::AwaitStart);
    }
    steps.extend(hooks(&plan.hooks, HookKind::StartContainer));
    steps.push(Step::FreshSignals);
    steps.push(Step::Execute(Box::new(process.clone())));
    Ok(steps)
}

/// Whether nobody but an ordinary user's own init is in the container. Such a user may then reach into it, to exec while it
/// waits for `start` or to take the listener of its filter, which the kernel forbids since the ids changed.
fn alone_with_user(options: &Options, plan: &Plan) -> bool {
    let new = |kind| plan.namespaces.new.contains(&kind);
    options.rootless && new(NamespaceKind::User) && new(NamespaceKind::Pid)
}

fn has_listener(filter: Option<&Step>) -> bool {
    matches!(filter, Some(Step::Seccomp(plan)) if plan.listener.is_some())
}

/// Into the cgroups and the namespaces that the clone could not give.
fn enter(linux: &Linux, plan: &Plan, options: &Options) -> Vec<Step> {
    let namespaces = &plan.namespaces;
    let mut steps = Vec::new();
    let beside = super::network_beside_cgroups(linux, plan);
    steps.extend((!plan.cgroups.unified && !beside).then_some(Step::EnterCgroups));
    steps.extend(beside.then_some([Step::NewNetwork, Step::LoopbackUp]).into_iter().flatten());
    steps.extend(super::needs_release(linux, plan).then_some(Step::AwaitRelease));
    steps.extend(beside.then_some(Step::EnterCgroups));
    // With a new user namespace nothing may be done before ids are mapped.
    steps.extend(namespaces.any_user().then_some(Step::BecomeRoot));
    steps.extend(namespaces.new.contains(&NamespaceKind::Cgroup).then_some(Step::CgroupNamespace));
    if !namespaces.needs_stage() {
        let later = namespaces.join.iter().filter(|join| join.kind != NamespaceKind::Pid);
        steps.extend(later.map(|join| Step::JoinNamespace { kind: join.kind, path: join.path.clone() }));
    }
    steps.push(Step::AllCpus);
    steps.extend(options.wait_for_start.then_some(Step::EndOnSignals));
    steps.push(Step::NewSession);
    if !options.no_new_keyring {
        steps.push(Step::Keyring(format!("_ses.{}", options.id)));
    }
    steps
}

fn build_root(
    spec: &Spec,
    linux: &Linux,
    process: &ProcessPlan,
    (options, host): (&Options, &Host),
    plan: &mut Plan,
) -> Result<Vec<Step>> {
    let mut steps = match plan.namespaces.has(NamespaceKind::Mount) {
        true => vec![
            Step::DetachFromHost(
                root_propagation(linux)?.unwrap_or(Propagation { flag: libc::MS_SLAVE, recursive: true }),
            ),
            Step::OpenRoot { path: plan.rootfs.clone(), slave: is_slave(linux)? },
        ],
        false => vec![Step::OpenHostedRoot(plan.rootfs.clone())],
    };
    let mut prepared = std::mem::take(&mut plan.prepared);
    let mounts = rootfs::mounts(spec, options, &plan.namespaces, &mut prepared)?;
    plan.prepared = prepared;
    steps.extend(mounts);
    steps.push(Step::MakeWorkingDirectory(process.cwd.clone()));
    steps.extend(rootfs::devices(spec, linux, &plan.namespaces, host.kcore)?);
    Ok(steps)
}

fn root_propagation(linux: &Linux) -> Result<Option<Propagation>> {
    let word = linux.rootfs_propagation.as_str();
    if word.is_empty() {
        return Ok(None);
    }
    let wrong = || Error::invalid(format!("linux.rootfsPropagation: {word:?} is not valid"));
    mount_options::root_propagation(word).map(Some).ok_or_else(wrong)
}

/// What is mounted on the host below the root, once the container has begun, appears in it.
fn is_slave(linux: &Linux) -> Result<bool> {
    Ok(root_propagation(linux)?.is_some_and(|change| change.flag == libc::MS_SLAVE))
}

/// The last view of the host.
fn leave_host(linux: &Linux, options: &Options, plan: &Plan) -> Result<Vec<Step>> {
    let hooks = &plan.hooks;
    let mut steps = Vec::new();
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        steps.push(Step::AwaitHooks);
    }
    steps.extend(self::hooks(hooks, HookKind::CreateContainer));
    // Before the swap, while the host's null device is still mounted where it can be copied from.
    // A relative one begins at the container's root, where runc stands when it does this.
    steps.extend(linux.readonly_paths.iter().map(|path| Step::ReadonlyPath(clean(path))));
    let mut masked = absolute("maskedPaths", &linux.masked_paths)?;
    let mut seen = std::collections::BTreeSet::new();
    masked.retain(|path| seen.insert(path.clone()));
    steps.extend((!masked.is_empty()).then_some(Step::MaskPaths(masked)));
    steps.push(match plan.namespaces.has(NamespaceKind::Mount) {
        false => Step::ChangeRoot,
        true if options.no_pivot => Step::MoveRoot,
        true => Step::PivotRoot,
    });
    // Built private or slave it is so already, and what is mounted in it keeps what was asked for it.
    let done = libc::MS_PRIVATE | libc::MS_SLAVE;
    let propagation = root_propagation(linux)?.filter(|change| change.flag & done == 0);
    steps.extend(propagation.map(Step::RootPropagation));
    Ok(steps)
}

fn hooks(hooks: &crate::spec::Hooks, kind: HookKind) -> Option<Step> {
    (!kind.of(hooks).is_empty()).then_some(Step::Hooks(kind))
}

/// What is set once the root is the container's.
fn settle(
    spec: &Spec,
    linux: &Linux,
    given: &Process,
    process: &ProcessPlan,
    plan: &Plan,
) -> Result<Vec<Step>> {
    let mut steps = vec![Step::NullStdio];
    if process.terminal {
        let size = given.console_size.clone().unwrap_or_default();
        steps.push(Step::Console { width: size.width, height: size.height });
    }
    let network = plan.namespaces.new.contains(&NamespaceKind::Network);
    let network = network && !super::network_beside_cgroups(linux, plan);
    steps.extend(network.then_some(Step::LoopbackUp));
    steps.extend((!spec.hostname.is_empty()).then(|| Step::Hostname(spec.hostname.clone())));
    steps.extend((!spec.domainname.is_empty()).then(|| Step::Domainname(spec.domainname.clone())));
    for (name, value) in &linux.sysctl {
        sysctl::check(name, &plan.namespaces, !spec.hostname.is_empty())?;
        steps.push(Step::Sysctl { name: name.clone(), value: value.clone() });
    }
    steps.extend(spec.root.as_ref().is_some_and(|root| root.readonly).then_some(Step::ReadonlyRoot));
    Ok(steps)
}

/// Mounts that had to be filled first.
fn late_read_only(steps: &[Step]) -> Vec<Step> {
    let filled = |step: &Step| match step {
        Step::Mount(plan) if plan.read_only_later => Some(Step::ReadonlyMount(plan.destination.clone())),
        _ => None,
    };
    steps.iter().filter_map(filled).collect()
}

fn absolute(field: &str, paths: &[String]) -> Result<Vec<std::path::PathBuf>> {
    let check = |(index, path): (usize, &String)| match Path::new(path).is_absolute() {
        true => Ok(clean(path)),
        false => Err(Error::invalid(format!("linux.{field}[{index}]: {path:?} is not absolute"))),
    };
    paths.iter().enumerate().map(check).collect()
}

/// Giving up rights, in the only order in which each step still has the right it needs.
pub(super) fn become_program(
    given: &Process,
    process: &ProcessPlan,
    linux: &Linux,
    filter: impl IntoIterator<Item = Step>,
    user_namespace: bool,
) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = process.labels.iter().cloned().map(Step::Label).collect();
    steps.extend(given.no_new_privileges.then_some(Step::NoNewPrivileges));
    let some_cpus =
        linux.resources.as_ref().and_then(|r| r.cpu.as_ref()).is_some_and(|cpu| !cpu.cpus.is_empty());
    let scheduler = given.scheduler.as_ref().map(|given| scheduling::scheduler(given, some_cpus));
    steps.extend(scheduler.transpose()?.map(Step::Scheduler));
    steps.extend(given.io_priority.as_ref().map(scheduling::io_priority).transpose()?.map(Step::IoPriority));
    steps.extend(
        linux.memory_policy.as_ref().map(scheduling::memory_policy).transpose()?.map(Step::MemoryPolicy),
    );
    steps.extend(linux.personality.as_ref().map(scheduling::personality).transpose()?.map(Step::Personality));
    steps.push(Step::Umask(process.umask));
    // Before the filter: profiles older than close_range (Linux 5.9) refuse it. What we open from here on is ours to close.
    steps.push(Step::CloseFds { first: 3 + process.preserve_fds });
    steps.extend(filter);
    // In a user namespace nobody may raise a limit: the runtime does it from outside.
    let limits = (!user_namespace && !process.rlimits.is_empty()).then(|| process.rlimits.clone());
    steps.extend(limits.map(Step::LimitSelf));
    steps.push(Step::Bounding(process.capabilities));
    steps.push(Step::StdioOwner(process.user.uid));
    steps.push(Step::BecomeUser(process.user.clone()));
    steps.push(Step::WorkingDirectory(process.cwd.clone()));
    steps.push(Step::Capabilities(process.capabilities));
    Ok(steps)
}

/// The filter where it is loaded: with no_new_privs anybody may load one, so it is the very last step and need not allow
/// what comes before; else (the first place) it takes CAP_SYS_ADMIN, which is about to go.
pub(super) fn filter(given: &Process, linux: &Linux) -> Result<(Option<Step>, Option<Step>)> {
    let step = linux.seccomp.as_ref().map(seccomp::plan).transpose()?.flatten().map(Step::Seccomp);
    Ok(if given.no_new_privileges { (None, step) } else { (step, None) })
}

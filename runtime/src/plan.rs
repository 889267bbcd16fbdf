//! From `config.json` to the list of everything that will be done: validated, owned, in the order the kernel needs.
//!
//! Planning touches nothing: ids are mapped, mount flags resolved and the seccomp program compiled before anything is
//! cloned. The executor (`bootstrap`) runs this very list, and `knarr-runtime plan` prints it, so they cannot drift.

mod describe;
mod exec;
#[cfg(test)]
mod hostile;
mod hot_mounts;
mod init;
mod namespaces;
#[cfg(test)]
mod order;
mod process;
pub(crate) mod rootfs;
mod step;
mod validate;

pub(crate) use exec::ExecTarget;
pub(crate) use namespaces::sys_kind;
pub(crate) use namespaces::{Join, Namespaces};
pub(crate) use process::{ProcessPlan, UserPlan};
pub(crate) use rootfs::is_device;
pub(crate) use step::{DevicePlan, HookKind, Side, Step};

use crate::cgroups::{self, Cgroups};
use crate::error::Result;
use crate::intel_rdt::{Group, Resctrl};
use crate::mounts::Source;
use crate::spec::{Hooks, NamespaceKind, Spec};
use crate::systemd::{self, Scope, Wanted};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What the command line adds to the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) id: String,
    /// Absolute.
    pub(crate) bundle: PathBuf,
    /// Absolute; nothing where mounts are added to a container that runs.
    pub(crate) rootfs: PathBuf,
    /// Move and chroot instead of pivot_root, for a root on a ramdisk.
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring.
    pub(crate) no_new_keyring: bool,
    /// Descriptors from 3 on that the program inherits.
    pub(crate) preserve_fds: u32,
    /// The program waits for `start`.
    pub(crate) wait_for_start: bool,
    /// systemd makes the cgroups.
    pub(crate) systemd: bool,
    /// We are an ordinary user.
    pub(crate) rootless: bool,
    /// Init cannot see the host: the runtime opens every source.
    pub(crate) prepare_all: bool,
}

/// What the plan must know of this host.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) layout: cgroups::layout::Layout,
    /// The kernel's memory can be read as a core file.
    pub(crate) kcore: bool,
    /// SELinux labels mean something.
    pub(crate) selinux: bool,
    pub(crate) resctrl: Resctrl,
}

/// Everything that will be done.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plan {
    pub(crate) id: String,
    /// Absolute.
    pub(crate) bundle: PathBuf,
    /// Absolute.
    pub(crate) rootfs: PathBuf,
    pub(crate) namespaces: Namespaces,
    pub(crate) cgroups: Cgroups,
    /// The group of resctrl.
    pub(crate) resctrl: Option<Group>,
    /// Trees of the host that only the runtime may open, made before the clone.
    pub(crate) prepared: Vec<Source>,
    pub(crate) hooks: Hooks,
    /// Both sides' steps in one list, in the order in which each side performs its own.
    pub(crate) steps: Vec<Step>,
    /// What was ignored.
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// Decides everything.
    pub(crate) fn new(spec: &Spec, options: &Options, host: &Host) -> Result<Plan> {
        validate::spec(spec, options, host)?;
        let linux = spec.linux.clone().unwrap_or_default();
        let namespaces = Namespaces::plan(&linux)?;
        let cgroups = place(&linux.cgroups_path, options, host)?;
        let mut plan = Plan {
            id: options.id.clone(),
            bundle: options.bundle.clone(),
            rootfs: options.rootfs.clone(),
            namespaces,
            cgroups,
            resctrl: linux
                .intel_rdt
                .as_ref()
                .map(|rdt| Group::plan(rdt, &options.id, &host.resctrl))
                .transpose()?,
            prepared: vec![],
            hooks: spec.hooks.clone().unwrap_or_default(),
            steps: vec![],
            warnings: warnings(&linux),
        };
        let process = ProcessPlan::new(spec.process.as_ref(), options.preserve_fds, &mut plan.warnings)?;
        let init = init::steps(spec, &linux, &process, (options, host), &mut plan)?;
        plan.steps = runtime_steps(spec, &linux, &process, &plan, options)?;
        plan.steps.extend(init);
        Ok(plan)
    }

    /// The steps of one side.
    pub(crate) fn side(&self, side: Side) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.side() == side)
    }
}

fn place(field: &str, options: &Options, host: &Host) -> Result<Cgroups> {
    if options.systemd {
        return host.layout.place_scope(&Scope::parse(field, &options.id, options.rootless)?);
    }
    Ok(host.layout.place(&cgroups::path::parse(field, &options.id)?))
}

/// Where a bundle's root is.
pub(crate) fn rootfs_path(spec: &Spec, bundle: &Path) -> PathBuf {
    let path = spec.root.as_ref().map(|root| root.path.as_str()).unwrap_or_default();
    // `join` keeps an absolute path as it is; `clean` would forget links, which are the host's own here.
    let joined = bundle.join(path);
    joined.components().collect()
}

/// What the runtime does while init builds the container.
fn runtime_steps(
    spec: &Spec,
    linux: &crate::spec::Linux,
    process: &ProcessPlan,
    plan: &Plan,
    options: &Options,
) -> Result<Vec<Step>> {
    let resources = linux.resources.clone().unwrap_or_default();
    let mut rules = cgroups::devices::rules(&resources.devices)?;
    if options.rootless {
        // An ordinary user has no right to filter, and in its user namespace no device node can be made anyway.
        rules.clear();
    }
    let (writes, filter) = if plan.cgroups.unified {
        (cgroups::v2::writes(&resources)?, rules.iter().any(|rule| !rule.allow).then_some(rules))
    } else {
        let mut writes = cgroups::v1::writes(&resources)?;
        writes.extend(cgroups::devices::v1_writes(&rules));
        (writes, None)
    };
    let mut limits = vec![];
    limits.extend((!writes.is_empty()).then_some(Step::LimitCgroups(writes)));
    limits.extend(filter.map(Step::FilterDevices));
    let scope = plan.cgroups.scope.is_some();
    // systemd makes a version 2 scope itself, around a process that exists; what it knows of version 1 is only a part.
    let ours = !(scope && plan.cgroups.unified);
    let into_cgroup = ours && plan.cgroups.version_2().is_some();
    let beside = network_beside_cgroups(linux, plan);
    let network = if beside { sys_kind(NamespaceKind::Network).clone_flag() } else { 0 };
    let clone = Step::Clone { flags: plan.namespaces.clone_flags() & !network, into_cgroup };
    let mut cgroups = vec![];
    cgroups.extend(ours.then_some(Step::CreateCgroups));
    cgroups.extend((!scope).then(|| std::mem::take(&mut limits)).into_iter().flatten());
    cgroups.extend((!plan.cgroups.unified).then_some(Step::OpenCgroups));
    let prepare = (!plan.prepared.is_empty()).then_some(Step::PrepareMounts);
    let mut steps = vec![];
    if beside {
        steps.extend(into_cgroup.then_some(Step::CreateUnifiedCgroup));
        steps.extend(prepare);
        steps.push(clone);
        steps.extend(cgroups);
    } else {
        steps.extend(cgroups);
        steps.extend(prepare);
        steps.push(clone);
    }
    if scope {
        let properties = systemd::annotated(&spec.annotations)?;
        steps.push(Step::StartScope(Box::new(Wanted { resources, properties })));
    }
    steps.extend(limits);
    steps.extend(plan.namespaces.new_user().then_some(Step::MapIds));
    steps.extend(process.oom_score_adj.map(Step::OomScore));
    steps.extend(plan.resctrl.clone().map(Step::EnterResctrl));
    steps.extend(net_devices(linux));
    steps.extend(needs_release(linux, plan).then_some(Step::Release));
    let needs_runtime = [HookKind::Prestart, HookKind::CreateRuntime];
    steps.extend(needs_runtime.into_iter().filter(|kind| !kind.of(&plan.hooks).is_empty()).map(Step::Hooks));
    steps.push(Step::AwaitInit);
    // Last, or a small limit would hinder init itself.
    let outside = plan.namespaces.any_user() && !process.rlimits.is_empty();
    steps.extend(outside.then(|| Step::LimitProcess(process.rlimits.clone())));
    Ok(steps)
}

fn net_devices(linux: &crate::spec::Linux) -> impl Iterator<Item = Step> + '_ {
    linux.net_devices.iter().map(|(from, device)| Step::MoveNetDevice {
        from: from.clone(),
        to: if device.name.is_empty() { from.clone() } else { device.name.clone() },
    })
}

/// What is asked for in vain.
fn warnings(linux: &crate::spec::Linux) -> Vec<String> {
    let memory = linux.resources.as_ref().and_then(|resources| resources.memory.as_ref());
    let kernel = memory.is_some_and(|memory| memory.kernel.is_some_and(|limit| limit != 0));
    kernel.then(|| KERNEL_MEMORY.to_string()).into_iter().collect()
}

/// The kernel took `memory.kmem.limit_in_bytes` away in 5.16, and runc never sets it.
pub(crate) const KERNEL_MEMORY: &str = "Kernel memory settings are ignored and will be removed";

/// Whether init makes its network itself while the runtime makes the version 1 cgroups: of all that is made before the mounts
/// these two take longest, and neither needs the other. With a user namespace init has no rights to the cgroups, with a
/// stage its pid is not known in time, and a device is moved into a network that exists.
fn network_beside_cgroups(linux: &crate::spec::Linux, plan: &Plan) -> bool {
    let namespaces = &plan.namespaces;
    namespaces.new.contains(&NamespaceKind::Network)
        && !(namespaces.any_user() || namespaces.needs_stage())
        && !(plan.cgroups.unified || plan.cgroups.scope.is_some())
        && linux.net_devices.is_empty()
}

/// Whether init must wait for what the runtime does after the clone: its cgroups, its ids, its scope, its network devices,
/// and its pid as the host sees it, which its hooks are told.
fn needs_release(linux: &crate::spec::Linux, plan: &Plan) -> bool {
    let own_hooks = [HookKind::CreateContainer, HookKind::StartContainer];
    network_beside_cgroups(linux, plan)
        || plan.namespaces.any_user()
        || plan.cgroups.scope.is_some()
        || !linux.net_devices.is_empty()
        || own_hooks.into_iter().any(|kind| !kind.of(&plan.hooks).is_empty())
}

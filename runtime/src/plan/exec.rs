//! `exec`: one more process in a container that runs. Its namespaces and root are there; the rest is as for init.

use super::init::{become_program, filter};
use super::namespaces::{Namespaces, sys_kind};
use super::{Plan, ProcessPlan, Step};
use crate::cgroups::Cgroups;
use crate::error::Result;
use crate::spec::{Hooks, Linux, NamespaceKind, Process};
use std::path::PathBuf;

/// What exec needs to know of the container.
#[derive(Debug)]
pub(crate) struct ExecTarget<'a> {
    pub(crate) id: &'a str,
    pub(crate) linux: &'a Linux,
    pub(crate) cgroups: Cgroups,
    /// Relative sources of mounts begin here.
    pub(crate) bundle: PathBuf,
    /// We are an ordinary user, whose rights over the container come from its user namespace only.
    pub(crate) rootless: bool,
}

impl ExecTarget<'_> {
    pub(super) fn has(&self, kind: NamespaceKind) -> bool {
        self.linux.namespaces.iter().any(|namespace| namespace.kind == kind)
    }

    /// The namespaces in which the container differs from us, by its configuration. Its pid namespace is entered by
    /// being cloned into it.
    pub(super) fn join_flags(&self) -> u64 {
        let others = self.linux.namespaces.iter().filter(|namespace| namespace.kind != NamespaceKind::Pid);
        let all = others.fold(0, |flags, namespace| flags | sys_kind(namespace.kind).clone_flag());
        if self.enters_user_first() { all & !sys_kind(NamespaceKind::User).clone_flag() } else { all }
    }

    /// The runtime itself must be in the user namespace to have the right to enter the pid namespace for its child.
    pub(super) fn enters_user_first(&self) -> bool {
        self.rootless && self.has(NamespaceKind::User) && self.has(NamespaceKind::Pid)
    }
}

impl Plan {
    /// Decides everything about one more process.
    pub(crate) fn exec(target: ExecTarget<'_>, given: &Process, preserve_fds: u32) -> Result<Plan> {
        let mut warnings = vec![];
        let process = ProcessPlan::new(Some(given), preserve_fds, &mut warnings)?;
        let mut steps = outside(&target, &process);
        steps.extend(inside(&target, given, &process)?);
        Ok(Plan {
            id: target.id.into(),
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            namespaces: Namespaces::default(),
            cgroups: target.cgroups,
            resctrl: None,
            prepared: vec![],
            hooks: Hooks::default(),
            steps,
            warnings,
        })
    }
}

fn outside(target: &ExecTarget<'_>, process: &ProcessPlan) -> Vec<Step> {
    let unified = target.cgroups.unified;
    let mut steps = Vec::new();
    steps.extend((!unified).then_some(Step::OpenCgroups));
    steps.extend(
        target.has(NamespaceKind::Pid).then(|| Step::EnterPidNamespace { user: target.enters_user_first() }),
    );
    steps.extend((!process.first_cpus.is_empty()).then(|| Step::FirstCpus(process.first_cpus.clone())));
    steps.push(Step::Clone { flags: 0, into_cgroup: target.cgroups.version_2().is_some() });
    steps.extend(process.oom_score_adj.map(Step::OomScore));
    steps.push(Step::AwaitInit);
    let outside = target.has(NamespaceKind::User) && !process.rlimits.is_empty();
    steps.extend(outside.then(|| Step::LimitProcess(process.rlimits.clone())));
    steps
}

fn inside(target: &ExecTarget<'_>, given: &Process, process: &ProcessPlan) -> Result<Vec<Step>> {
    let user_namespace = target.has(NamespaceKind::User);
    let mut steps = Vec::new();
    steps.extend((!target.cgroups.unified).then_some(Step::EnterCgroups));
    steps.push(match process.cpus.is_empty() {
        true => Step::AllCpus,
        false => Step::Cpus(process.cpus.clone()),
    });
    steps.push(Step::JoinContainer { flags: target.join_flags() });
    steps.extend(user_namespace.then_some(Step::BecomeRoot));
    steps.extend((!target.has(NamespaceKind::Mount)).then_some(Step::EnterRoot));
    steps.push(Step::NewSession);
    if process.terminal {
        let size = given.console_size.clone().unwrap_or_default();
        steps.push(Step::Console { width: size.width, height: size.height });
    }
    let (early, late) = filter(given, target.linux)?;
    steps.extend(become_program(given, process, target.linux, early, user_namespace)?);
    steps.push(Step::FindProgram);
    steps.extend(late);
    steps.push(Step::Ready);
    steps.push(Step::FreshSignals);
    steps.push(Step::Execute(Box::new(process.clone())));
    Ok(steps)
}

//! `exec`: one more process in a container that runs. Its namespaces and root are there; the rest is as for init.

use super::init::{become_program, late_filter};
use super::namespaces::sys_kind;
use super::{ProcessPlan, Step};
use crate::error::Result;
use crate::seccomp;
use crate::spec::{Linux, NamespaceKind, Process};

/// What exec needs to know of the container.
#[derive(Debug)]
pub(crate) struct ExecTarget<'a> {
    pub(crate) linux: &'a Linux,
    pub(crate) id: &'a str,
    pub(crate) new_keyring: bool,
}

impl ExecTarget<'_> {
    /// The namespaces in which the container differs from us, by its configuration. Its pid namespace is entered by
    /// being cloned into it.
    fn join_flags(&self) -> u64 {
        let others = self.linux.namespaces.iter().filter(|namespace| namespace.kind != NamespaceKind::Pid);
        others.fold(0, |flags, namespace| flags | sys_kind(namespace.kind).clone_flag())
    }
}

/// Everything the new process does, in order.
pub(crate) fn exec_steps(
    target: &ExecTarget<'_>,
    given: &Process,
    process: &ProcessPlan,
) -> Result<Vec<Step>> {
    let mut steps = vec![Step::AwaitPlacement, Step::JoinContainer { flags: target.join_flags() }];
    let user_namespace =
        target.linux.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::User);
    if user_namespace {
        steps.push(Step::BecomeRoot);
    }
    steps.push(Step::NewSession);
    steps.extend(target.new_keyring.then(|| Step::Keyring(format!("_ses.{}", target.id))));
    if process.terminal {
        let size = given.console_size.clone().unwrap_or_default();
        steps.push(Step::Console { width: size.width, height: size.height });
    }
    let filter = target.linux.seccomp.as_ref().map(seccomp::plan).transpose()?.flatten();
    steps.extend(become_program(given, process, target.linux, filter, user_namespace)?);
    steps.push(Step::FindProgram);
    steps.extend(late_filter(given, target.linux)?);
    steps.extend(
        (user_namespace && !process.rlimits.is_empty()).then(|| Step::LimitProcess(process.rlimits.clone())),
    );
    steps.push(Step::Ready);
    steps.push(Step::CloseFds { first: 3 + process.preserve_fds });
    steps.push(Step::Execute(Box::new(process.clone())));
    Ok(steps)
}

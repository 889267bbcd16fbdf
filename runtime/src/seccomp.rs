//! `linux.seccomp` compiled to the BPF program the kernel runs at every system call.
//!
//! The generator is our own: all operators, an errno per rule, several architectures and notification, in microseconds.
//! Everything is decided before anything is cloned; loading is one system call.

pub(crate) mod actions;
pub(crate) mod arch;
pub(crate) mod compile;
pub(crate) mod conditions;
pub(crate) mod listener;
mod packed;
mod syscalls {
    //! Names and numbers, one table per architecture.
    pub(crate) mod aarch64;
    pub(crate) mod x32;
    pub(crate) mod x86;
    pub(crate) mod x86_64;
}

use crate::error::{Context, Error, Result};
use crate::spec::Seccomp;
use knarr_sys::seccomp::Instruction;
use serde::Serialize;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// A filter that is ready to load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SeccompPlan {
    /// The program; printed as its length.
    #[serde(serialize_with = "length")]
    pub(crate) program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`
    pub(crate) flags: u64,
    /// Who decides about notified calls.
    pub(crate) listener: Option<Listener>,
}

/// A supervisor of system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Listener {
    /// A unix socket.
    pub(crate) path: PathBuf,
    /// Passed on to it.
    pub(crate) metadata: String,
}

fn length<S: serde::Serializer>(program: &[Instruction], to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_u64(program.len() as u64)
}

/// Flags by name. The first is what libseccomp always does for several threads, and means nothing to one.
const FLAGS: &[(&str, u64)] = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE_RECV),
];
const WAIT_KILLABLE_RECV: u64 = 1 << 5;

/// The names of all flags, for `features`.
pub(crate) fn flag_names() -> Vec<String> {
    FLAGS.iter().map(|(name, _)| (*name).to_string()).collect()
}

/// Compiles the section; nothing for one that only allows.
pub(crate) fn plan(seccomp: &Seccomp) -> Result<Option<SeccompPlan>> {
    if seccomp.default_action.is_empty() {
        return Err(Error::invalid("linux.seccomp.defaultAction is missing"));
    }
    if seccomp.default_action == "SCMP_ACT_NOTIFY" {
        return Err(Error::invalid(
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action",
        ));
    }
    // With it init tells that it has a listener to hand over; nobody could answer yet.
    let notifies = |rule: &&crate::spec::Syscall| rule.action == "SCMP_ACT_NOTIFY";
    if seccomp.syscalls.iter().filter(notifies).any(|rule| rule.names.iter().any(|name| name == "write")) {
        return Err(Error::invalid(
            "linux.seccomp.syscalls: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ));
    }
    let program = compile::program(seccomp)?;
    let uses_notify = seccomp.syscalls.iter().any(|rule| rule.action == "SCMP_ACT_NOTIFY");
    let mut flags = flags(seccomp.flags.as_deref())?;
    if uses_notify {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    } else {
        // It is only defined together with a listener.
        flags &= !WAIT_KILLABLE_RECV;
    }
    let listener = listener(seccomp, uses_notify)?;
    Ok(Some(SeccompPlan { program, flags, listener }))
}

fn flags(names: Option<&[String]>) -> Result<u64> {
    let Some(names) = names else { return Ok(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) };
    names.iter().try_fold(0, |flags, name| match FLAGS.iter().find(|(known, _)| known == name) {
        Some((_, flag)) => Ok(flags | flag),
        None => Err(Error::invalid(format!("linux.seccomp.flags: seccomp flag {name:?} is not known"))),
    })
}

fn listener(seccomp: &Seccomp, uses_notify: bool) -> Result<Option<Listener>> {
    match (seccomp.listener_path.is_empty(), uses_notify) {
        (true, true) => {
            Err(Error::invalid("linux.seccomp.listenerPath is not set but an action is SCMP_ACT_NOTIFY"))
        }
        (true, false) if !seccomp.listener_metadata.is_empty() => {
            Err(Error::invalid("linux.seccomp.listenerMetadata needs linux.seccomp.listenerPath"))
        }
        (false, true) => Ok(Some(Listener {
            path: seccomp.listener_path.clone().into(),
            metadata: seccomp.listener_metadata.clone(),
        })),
        _ => Ok(None),
    }
}

/// Loads the filter; from here on it decides about everything this process does.
pub(crate) fn load(plan: &SeccompPlan) -> Result<Option<OwnedFd>> {
    knarr_sys::seccomp::load(&plan.program, plan.flags)
        .context(|| "unable to init seccomp: error loading seccomp filter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_means_the_default_and_an_empty_one_nothing() {
        assert_eq!(flags(None).unwrap(), libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
        assert_eq!(flags(Some(&[])).unwrap(), 0);
        let log = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"].map(String::from);
        assert_eq!(flags(Some(&log)).unwrap(), libc::SECCOMP_FILTER_FLAG_LOG);
        assert!(flags(Some(&["NONE".into()])).unwrap_err().to_string().contains("\"NONE\" is not known"));
    }
}

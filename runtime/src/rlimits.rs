//! `process.rlimits`: set by init on itself while it still may, or from outside when it is in a user namespace.

use crate::error::{Context, Error, Result};
use crate::spec::Rlimit;
use rustix::process::{Pid, Resource};
use serde::Serialize;

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Limit {
    /// `RLIMIT_...`
    pub(crate) kind: &'static str,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

const KINDS: &[(&str, Resource)] = &[
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_STACK", Resource::Stack),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
];

/// Checks names.
pub(crate) fn plan(given: &[Rlimit]) -> Result<Vec<Limit>> {
    let mut limits: Vec<Limit> = Vec::with_capacity(given.len());
    for (index, limit) in given.iter().enumerate() {
        let wrong = |why: String| Error::invalid(format!("process.rlimits[{index}]: {why}"));
        let known = KINDS.iter().find(|(name, _)| *name == limit.kind);
        let (kind, _) = known.ok_or_else(|| wrong(format!("wrong rlimit value: {}", limit.kind)))?;
        if limits.iter().any(|other| other.kind == *kind) {
            return Err(wrong(format!("rlimit duplicates: {kind}")));
        }
        limits.push(Limit { kind, soft: limit.soft, hard: limit.hard });
    }
    Ok(limits)
}

/// Sets the limits of a process, or our own.
pub(crate) fn apply(pid: Option<Pid>, limits: &[Limit]) -> Result<()> {
    for limit in limits {
        let Some((_, resource)) = KINDS.iter().find(|(name, _)| *name == limit.kind) else { continue };
        let value = |number: u64| if number == u64::MAX { None } else { Some(number) };
        let new = rustix::process::Rlimit { current: value(limit.soft), maximum: value(limit.hard) };
        rustix::process::prlimit(pid, *resource, new).context(|| {
            format!("error setting rlimits for ready process: error setting rlimit type {}", *resource as u32)
        })?;
    }
    Ok(())
}

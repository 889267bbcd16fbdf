//! Running hooks: programs of the caller's, with the container's state on their stdin and a deadline.

use crate::error::{Context, Error, Kind, Result};
use crate::spec::Hook;
use crate::state::State;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How much of what a failed hook said is repeated.
const MAX_OUTPUT: u64 = 4096;

/// Where hooks find themselves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    /// For those that have no environment of their own; ours, where none is said.
    pub(crate) environment: Option<&'a [CString]>,
    /// Ours, where none is said.
    pub(crate) directory: Option<&'a Path>,
}

/// Runs them in order; the first failure ends it.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &State) -> Result<()> {
    run_in(Place::default(), kind, hooks, state)
}

/// The same in a certain place.
pub(crate) fn run_in(place: Place<'_>, kind: &str, hooks: &[Hook], state: &State) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, place, state).context(|| format!("error running {kind} hook #{index}"))?;
    }
    Ok(())
}

fn run_one(hook: &Hook, place: Place<'_>, state: &State) -> Result<()> {
    let input = serde_json::to_vec(state).map_err(|error| Error::invalid(error.to_string()))?;
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    if let Some(variables) = environment(hook, place) {
        command.env_clear().envs(variables);
    }
    if let Some(directory) = place.directory {
        command.current_dir(directory);
    }
    // A file, not a pipe: a talkative hook must not wait for us while we wait for it.
    let said = memfd_create("hook-stderr", MemfdFlags::CLOEXEC).context(|| "memfd_create")?;
    let stderr = said.try_clone().context(|| "dup")?;
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().context(|| format!("fork/exec {}", hook.path))?;
    // A hook need not read its input; the pipe holds a state of the usual size.
    let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(&input));
    drop(written);
    let deadline = hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.unsigned_abs()));
    finish(&mut child, deadline, hook, File::from(said))
}

/// The variables of a hook, unless it inherits ours.
fn environment<'a>(hook: &'a Hook, place: Place<'a>) -> Option<Vec<(&'a str, &'a str)>> {
    let given = |variable: &'a CString| variable.to_str().ok()?.split_once('=');
    match (&hook.env, place.environment) {
        (Some(own), _) => Some(own.iter().filter_map(|variable| variable.split_once('=')).collect()),
        (None, Some(environment)) => Some(environment.iter().filter_map(given).collect()),
        (None, None) => None,
    }
}

fn finish(child: &mut Child, deadline: Option<Instant>, hook: &Hook, mut said: File) -> Result<()> {
    let in_time = wait_until(child, deadline)?;
    if !in_time {
        child.kill().context(|| "kill")?;
    }
    let status = child.wait().context(|| "wait4")?;
    if !in_time {
        let seconds = hook.timeout.unwrap_or_default();
        return Err(Error::new(Kind::Os, format!("hook ran past specified timeout of {seconds}.0s")));
    }
    if status.success() {
        return Ok(());
    }
    let mut output = String::new();
    // What cannot be read is not worth another error.
    let _ = said.rewind().and_then(|()| said.take(MAX_OUTPUT).read_to_string(&mut output));
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal: {}", crate::signals::description(signal.unwrap_or_default())),
    };
    Err(Error::new(Kind::Os, format!("{how}, stdout: , stderr: {}", output.trim_end())))
}

/// Whether it ended before the deadline.
fn wait_until(child: &Child, deadline: Option<Instant>) -> Result<bool> {
    let Some(deadline) = deadline else { return Ok(true) };
    let Some(pid) = Pid::from_raw(child.id() as i32) else { return Ok(true) };
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context(|| "pidfd_open")?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context(|| "poll(<pidfd>)"),
        }
    }
}

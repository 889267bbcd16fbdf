//! `exec`: cloning one more process into a container that runs.

use super::channel::{Channel, Message};
use super::init::Init;
use super::runtime::{forward_listener, kill, listener_of, set_oom_score};
use crate::cgroups::{Cgroups, View, control};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::{ProcessPlan, Side, Step};
use crate::rlimits;
use crate::spec::Hooks;
use crate::state::State;
use crate::timeline::Timeline;
use knarr_sys::clone::{self, Child, SingleThreaded};
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use rustix::thread::ThreadNameSpaceType;
use std::os::fd::{AsFd, OwnedFd};

/// What exec joins, and what it brings.
pub(crate) struct Target<'a> {
    pub(crate) init: OwnedFd,
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) joins_pid_namespace: bool,
    pub(crate) state: State,
    pub(crate) console: Option<OwnedFd>,
    pub(crate) timeline: Timeline,
}

/// Runs the steps in a new process; when this returns its program runs.
pub(crate) fn run(target: Target<'_>, steps: &[Step], process: &ProcessPlan) -> Result<Child> {
    let (channel, theirs) = Channel::pair()?;
    let child = match clone_into(&target)? {
        clone::Side::Parent(child) => child,
        clone::Side::Child => {
            drop(channel);
            become_exec(target, theirs, steps, process)
        }
    };
    drop(theirs);
    match guide(&child, &target, &channel, steps, process) {
        Ok(()) => Ok(child),
        Err(error) => {
            let killed = kill(&child);
            Err(channel.last_words().unwrap_or(error).and(killed))
        }
    }
}

/// The pid namespace is entered by the runtime, for its child; it has no other children to come.
fn clone_into(target: &Target<'_>) -> Result<clone::Side> {
    let single = SingleThreaded::prove()?;
    if target.joins_pid_namespace {
        let kind = ThreadNameSpaceType::PROCESS_ID;
        rustix::thread::move_into_thread_name_spaces(target.init.as_fd(), kind)
            .context(|| "setns to the pid namespace of the container")?;
    }
    let cgroup = control::open(target.cgroups)?;
    Ok(clone::clone(&single, 0, cgroup.as_ref().map(AsFd::as_fd))?)
}

fn become_exec(target: Target<'_>, channel: Channel, steps: &[Step], process: &ProcessPlan) -> ! {
    let proc = match rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(proc) => proc,
        Err(_) => knarr_sys::process::exit_now(1),
    };
    let init = Init {
        channel,
        prepared: vec![],
        view: View::V1 { hierarchies: vec![], namespaced: false },
        console: target.console,
        start_fifo: None,
        hooks: Hooks::default(),
        state: target.state,
        proc,
        null: None,
        root: None,
        process: process.clone(),
        found: None,
        target: Some(target.init),
        timeline: target.timeline,
    };
    init.run(steps.iter().filter(|step| step.side() == Side::Init))
}

fn guide(
    child: &Child,
    target: &Target<'_>,
    channel: &Channel,
    steps: &[Step],
    process: &ProcessPlan,
) -> Result<()> {
    let pid: Pid = child.pid;
    if !target.cgroups.unified {
        control::attach(target.cgroups, pid)?;
    }
    if let Some(score) = process.oom_score_adj {
        set_oom_score(pid, score)?;
    }
    channel.send(&Message::Placed(pid.as_raw_nonzero().get()))?;
    loop {
        match channel.receive()? {
            Some(Message::Ready) => {
                for step in steps {
                    if let Step::LimitProcess(limits) = step {
                        rlimits::apply(Some(pid), limits)?;
                    }
                }
                channel.send(&Message::Go)?;
            }
            Some(Message::Listener(number)) => {
                let wanted = steps.iter().find_map(listener_of);
                let wanted =
                    wanted.ok_or_else(|| Error::new(Kind::Os, "nobody asked for a seccomp listener"))?;
                forward_listener(child, number, wanted, &target.state)?;
                channel.send(&Message::Sent)?;
            }
            Some(Message::Timeline(_)) => {}
            Some(Message::Failed(error)) => return Err(error),
            Some(_) => return Err(Error::new(Kind::Os, "unexpected message from the new process")),
            // The channel closes at execve, and when the process dies before it.
            None => return Ok(()),
        }
    }
}

//! A process between runtime and init, for the few containers that one clone cannot make (`Namespaces::needs_stage`).
//!
//! It enters what must be entered first, clones init as its own sibling (`CLONE_PARENT`: the runtime remains the
//! parent), tells the pid and ends.

use super::channel::{Channel, Message};
use crate::error::{Context, Result};
use crate::id_map;
use crate::plan::{Join, Namespaces, sys_kind};
use crate::spec::NamespaceKind;
use knarr_sys::clone::{Child, Side, SingleThreaded, clone as clone3};
use knarr_sys::namespace::{self, Kind};
use knarr_sys::process;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use std::os::fd::{AsFd, OwnedFd};

/// Clones init through a stage. Returns in the runtime and in init, never in the stage. Each of them has its own end of
/// the channel then, and nobody both: who holds the other's end does not see it die.
pub(crate) fn clone(
    single: &SingleThreaded,
    namespaces: &Namespaces,
    cgroup: Option<&OwnedFd>,
    channel: &mut Channel,
    theirs: Channel,
) -> Result<Side> {
    match clone3(single, 0, cgroup.map(AsFd::as_fd))? {
        Side::Parent(stage) => {
            drop(theirs);
            guide(&stage, namespaces, channel).map(Side::Parent)
        }
        Side::Child => {
            *channel = theirs;
            match enter_and_clone(single, namespaces, channel) {
                Ok(Side::Child) => Ok(Side::Child),
                Ok(Side::Parent(init)) => {
                    let told = channel.send(&Message::Cloned(init.pid.as_raw_nonzero().get()));
                    process::exit_now(i32::from(told.is_err()))
                }
                Err(error) => {
                    // If even this fails the runtime sees the channel end.
                    let _ = channel.send(&Message::Failed(error));
                    process::exit_now(1)
                }
            }
        }
    }
}

/// The runtime's part: ids and clocks when the stage has its namespaces, then the pid of init.
fn guide(stage: &Child, namespaces: &Namespaces, channel: &Channel) -> Result<Child> {
    let guided = || -> Result<Child> {
        if namespaces.new_user() {
            channel.expect("its user namespace", |message| (message == Message::WantIds).then_some(()))?;
            id_map::write(stage.pid, &namespaces.uids, &namespaces.gids)?;
            channel.send(&Message::HooksDone)?;
        }
        if !namespaces.time_offsets.is_empty() {
            channel.expect("its time namespace", |message| (message == Message::WantClocks).then_some(()))?;
            let file = format!("/proc/{}/timens_offsets", stage.pid.as_raw_nonzero());
            std::fs::write(&file, namespaces.time_offsets.join("\n"))
                .context(|| format!("failed to update {file}"))?;
            channel.send(&Message::HooksDone)?;
        }
        let pick = |message| if let Message::Cloned(pid) = message { Pid::from_raw(pid) } else { None };
        let pid = channel.expect("it cloned init", pick)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context(|| "pidfd_open")?;
        Ok(Child { pid, pidfd })
    };
    match guided() {
        Ok(child) => {
            rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(stage.pid), WaitOptions::empty()))
                .context(|| "wait4")?;
            Ok(child)
        }
        Err(error) => Err(error.and(super::runtime::kill(stage))),
    }
}

/// Root of the host may enter any namespace, but in a user namespace only those that belong to it: the user namespace comes
/// last. An ordinary user has rights only in it: what was not allowed before is tried again.
fn join_all(namespaces: &Namespaces) -> Result<()> {
    let open = |join: &Join| {
        let file = namespace::open(&join.path).context(|| format!("lstat {}", join.path.display()))?;
        Ok((sys_kind(join.kind), file))
    };
    let opened = namespaces.join.iter().map(open).collect::<Result<Vec<_>>>()?;
    let (users, others): (Vec<_>, Vec<_>) =
        opened.iter().partition(|(kind, _)| *kind == sys_kind(NamespaceKind::User));
    let failed = |kind: Kind| move || format!("failed to join {} namespace", kind.proc_name());
    let mut later = vec![];
    for (kind, file) in others {
        match namespace::join(file, *kind) {
            Err(error) if error.errno == Errno::PERM && !users.is_empty() => later.push((*kind, file)),
            joined => joined.context(failed(*kind))?,
        }
    }
    for (kind, file) in users {
        namespace::join(file, *kind).context(failed(*kind))?;
    }
    for (kind, file) in later {
        namespace::join(file, kind).context(failed(kind))?;
    }
    Ok(())
}

fn enter_and_clone(single: &SingleThreaded, namespaces: &Namespaces, channel: &Channel) -> Result<Side> {
    join_all(namespaces)?;
    if namespaces.new_user() {
        namespace::unshare(sys_kind(NamespaceKind::User).clone_flag())?;
        channel.send(&Message::WantIds)?;
        channel.expect("ids", |message| (message == Message::HooksDone).then_some(()))?;
        process::set_gid(0)?;
        process::set_uid(0)?;
    }
    let mut done = sys_kind(NamespaceKind::User).clone_flag();
    if !namespaces.time_offsets.is_empty() {
        let time = sys_kind(NamespaceKind::Time).clone_flag();
        namespace::unshare(time)?;
        // Its file belongs to the host's root once we have changed ids.
        channel.send(&Message::WantClocks)?;
        channel.expect("clocks", |message| (message == Message::HooksDone).then_some(()))?;
        done |= time;
    }
    Ok(clone3(single, namespaces.clone_flags() & !done | libc::CLONE_PARENT as u64, None)?)
}

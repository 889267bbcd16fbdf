//! `knarr down`: stops whoever serves here, then every pod, then removes what knarr made on this machine.
//!
//! It goes on after an error and reports them all, and a second call finds nothing to do.

use crate::args::Down;
use crate::instance;
use crate::settings::Settings;
use crate::{output, standalone};
use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// How long a serving process may take to stop before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// Removes everything but images and store, or with `--all` these too.
pub(crate) async fn run(settings: Settings, arguments: Down) -> anyhow::Result<()> {
    if let Some(pid) = instance::running(&settings.node.state_dir)? {
        stop_process(pid).await?;
    }
    let mut errors = standalone::remove_all(&settings).await;
    errors.extend(knarr_agent::node::remove_everything(&settings.node).await);
    if errors.is_empty() {
        errors.extend(remove_dir(&settings.node.state_dir).err());
    }
    if arguments.all && errors.is_empty() {
        errors.extend(remove_dir(&settings.node.data_dir).err());
    }
    report(&errors)
}

fn report(errors: &[anyhow::Error]) -> anyhow::Result<()> {
    match errors {
        [] => Ok(()),
        [rest @ .., last] => {
            rest.iter().for_each(|error| output::complain(&format!("knarr: {error:#}")));
            bail!("{last:#}")
        }
    }
}

/// Ends a process through a pidfd, so that a recycled pid is never hit.
async fn stop_process(pid: i32) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || {
        let Some(pid) = Pid::from_raw(pid) else { return Ok(()) };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        pidfd_send_signal(&process, Signal::TERM).with_context(|| format!("kill {pid:?}"))?;
        if !ended(&process, STOP_DEADLINE)? {
            pidfd_send_signal(&process, Signal::KILL).with_context(|| format!("kill {pid:?}"))?;
            ended(&process, STOP_DEADLINE)?;
        }
        Ok(())
    })
    .await?
}

/// Waits for the end of a process; false when the deadline passes first.
fn ended(process: &OwnedFd, deadline: Duration) -> anyhow::Result<bool> {
    let deadline = Timespec::try_from(deadline)?;
    let mut waiting = [PollFd::new(process, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut waiting, Some(&deadline)))? > 0)
}

fn remove_dir(directory: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

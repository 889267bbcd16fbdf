//! An exec: the monitor starts it and tells its end, the bytes go straight between us and the process.

use super::channel::Channel;
use super::{ExecSession, Exit};
use anyhow::{Context, bail};
use knarr_monitor::protocol::{Answer, Exec, Request};
use std::os::fd::OwnedFd;
use tokio::sync::oneshot;

/// Starts the process. Dropping the returned session hangs up, and the monitor then kills the process tree.
pub(super) async fn start(mut channel: Channel, request: Exec) -> anyhow::Result<ExecSession> {
    let (tty, with_stdin) = (request.tty, request.stdin);
    channel.send(Request::Exec(request)).await?;
    match channel.answer().await? {
        Answer::Started { .. } => {}
        other => bail!("the monitor answered {other:?} to an exec"),
    }
    let mut descriptors = channel.take_descriptors().into_iter();
    let (sender, exit) = oneshot::channel();
    let mut next = || descriptors.next().context("the monitor sent too few descriptors");
    let session = match (tty, with_stdin) {
        (true, _) => terminal_session(next()?, with_stdin, exit)?,
        (false, true) => ExecSession { stdin: Some(next()?), stdout: next()?, stderr: Some(next()?), exit },
        (false, false) => ExecSession { stdin: None, stdout: next()?, stderr: Some(next()?), exit },
    };
    tokio::spawn(watch(channel, sender));
    Ok(session)
}

fn terminal_session(
    master: OwnedFd,
    with_stdin: bool,
    exit: oneshot::Receiver<Result<Exit, String>>,
) -> anyhow::Result<ExecSession> {
    rustix::io::ioctl_fionbio(&master, true)?;
    let stdin = with_stdin.then(|| master.try_clone()).transpose()?;
    Ok(ExecSession { stdin, stdout: master, stderr: None, exit })
}

/// Passes the exit on, or hangs up as soon as nobody waits for it.
async fn watch(mut channel: Channel, mut sender: oneshot::Sender<Result<Exit, String>>) {
    let exit = tokio::select! {
        answer = channel.answer() => match answer {
            Ok(Answer::Exited(exit)) => Ok(exit),
            Ok(other) => Err(format!("the monitor answered {other:?} to an exec")),
            Err(error) => Err(format!("{error:#}")),
        },
        () = sender.closed() => return,
    };
    // The session may have been dropped in this very moment.
    let _ = sender.send(exit);
}

//! `knarr exec`: another process in a running container. Its exit status is ours.

use super::{Standalone, places, plan, run, terminal};
use crate::args::Exec;
use crate::settings::Settings;
use anyhow::{anyhow, bail};
use knarr_agent::engine::direct::ExecOptions;
use knarr_agent::engine::monitors::ExecSession;
use knarr_agent::engine::stream_target::StreamTarget;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::channel;
use tokio::sync::oneshot;

/// Runs the command and waits for its end.
pub(crate) async fn run(settings: Settings, arguments: Exec) -> anyhow::Result<ExitCode> {
    let place = Standalone::find(&settings, &arguments.name).await?;
    let container = place.running().await?;
    if place.engine.is_paused(&container.id).await? {
        bail!("container {} is paused, unpause the container before exec", arguments.name);
    }
    let detach = arguments.detach;
    let keys = terminal::keys(arguments.detach_keys.as_deref().unwrap_or_default())?;
    terminal::check(arguments.interactive && arguments.tty && !detach)?;
    let _raw = if arguments.tty && !detach { terminal::RawMode::enter()? } else { None };
    let options = ExecOptions {
        env: plan::environment::variables(&arguments.env_file, &arguments.env)?,
        command: arguments.command,
        tty: arguments.tty,
        stdin: arguments.interactive,
        workdir: arguments.workdir,
        user: arguments.user,
        privileged: arguments.privileged,
    };
    let words = options.command.join(" ");
    let id = ("execID", places::random()?);
    place.tell_of(&container, &format!("exec_create: {words}"), std::slice::from_ref(&id));
    if detach {
        let started = place.engine.exec_detached(&container.id, options).await;
        if started.is_ok() {
            place.tell_of(&container, &format!("exec_start: {words}"), &[id]);
        }
        return Ok(run::or_complain(started.map(|()| ExitCode::SUCCESS).map_err(Into::into)));
    }
    match place.engine.exec_with(&container.id, options).await {
        Ok(session) => {
            place.tell_of(&container, &format!("exec_start: {words}"), std::slice::from_ref(&id));
            let Some(code) = serve(&place, session, keys).await? else { bail!("read escape sequence") };
            place.tell_of(&container, "exec_die", &[id, ("exitCode", code.to_string())]);
            Ok(ExitCode::from(code))
        }
        Err(error) => Ok(run::or_complain(Err(error.into()))),
    }
}

/// Its exit status; none where the keys were typed.
async fn serve(place: &Standalone, mut session: ExecSession, keys: Vec<u8>) -> anyhow::Result<Option<u8>> {
    let (leave, left) = oneshot::channel();
    let left = terminal::told(left);
    tokio::pin!(left);
    if let Some(stdin) = session.stdin.take() {
        tokio::spawn(feed(stdin, keys, leave));
    }
    let stdout = tokio::spawn(copy(session.stdout.try_clone()?, tokio::io::stdout()));
    let stderr = session.stderr.take().map(|stderr| tokio::spawn(copy(stderr, tokio::io::stderr())));
    let (sizes, mut changed) = channel(1);
    let following = tokio::spawn(terminal::follow_size(sizes));
    let exit = loop {
        tokio::select! {
            exit = &mut session.exit => break exit,
            () = &mut left => return Ok(None),
            Some((columns, rows)) = changed.recv() => place.engine.resize_exec(&session, columns, rows)?,
        }
    };
    following.abort();
    stdout.await??;
    if let Some(stderr) = stderr {
        stderr.await??;
    }
    let exit = exit?.map_err(|error| anyhow!(error))?;
    Ok(Some(exit.code.clamp(0, 255) as u8))
}

async fn feed(stdin: OwnedFd, keys: Vec<u8>, leave: oneshot::Sender<()>) -> anyhow::Result<()> {
    let (keyboard, mut typed) = channel(4);
    terminal::forward_stdin(keyboard, keys, leave);
    let mut stdin = blocking_file(stdin)?;
    while let Some(bytes) = typed.recv().await {
        stdin.write_all(&bytes).await?;
        stdin.flush().await?;
    }
    Ok(())
}

/// Copies until end-of-file; a pty whose last process has gone answers EIO, which is its end-of-file.
async fn copy(from: OwnedFd, mut to: impl tokio::io::AsyncWrite + Unpin) -> anyhow::Result<()> {
    let mut from = blocking_file(from)?;
    match tokio::io::copy(&mut from, &mut to).await {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::IO.raw_os_error()) => {
            return Err(error.into());
        }
        _ => {}
    }
    Ok(to.flush().await?)
}

/// The near ends come ready for an event loop; a file that tokio reads on its own threads must block.
fn blocking_file(fd: OwnedFd) -> anyhow::Result<tokio::fs::File> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags.difference(rustix::fs::OFlags::NONBLOCK))?;
    Ok(tokio::fs::File::from_std(fd.into()))
}

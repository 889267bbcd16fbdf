//! The monitors as real processes, each found by the socket in its pod's directory.

use super::channel::Channel;
use super::{
    AttachSession, CreateContainer, ExecProcess, ExecSession, Exit, Monitors, Restore, attach, exec, launch,
};
use crate::config::Config;
use anyhow::{Context, bail};
use async_trait::async_trait;
use knarr_monitor::cgroup_mounts::CgroupMount;
use knarr_monitor::protocol::{self, Answer, Container, Request};
use knarr_monitor::{exit_file, exit_file::EXITS};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::termios::Winsize;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A monitor that does not end within this is killed; it never waits for anything, so it must be broken.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// All monitors below one state directory.
#[derive(Debug, Clone)]
pub struct UnixMonitors {
    config: Arc<Config>,
}

impl UnixMonitors {
    /// Monitors of this node's state directory.
    pub fn new(config: Arc<Config>) -> Self {
        Self { config }
    }

    /// Ids become paths, so they must be plain names.
    fn directory(&self, sandbox_id: &str) -> anyhow::Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if sandbox_id.is_empty() || sandbox_id.starts_with('.') || !sandbox_id.chars().all(plain) {
            bail!("invalid sandbox id {sandbox_id:?}");
        }
        Ok(self.config.state_dir.join("pods").join(sandbox_id))
    }

    async fn connect(&self, sandbox_id: &str) -> anyhow::Result<Channel> {
        Channel::connect(&self.directory(sandbox_id)?)
            .await?
            .with_context(|| format!("no monitor runs for sandbox {sandbox_id}"))
    }

    async fn ask(&self, sandbox_id: &str, request: Request) -> anyhow::Result<Answer> {
        ask_on(self.connect(sandbox_id).await?, request).await
    }
}

#[async_trait]
impl Monitors for UnixMonitors {
    async fn ensure(&self, sandbox_id: &str) -> anyhow::Result<()> {
        let directory = self.directory(sandbox_id)?;
        if Channel::connect(&directory).await?.is_some() {
            return Ok(());
        }
        let launched = launch::launch(&self.config, &directory).await;
        // Two callers may have started one each; then one of them lost, and there is one all the same.
        if launched.is_err() && Channel::connect(&directory).await?.is_some() {
            return Ok(());
        }
        launched.with_context(|| format!("start the monitor of sandbox {sandbox_id}"))
    }

    async fn remove(&self, sandbox_id: &str) -> anyhow::Result<()> {
        let directory = self.directory(sandbox_id)?;
        if let Some(channel) = Channel::connect(&directory).await? {
            shut_down(channel).await.with_context(|| format!("end the monitor of sandbox {sandbox_id}"))?;
        }
        let cgroup = PathBuf::from(&self.config.engine.monitor_cgroup);
        tokio::task::spawn_blocking(move || {
            remove_files(&directory)?;
            remove_cgroup(&cgroup)
        })
        .await?
        .with_context(|| format!("remove what the monitor of sandbox {sandbox_id} left"))
    }

    async fn create_container(&self, sandbox_id: &str, request: CreateContainer) -> anyhow::Result<i32> {
        let restore = request.restore;
        let container = protocol::Create {
            id: request.id,
            runtime: request.runtime,
            bundle: request.bundle,
            log_path: request.log_path,
            tty: request.tty,
            stdin: request.stdin,
            stdin_once: request.stdin_once,
            on_exit: request.on_exit,
            started: request.started,
        };
        let request = match restore {
            Some(Restore { images, work }) => Request::Restore(protocol::Restore { container, images, work }),
            None => Request::Create(container),
        };
        match self.ask(sandbox_id, request).await? {
            Answer::Created { pid } => Ok(pid),
            other => bail!("the monitor answered {other:?} to a create"),
        }
    }

    async fn exit_of(&self, sandbox_id: &str, container_id: &str) -> anyhow::Result<Option<Exit>> {
        let (directory, id) = (self.directory(sandbox_id)?, container_id.to_owned());
        let exit = tokio::task::spawn_blocking(move || exit_file::read(&directory, &id)).await?;
        exit.with_context(|| format!("read the exit of container {container_id}"))
    }

    async fn wait(&self, sandbox_id: &str, container_id: &str) -> anyhow::Result<Exit> {
        let request = Request::Wait(Container { id: container_id.to_owned() });
        let answer = self.ask(sandbox_id, request).await;
        match answer {
            Ok(Answer::Exited(exit)) => Ok(exit),
            Ok(other) => bail!("the monitor answered {other:?} to a wait"),
            // The monitor is gone, but it may have recorded the exit before it went.
            Err(error) => self.exit_of(sandbox_id, container_id).await?.ok_or(error),
        }
    }

    async fn forget(&self, sandbox_id: &str, container_id: &str) -> anyhow::Result<()> {
        let directory = self.directory(sandbox_id)?;
        let id = container_id.to_owned();
        if let Some(channel) = Channel::connect(&directory).await? {
            return done(ask_on(channel, Request::Forget(Container { id })).await?);
        }
        let removed = tokio::task::spawn_blocking(move || exit_file::forget(&directory, &id)).await?;
        removed.with_context(|| format!("remove the exit of container {container_id}"))
    }

    async fn reopen_log(&self, sandbox_id: &str, container_id: &str) -> anyhow::Result<()> {
        let request = Request::ReopenLog(Container { id: container_id.to_owned() });
        done(self.ask(sandbox_id, request).await?)
    }

    async fn exec(&self, sandbox_id: &str, request: ExecProcess) -> anyhow::Result<ExecSession> {
        exec::start(self.connect(sandbox_id).await?, exec_request(request, false)).await
    }

    async fn exec_detached(&self, sandbox_id: &str, request: ExecProcess) -> anyhow::Result<()> {
        match self.ask(sandbox_id, Request::Exec(exec_request(request, true))).await? {
            Answer::Started { .. } => Ok(()),
            other => bail!("the monitor answered {other:?} to an exec"),
        }
    }

    fn resize_exec(&self, session: &ExecSession, columns: u16, rows: u16) -> anyhow::Result<()> {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&session.stdout, size).context("set the size of the terminal")
    }

    async fn attach(&self, sandbox_id: &str, container_id: &str) -> anyhow::Result<AttachSession> {
        attach::start(self.connect(sandbox_id).await?, container_id).await
    }
}

async fn ask_on(mut channel: Channel, request: Request) -> anyhow::Result<Answer> {
    channel.send(request).await?;
    channel.answer().await
}

fn done(answer: Answer) -> anyhow::Result<()> {
    match answer {
        Answer::Done {} => Ok(()),
        other => bail!("the monitor answered {other:?}"),
    }
}

fn exec_request(request: ExecProcess, detached: bool) -> protocol::Exec {
    protocol::Exec {
        container_id: request.container_id,
        runtime: request.runtime,
        process: request.process_json,
        tty: request.tty,
        stdin: request.stdin && !detached,
        timeout: request.timeout,
        detached,
    }
}

async fn shut_down(mut channel: Channel) -> anyhow::Result<()> {
    let pid = channel.monitor_pid().and_then(Pid::from_raw).context("the monitor's process is not known")?;
    // Held from before the request, so that the number cannot come to mean somebody else.
    let pidfd =
        rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK).context("pidfd_open of the monitor")?;
    channel.send(Request::Shutdown {}).await?;
    let answered = tokio::time::timeout(SHUTDOWN_TIMEOUT, channel.answer()).await;
    if let Ok(answer) = answered {
        answer?;
    } else {
        rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).context("kill the monitor")?;
    }
    tokio::task::spawn_blocking(move || wait_for_end(&pidfd)).await?
}

fn wait_for_end(process: &OwnedFd) -> anyhow::Result<()> {
    let timeout = Timespec::try_from(SHUTDOWN_TIMEOUT)?;
    match rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => bail!("the monitor does not end"),
        result => result.map(drop).context("wait for the monitor's end"),
    }
}

/// Removes the monitor's own files, and its directory unless the engine still keeps something there.
fn remove_files(directory: &Path) -> io::Result<()> {
    for file in [protocol::SOCKET, protocol::LOCK, protocol::ERROR_LOG] {
        unless_absent(std::fs::remove_file(directory.join(file)))?;
    }
    for tree in [EXITS, protocol::CALLS, protocol::KEPT] {
        unless_absent(std::fs::remove_dir_all(directory.join(tree)))?;
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        result => unless_absent(result),
    }
}

/// The last monitor's cgroup goes with it; while others live in it, the kernel refuses.
fn remove_cgroup(cgroup: &Path) -> io::Result<()> {
    for mount in CgroupMount::all()?.iter().filter(|mount| mount.matters_for_separation()) {
        match std::fs::remove_dir(mount.point.join(cgroup.strip_prefix("/").unwrap_or(cgroup))) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
            result => unless_absent(result)?,
        }
    }
    Ok(())
}

fn unless_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

//! What only a caller in the same process can ask of an engine, because CRI has no word for it: single containers
//! that are used as Docker's are (`knarr run` and its companions).

use super::additions::{self, Additions};
use super::blocking::blocking;
use super::core::{Core, sibling_binary};
use super::monitors::ExecSession;
use super::records::SandboxPhase;
use super::registry::{Container, Sandbox};
use super::spec::user;
use super::{
    Engine, bundle, exec_process, failures::status, lifecycle::containers, lifecycle::sandboxes, rootfs_file,
    sub_paths,
};
use knarr_cri::Status;
use knarr_cri::v1::{ContainerState, LinuxContainerSecurityContext, Signal};
use knarr_runtime::spec::{Process, User};
use knarr_runtime::state::Status as RuntimeStatus;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A further process, in Docker's terms: what is empty is the container's own.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    #[allow(missing_docs)]
    pub command: Vec<String>,
    /// It gets a terminal.
    pub tty: bool,
    /// It gets a stdin.
    pub stdin: bool,
    /// `NAME=VALUE`, on top of the container's.
    pub env: Vec<String>,
    #[allow(missing_docs)]
    pub workdir: Option<String>,
    /// `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// With every capability that the engine has.
    pub privileged: bool,
}

impl Engine {
    /// Sends a signal, by name or number, to a container's first process.
    pub async fn signal(&self, container_id: &str, signal: &str) -> anyhow::Result<()> {
        let sandbox_id = self.core.registry.container(container_id)?.sandbox_id.clone();
        self.core.runtime_of(&sandbox_id)?.kill(container_id, signal).await
    }

    /// Adds to a container that was not started yet.
    pub async fn add(&self, container_id: &str, additions: Additions) -> anyhow::Result<()> {
        let container = self.core.registry.container(container_id)?;
        let (core, id) = (self.core.clone(), container.id.clone());
        blocking(move || {
            let groups = rootfs_file::read(&core.paths.rootfs(&id), "etc/group")?;
            let ids = additions.groups.iter().map(|name| user::find_group(name, &groups));
            let ids = ids.collect::<Result<Vec<_>, _>>()?;
            let mut spec = bundle::read_spec(&core, &id)?;
            let monitor =
                core.config.monitor_binary.clone().unwrap_or_else(|| sibling_binary("knarr-monitor"));
            additions::apply(&additions, &ids, &monitor, &mut spec);
            sub_paths::narrow(&core, &container.record.get(), &additions.sub_paths, &mut spec)?;
            bundle::write_spec(&core, &id, &spec)
        })
        .await
    }

    /// Makes an ended container startable again, with what it wrote.
    pub async fn reset(&self, container_id: &str) -> Result<(), Status> {
        let container = self.core.registry.container(container_id)?;
        let _gate = container.gate.lock().await;
        if container.record.with(|record| record.state()) != ContainerState::ContainerExited {
            return Err(Status::failed_precondition(format!("container {:?} has not ended", container.id)));
        }
        containers::discard(&self.core, &container).await.map_err(status)?;
        let again = container.record.update(|record| {
            (record.exit, record.started_at, record.pid) = (None, 0, None);
        });
        again.await.map_err(status)
    }

    /// Makes again what a reboot took of a container and its pod: it can be started, with what it wrote, once it is
    /// connected. Whatever fails, it is as ended as before.
    pub async fn revive(&self, container_id: &str, additions: Additions) -> anyhow::Result<()> {
        let container = self.core.registry.container(container_id)?;
        let sandbox = self.core.registry.sandbox(&container.sandbox_id)?;
        let _gate = sandbox.gate.write().await;
        let made = self.make_again(&sandbox, &container, additions).await;
        if let Err(error) = made {
            return match sandboxes::stop(&self.core, &sandbox).await {
                Ok(()) => Err(error),
                Err(left) => Err(error.context(format!("and undoing it: {left:#}"))),
            };
        }
        // Last of all: until then it belongs to the earlier boot, whose pods are cleared away.
        let boot_id = self.core.host.boot_id.clone();
        let ready = sandbox.record.update(move |record| {
            (record.phase, record.boot_id) = (SandboxPhase::Ready, boot_id);
            record.addresses.clear();
        });
        ready.await
    }

    async fn make_again(
        &self,
        sandbox: &Arc<Sandbox>,
        container: &Arc<Container>,
        additions: Additions,
    ) -> anyhow::Result<()> {
        sandboxes::set_up_again(&self.core, sandbox).await?;
        let (core, pod, old) = (self.core.clone(), sandbox.record.get(), container.record.get());
        let made = blocking(move || bundle::make_again(&core, &pod, &old)).await?;
        container.record.update(move |record| *record = made).await?;
        self.add(&container.id, additions).await
    }

    /// Freezes all processes of a container, or lets them go on.
    pub async fn set_paused(&self, container_id: &str, paused: bool) -> anyhow::Result<()> {
        let container = exec_process::running(&self.core, container_id)?;
        let runtime = self.core.runtime_of(&container.sandbox_id)?;
        if paused { runtime.pause(&container.id).await } else { runtime.resume(&container.id).await }
    }

    /// Whether its processes are frozen.
    pub async fn is_paused(&self, container_id: &str) -> anyhow::Result<bool> {
        let container = self.core.registry.container(container_id)?;
        let state = self.core.runtime_of(&container.sandbox_id)?.state(&container.id).await?;
        Ok(state.is_some_and(|state| state.status == RuntimeStatus::Paused))
    }

    /// Process ids (ours) of everything that runs in a container.
    pub fn processes(&self, container_id: &str) -> Result<Vec<i32>, Status> {
        let container = exec_process::running(&self.core, container_id)?;
        let group = self.core.cgroup_of(&container.sandbox_id, &container.id);
        Ok(group.map(|group| self.core.hierarchies.processes(&group)).unwrap_or_default())
    }

    /// The container's root file system: as its processes see it while it runs, without its mounts else.
    pub fn root_of(&self, container_id: &str) -> Result<PathBuf, Status> {
        let container = self.core.registry.container(container_id)?;
        let pid = container.record.with(|record| record.pid.filter(|_| record.is_running()));
        Ok(match pid {
            Some(pid) => format!("/proc/{pid}/root").into(),
            None => self.core.paths.rootfs(&container.id),
        })
    }

    /// Starts a further process that nobody stays with; it has no stdio but a terminal, if it is to have one.
    pub async fn exec_detached(&self, container_id: &str, options: ExecOptions) -> Result<(), Status> {
        let container = exec_process::running(&self.core, container_id)?;
        let own = exec_process::own(&self.core, &container.id).await.map_err(status)?;
        let process = changed(&self.core, &container.id, own, &options).await.map_err(status)?;
        exec_process::launch_detached(&self.core, &container, &process).await.map_err(status)
    }

    /// Takes a pod, in which nothing runs, out of its network: address and ports are free for others.
    pub async fn disconnect(&self, sandbox_id: &str) -> anyhow::Result<()> {
        let sandbox = self.core.registry.sandbox(sandbox_id)?;
        let _gate = sandbox.gate.write().await;
        sandboxes::disconnect(&self.core, &sandbox).await
    }

    /// Gives it a network again, with another address; one that has one keeps it.
    pub async fn connect(&self, sandbox_id: &str) -> anyhow::Result<Vec<IpAddr>> {
        let sandbox = self.core.registry.sandbox(sandbox_id)?;
        let _gate = sandbox.gate.write().await;
        sandboxes::reconnect(&self.core, &sandbox).await
    }

    /// Starts a further process; it dies with the session.
    pub async fn exec_with(&self, container_id: &str, options: ExecOptions) -> Result<ExecSession, Status> {
        let container = exec_process::running(&self.core, container_id)?;
        let own = exec_process::own(&self.core, &container.id).await.map_err(status)?;
        let process = changed(&self.core, &container.id, own, &options).await.map_err(status)?;
        exec_process::launch(&self.core, &container, &process, options.stdin, None).await.map_err(status)
    }
}

async fn changed(core: &Arc<Core>, id: &str, own: Process, options: &ExecOptions) -> anyhow::Result<Process> {
    let mut process = exec_process::with_command(own, options.command.clone(), options.tty);
    for variable in &options.env {
        let key = variable.split('=').next().unwrap_or_default();
        process.env.retain(|known| known.split('=').next() != Some(key));
        process.env.push(variable.clone());
    }
    if let Some(workdir) = &options.workdir {
        anyhow::ensure!(workdir.starts_with('/'), "Cwd must be an absolute path");
        process.cwd.clone_from(workdir);
    }
    if let Some(name) = options.user.clone() {
        let (core, id) = (core.clone(), id.to_owned());
        process.user = blocking(move || user_of(&core, &id, &name)).await?;
    }
    if options.privileged {
        let all = core.host.capabilities.to_vec();
        let capabilities = process.capabilities.get_or_insert_default();
        for set in [&mut capabilities.bounding, &mut capabilities.effective, &mut capabilities.permitted] {
            set.clone_from(&all);
        }
    }
    Ok(process)
}

/// A user as the container's own files name it.
fn user_of(core: &Core, id: &str, name: &str) -> anyhow::Result<User> {
    let context = LinuxContainerSecurityContext { run_as_username: name.to_owned(), ..Default::default() };
    let rootfs = core.paths.rootfs(id);
    let (passwd, group) =
        (rootfs_file::read(&rootfs, "etc/passwd")?, rootfs_file::read(&rootfs, "etc/group")?);
    let found = user::resolve(&user::wanted(&context, "")?, &context, &passwd, &group)?;
    Ok(User { uid: found.uid, gid: found.gid, additional_gids: found.groups, ..User::default() })
}

/// A signal by name or number, in CRI's words; none where there is no such signal.
pub fn signal_named(text: &str) -> Option<Signal> {
    Some(super::stop_signal::to_cri(text)).filter(|signal| *signal != Signal::RuntimeDefault)
}

/// The kernel's number of a signal given by name or number.
pub fn signal_number(text: &str) -> Option<i32> {
    super::stop_signal::number(text)
}

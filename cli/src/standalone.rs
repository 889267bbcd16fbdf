//! `knarr run` and its companions: single containers with no daemon and no cluster.
//!
//! Every container has an engine of its own, in this process, over a directory of its own: nothing is shared but
//! the image store and the bridge, so that any number of `knarr` processes can work side by side, and one that is
//! killed leaves its container to its monitor. The next command finds it by its directory.
//!
//! Read `places` (names and locks), `plan` (Docker's options in CRI's words), `run`, then any command.

mod attach;
mod commit;
mod cp;
mod diff;
mod displayed_ports;
mod each;
mod ended;
mod exec;
mod export;
pub(crate) mod facts;
mod filters;
mod health;
mod hosts;
mod inspect;
mod kill;
mod logs;
mod network;
pub(crate) mod networks;
mod pause;
pub(crate) mod places;
pub(crate) mod plan;
mod port;
pub(crate) mod prune;
pub(crate) mod ps;
mod publish;
mod recipe;
mod rename;
mod restart;
mod restarts;
mod rm;
mod run;
mod shared;
mod start;
mod stats;
mod stop;
mod terminal;
mod told;
pub(crate) mod top;
mod update;
mod uses;
pub(crate) mod volumes;
mod wait;

use crate::args::{Container as Command, Later};
use crate::events::{self, Journal};
use crate::image;
use crate::settings::Settings;
use anyhow::{Context, bail};
use knarr_agent::config::{Config, EngineConfig};
use knarr_agent::cri::v1::{
    Container, ContainerState, ContainerStatus, ContainerStatusRequest, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox, PodSandboxStatusRequest, Signal, StartContainerRequest,
    StopContainerRequest,
};
use knarr_agent::cri::{RuntimeService, Status};
use knarr_agent::engine::Engine;
use knarr_agent::engine::monitors::{Monitors, UnixMonitors};
use knarr_agent::kubelet::pod_cgroup;
use network::Networks;
use places::{Hold, Lock, Place};
use restarts::History;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

pub(crate) use uses::{Use, uses};

/// Seconds between the stop signal and SIGKILL where nobody says.
const STOP_SECONDS: i64 = 10;

/// Runs one command.
pub(crate) async fn dispatch(settings: Settings, command: Command) -> anyhow::Result<ExitCode> {
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    match command {
        Command::Run(Later(arguments)) => run::run(settings, arguments).await,
        Command::Create(Later(arguments)) => run::create(settings, arguments).await,
        Command::Start(arguments) => start::run(settings, arguments).await,
        Command::Ended { directory } => done(ended::run(settings, &directory).await),
        Command::Health { directory, watch, once } => health::run(settings, &directory, &watch, once).await,
        Command::Exec(arguments) => exec::run(settings, arguments).await,
        Command::Attach(arguments) => attach::run(settings, arguments).await,
        Command::Restart(arguments) => done(restart::run(settings, arguments).await),
        Command::Stop(arguments) => done(stop::run(settings, arguments).await),
        Command::Kill(arguments) => done(kill::run(settings, arguments).await),
        Command::Pause(arguments) => done(pause::run(&settings, &arguments.names, true).await),
        Command::Unpause(arguments) => done(pause::run(&settings, &arguments.names, false).await),
        Command::Wait(arguments) => done(wait::run(settings, &arguments.names).await),
        Command::Ps(arguments) => done(ps::run(settings, arguments).await),
        Command::Events(arguments) => done(events::run(settings, arguments).await),
        Command::Logs(arguments) => done(logs::run(settings, arguments).await),
        Command::Inspect(arguments) => done(inspect::run(settings, arguments).await),
        Command::Port { name, port } => done(port::run(&settings, &name, port.as_deref()).await),
        Command::Rename { name, new_name } => done(rename::run(&settings, &name, &new_name).await),
        Command::Stats(arguments) => done(stats::run(settings, arguments).await),
        Command::Update(Later(arguments)) => done(update::run(settings, *arguments).await),
        Command::Cp(arguments) => done(cp::run(settings, arguments).await),
        Command::Diff { name } => done(diff::run(&settings, &name).await),
        Command::Commit(arguments) => done(commit::run(settings, arguments).await),
        Command::Export { output, name } => done(export::run(&settings, &name, output.as_deref()).await),
        Command::Rm(arguments) => done(rm::run(settings, arguments).await),
        Command::Volume(Later(command)) => done(volumes::run(&settings, *command).await),
    }
}

/// One container and the engine that knows it.
pub(crate) struct Standalone {
    /// Where it is.
    pub(crate) place: Place,
    /// Its engine.
    pub(crate) engine: Arc<Engine>,
    /// Its monitor (one at most).
    pub(crate) monitors: Arc<dyn Monitors>,
    networks: Arc<Networks>,
    config: Arc<Config>,
    settings: Settings,
    /// The command that looks after its health.
    health: Vec<String>,
    lock: Lock,
    journal: Journal,
}

impl Standalone {
    /// Opens a container whose lock is held.
    pub(crate) async fn open(settings: &Settings, place: Place, lock: Lock) -> anyhow::Result<Self> {
        let on_exit = helper(settings, &place, "ended")?;
        Self::open_with(settings, place, lock, |engine| engine.on_exit = on_exit).await
    }

    /// The same, with an engine that does as it is told here.
    async fn open_with(
        settings: &Settings,
        place: Place,
        lock: Lock,
        change: impl FnOnce(&mut EngineConfig),
    ) -> anyhow::Result<Self> {
        let health = helper(settings, &place, "health")?;
        let mut config = config_of(settings, &place);
        change(&mut config.engine);
        let config = Arc::new(config);
        let monitors: Arc<dyn Monitors> = Arc::new(UnixMonitors::new(config.clone()));
        let networks = Arc::new(Networks::new(settings, &place));
        let store = image::open(settings)?;
        let engine = Engine::start(config.clone(), store, networks.clone(), monitors.clone()).await?;
        let journal = Journal::of(settings);
        let settings = settings.clone();
        Ok(Self { place, engine, monitors, networks, config, settings, health, lock, journal })
    }

    /// Opens a container that exists.
    pub(crate) async fn at(settings: &Settings, place: Place) -> anyhow::Result<Self> {
        let lock = place.lock(settings, Hold::Shared).await?;
        Self::open(settings, place, lock).await
    }

    /// By name, by id, or by the beginning of an id.
    pub(crate) async fn find(settings: &Settings, name: &str) -> anyhow::Result<Self> {
        if name.trim().is_empty() {
            bail!("invalid container name or ID: value is empty");
        }
        let known = places::all(settings)?;
        let wanted = name.strip_prefix('/').unwrap_or(name);
        if let Some(place) = known.iter().find(|place| place.name == wanted) {
            return Self::at(settings, place.clone()).await;
        }
        let is_id = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut found = known.into_iter().filter(|place| is_id && place.has_id(settings, name));
        match (found.next(), found.next()) {
            (Some(place), None) => Self::at(settings, place).await,
            (Some(_), Some(_)) => bail!("Multiple IDs found with provided prefix: {name}"),
            (None, _) => Err(places::no_such(name)),
        }
    }

    /// What the user calls it.
    pub(crate) fn name(&self) -> &str {
        &self.place.name
    }

    /// Starts the container, which is ours alone, and lets others in.
    pub(crate) async fn begin(&self, container_id: &str) -> anyhow::Result<()> {
        // The future of finding others is as large as ours, of which it is a part.
        Box::pin(shared::join(&self.settings, self)).await?;
        let request = StartContainerRequest { container_id: container_id.to_owned() };
        self.engine.start_container(request).await?;
        self.tell("start", &[]).await;
        health::begin(self, &self.health).await?;
        self.shared().await
    }

    /// The container as the engine sees it; absent when `run` was killed before it got that far.
    pub(crate) async fn container(&self) -> Result<Option<Container>, Status> {
        Ok(self.engine.list_containers(ListContainersRequest::default()).await?.containers.pop())
    }

    /// The container, in whatever state.
    pub(crate) async fn expect(&self) -> anyhow::Result<Container> {
        self.container().await?.ok_or_else(|| places::no_such(self.name()))
    }

    /// The container, which must run.
    pub(crate) async fn running(&self) -> anyhow::Result<Container> {
        let container = self.expect().await?;
        match is_running(&container) {
            true => Ok(container),
            false => bail!("container {} is not running", self.name()),
        }
    }

    /// Everything known about the container.
    pub(crate) async fn status(&self) -> anyhow::Result<Option<ContainerStatus>> {
        let Some(container) = self.container().await? else { return Ok(None) };
        let request = ContainerStatusRequest { container_id: container.id, verbose: false };
        Ok(self.engine.container_status(request).await?.status)
    }

    /// Where its output is kept.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.config.data_dir.join("logs").join(plan::LOG_FILE)
    }

    /// Its directory.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// Its `/etc/hosts`, and that without its own address.
    pub(crate) fn hosts_files(&self) -> (PathBuf, PathBuf) {
        (self.config.data_dir.join("hosts"), self.config.data_dir.join("hosts.base"))
    }

    /// Its pod; none when `run` was killed before it got that far.
    async fn pod(&self) -> anyhow::Result<Option<PodSandbox>> {
        Ok(self.engine.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items.pop())
    }

    /// It has an address.
    pub(crate) async fn is_connected(&self) -> anyhow::Result<bool> {
        let Some(pod) = self.pod().await? else { return Ok(false) };
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id, verbose: false };
        let status = self.engine.pod_sandbox_status(request).await?.status;
        Ok(status.and_then(|status| status.network).is_some_and(|network| !network.ip.is_empty()))
    }

    /// Its address and ports are free for others, until it is started. It must not run.
    pub(crate) async fn disconnect(&self) -> anyhow::Result<()> {
        match self.pod().await? {
            Some(pod) => self.engine.disconnect(&pod.id).await,
            None => Ok(()),
        }
    }

    /// After its end, unless a policy starts it again: its address and ports are given back.
    pub(crate) async fn rest(&self) -> anyhow::Result<()> {
        let Some(facts) = facts::Facts::of(self).await? else { return Ok(()) };
        if facts.state() == "exited"
            && restarts::of_document(&facts.options["RestartPolicy"]) == restarts::Policy::No
        {
            return self.disconnect().await;
        }
        Ok(())
    }

    /// Remembers that somebody wants it ended, so that no policy starts it again.
    pub(crate) fn stays_ended(&self) -> anyhow::Result<()> {
        let history = History::read(self.data_dir())?;
        History { stopped: true, waiting: false, ..history }.write(self.data_dir())
    }

    /// Stops it, and takes it out of its network.
    pub(crate) async fn stop(&self, seconds: Option<i64>, signal: Option<&str>) -> anyhow::Result<()> {
        let running = self.container().await?.filter(is_running);
        self.end(seconds, signal).await?;
        if let Some(container) = running {
            self.tell_of(&container, "stop", &[]);
        }
        self.disconnect().await
    }

    /// Ends it: a signal (its stop signal, if none is given), then SIGKILL after `seconds`, or after those it was
    /// made with. Frozen processes go on first, for they could not end.
    async fn end(&self, seconds: Option<i64>, signal: Option<&str>) -> anyhow::Result<()> {
        let Some(container) = self.container().await? else { return Ok(()) };
        self.stays_ended()?;
        if !is_running(&container) {
            self.tell_end().await;
            return Ok(());
        }
        if self.engine.is_paused(&container.id).await? {
            self.engine.set_paused(&container.id, false).await?;
        }
        let own = container.labels.get(plan::STOP_TIMEOUT_LABEL).and_then(|text| text.parse().ok());
        let mut timeout = seconds.or(own).unwrap_or(STOP_SECONDS);
        if timeout < 0 {
            // For ever, in Docker's words.
            timeout = i64::from(u32::MAX);
        }
        let first = match signal {
            Some(signal) => signal.to_owned(),
            None if timeout == 0 => "KILL".to_owned(),
            None => self.stop_signal().await?,
        };
        self.tell_kill(&container, &first).await;
        if let Some(signal) = signal {
            self.engine.signal(&container.id, signal).await?;
            let ended = self.monitors.wait(&container.pod_sandbox_id, &container.id);
            let grace = std::time::Duration::from_secs(timeout.unsigned_abs());
            // Asked already: what does not end now is killed.
            let _late = tokio::time::timeout(grace, ended).await;
            timeout = 0;
        }
        self.engine.stop_container(StopContainerRequest { container_id: container.id, timeout }).await?;
        self.tell_end().await;
        Ok(())
    }

    /// The signal that asks it to end.
    async fn stop_signal(&self) -> anyhow::Result<String> {
        let signal = self.status().await?.unwrap_or_default().stop_signal();
        let name = signal.as_str_name().trim_start_matches("SIGNAL_");
        Ok(if signal == Signal::RuntimeDefault { "SIGTERM" } else { name }.to_owned())
    }

    async fn publishes(&self) -> anyhow::Result<bool> {
        let ports = |container: &Container| {
            container.labels.get(plan::PORTS_LABEL).is_some_and(|ports| !ports.is_empty())
        };
        Ok(self.container().await?.as_ref().is_some_and(ports))
    }

    /// Alone with the container, as it is now: somebody may have changed it before we were alone.
    pub(crate) async fn alone(&self, settings: &Settings) -> anyhow::Result<Self> {
        self.exclusive().await?;
        Self::open(settings, self.place.clone(), self.lock.clone()).await
    }

    /// Alone with the container from now on: every other command that had it has ended.
    pub(crate) async fn exclusive(&self) -> anyhow::Result<()> {
        if self.alone_or_gone().await? { Ok(()) } else { Err(places::no_such(self.name())) }
    }

    /// The same; false where it was removed meanwhile, for the kernel lets go of one hold before it gives the other.
    async fn alone_or_gone(&self) -> anyhow::Result<bool> {
        self.lock.change(Hold::Exclusive).await?;
        self.lock.is_at(&self.data_dir().join("lock"))
    }

    /// Lets others in again.
    pub(crate) async fn shared(&self) -> anyhow::Result<()> {
        self.lock.change(Hold::Shared).await
    }

    /// Removes it with everything it had, running or not; with `volumes`, those without a name too.
    pub(crate) async fn remove(&self, settings: &Settings, volumes: bool) -> anyhow::Result<()> {
        let container = self.container().await?;
        self.end(Some(0), None).await?;
        // Whoever stayed with it goes now, and may have removed it.
        if !self.alone_or_gone().await? {
            return Ok(());
        }
        if self.publishes().await? {
            // The rest of a network may go when it goes; a port must be free when we say so.
            self.disconnect().await?;
        }
        if let Some(error) = self.engine.remove_all().await.into_iter().next() {
            return Err(error);
        }
        for directory in [&self.config.state_dir, &self.config.data_dir] {
            match std::fs::remove_dir_all(directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", directory.display()));
                }
                _ => {}
            }
        }
        if let Some(container) = container {
            self.tell_of(&container, "destroy", &[]);
        }
        if volumes {
            // Whoever waits for us may be about to look whether it uses one: it is told now that we are gone.
            self.shared().await?;
            volumes::remove_anonymous(settings, &self.place.directory).await?;
        }
        Ok(())
    }
}

/// It has been started and has not ended.
pub(crate) fn is_running(container: &Container) -> bool {
    container.state == ContainerState::ContainerRunning as i32
}

/// A container that nobody waits for and that was to go with its end.
pub(crate) fn is_left_over(container: &Container) -> bool {
    container.state == ContainerState::ContainerExited as i32
        && container.labels.contains_key(plan::AUTO_REMOVE_LABEL)
}

/// Removes such a container; answers whether it was one.
pub(crate) async fn sweep(settings: &Settings, place: &Standalone) -> anyhow::Result<bool> {
    let left = place.container().await?.is_some_and(|container| is_left_over(&container));
    if left {
        place.remove(settings, true).await?;
    }
    Ok(left)
}

/// A command of this program on the same settings: what a monitor runs when its container has ended, what looks after one.
fn helper(settings: &Settings, place: &Place, command: &str) -> anyhow::Result<Vec<String>> {
    let program = std::env::current_exe().context("find this program")?;
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).with_context(|| format!("{}: not UTF-8", path.display()))
    };
    Ok(vec![
        text(&program)?,
        "--config".into(),
        text(&settings.file)?,
        "--data-dir".into(),
        text(&settings.node.data_dir)?,
        "--state-dir".into(),
        text(&settings.node.state_dir)?,
        command.into(),
        place.directory.clone(),
    ])
}

/// The settings of one container's engine: the node's, with directories of its own.
fn config_of(settings: &Settings, place: &Place) -> Config {
    let mut config = settings.node.clone();
    config.data_dir = place.data_dir(settings);
    config.state_dir = place.state_dir(settings);
    config
}

/// Removes every container and the bridge they shared; goes on after an error.
pub(crate) async fn remove_all(settings: &Settings) -> Vec<anyhow::Error> {
    let places = match places::all(settings) {
        Ok(places) => places,
        Err(error) => return vec![error],
    };
    let mut errors = Vec::new();
    for place in places {
        let name = place.name.clone();
        let removed = match Standalone::at(settings, place).await {
            Ok(container) => container.remove(settings, true).await,
            Err(error) => Err(error),
        };
        errors.extend(removed.err().map(|error| error.context(format!("container {name}"))));
    }
    if errors.is_empty() {
        errors.extend(network::remove(settings).await.err());
        errors.extend(remove_cgroup().err());
    }
    errors
}

/// The cgroup above those of all stand-alone containers, also of other instances.
fn remove_cgroup() -> anyhow::Result<()> {
    pod_cgroup::remove_if_empty(&pod_cgroup::hierarchies()?, plan::CGROUP);
    Ok(())
}

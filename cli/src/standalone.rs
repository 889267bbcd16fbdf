//! `knarr run` and its companions: single containers with no daemon and no cluster.
//!
//! Every container has an engine of its own, in this process, over a directory of its own: nothing is shared but
//! the image store and the bridge, so that any number of `knarr` processes can work side by side, and one that is
//! killed leaves its container to its monitor. The next command finds it by its directory.

pub(crate) mod exec;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod ps;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod stop;
pub(crate) mod wait;

mod network;
mod plan;
mod terminal;

use crate::image;
use crate::settings::Settings;
use anyhow::{Context, bail};
use knarr_agent::config::Config;
use knarr_agent::cri::v1::{
    Container, ContainerState, ContainerStatus, ContainerStatusRequest, ListContainersRequest,
    StopContainerRequest,
};
use knarr_agent::cri::{RuntimeService, Status};
use knarr_agent::engine::Engine;
use knarr_agent::engine::monitors::{Monitors, UnixMonitors};
use knarr_agent::kubelet::pod_cgroup;
use std::path::PathBuf;
use std::sync::Arc;

/// One container and the engine that knows it.
pub(crate) struct Standalone {
    /// What the user calls it.
    pub(crate) name: String,
    /// Its engine.
    pub(crate) engine: Arc<Engine>,
    /// Its monitor (one at most).
    pub(crate) monitors: Arc<dyn Monitors>,
    config: Arc<Config>,
}

impl Standalone {
    /// Opens the container called `name`, or an empty place for it.
    pub(crate) async fn open(settings: &Settings, name: &str) -> anyhow::Result<Self> {
        let config = Arc::new(config_of(settings, name));
        let monitors: Arc<dyn Monitors> = Arc::new(UnixMonitors::new(config.clone()));
        let network = network::shared(settings, &config)?;
        let engine = Engine::start(config.clone(), image::open(settings)?, network, monitors.clone()).await?;
        Ok(Self { name: name.to_owned(), engine, monitors, config })
    }

    /// The same, but it must exist.
    pub(crate) async fn find(settings: &Settings, name: &str) -> anyhow::Result<Self> {
        let known = names(settings)?;
        if known.iter().any(|known| known == name) {
            return Self::open(settings, name).await;
        }
        if name.len() >= 4 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            for other in &known {
                let place = Self::open(settings, other).await?;
                if place.container().await?.is_some_and(|container| container.id.starts_with(name)) {
                    return Ok(place);
                }
            }
        }
        bail!("no such container: {name}")
    }

    /// The container as the engine sees it; absent when `run` was killed before it got that far.
    pub(crate) async fn container(&self) -> Result<Option<Container>, Status> {
        Ok(self.engine.list_containers(ListContainersRequest::default()).await?.containers.pop())
    }

    /// The container, which must run.
    pub(crate) async fn running(&self) -> anyhow::Result<Container> {
        match self.container().await? {
            Some(container) if container.state == ContainerState::ContainerRunning as i32 => Ok(container),
            _ => bail!("container {} is not running", self.name),
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

    /// Stops it: its stop signal, then after `seconds` SIGKILL.
    pub(crate) async fn stop(&self, seconds: i64) -> anyhow::Result<()> {
        if let Some(container) = self.container().await? {
            self.engine
                .stop_container(StopContainerRequest { container_id: container.id, timeout: seconds })
                .await?;
        }
        Ok(())
    }

    /// Removes it with everything it had, running or not.
    pub(crate) async fn remove(&self) -> anyhow::Result<()> {
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
        Ok(())
    }
}

/// The settings of one container's engine: the node's, with directories of its own.
fn config_of(settings: &Settings, name: &str) -> Config {
    let mut config = settings.node.clone();
    config.data_dir = containers_dir(settings).join(name);
    config.state_dir = settings.node.state_dir.join("containers").join(name);
    config
}

fn containers_dir(settings: &Settings) -> PathBuf {
    settings.node.data_dir.join("containers")
}

/// Names of all containers, in order.
pub(crate) fn names(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let directory = containers_dir(settings);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("{}", directory.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes every container and the bridge they shared; goes on after an error.
pub(crate) async fn remove_all(settings: &Settings) -> Vec<anyhow::Error> {
    let names = match names(settings) {
        Ok(names) => names,
        Err(error) => return vec![error],
    };
    let mut errors = Vec::new();
    for name in &names {
        let removed = match Standalone::open(settings, name).await {
            Ok(container) => container.remove().await,
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

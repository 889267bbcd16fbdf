//! What every call works with: the four seams (images, network, monitors, runtimes), the registry and the facts of
//! the host.

use super::call_log::Calls;
use super::cgroups::Hierarchies;
use super::events::Events;
use super::host::HostFacts;
use super::monitors::Monitors;
use super::network::PodNetwork;
use super::oci_runtime::OciRuntime;
use super::paths::Paths;
use super::record_store::RecordStore;
use super::registry::Registry;
use crate::config::Config;
use anyhow::{Context, anyhow};
use knarr_cri::Status;
use knarr_images::ImageStore;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Shared by all calls; nothing in it changes but the registry.
pub(crate) struct Core {
    pub(crate) config: Arc<Config>,
    pub(crate) images: ImageStore,
    pub(crate) network: Arc<dyn PodNetwork>,
    pub(crate) monitors: Arc<dyn Monitors>,
    pub(crate) registry: Registry,
    pub(crate) events: Events,
    pub(crate) calls: Calls,
    pub(crate) paths: Paths,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) host: HostFacts,
    runtimes: BTreeMap<String, OciRuntime>,
}

impl Core {
    pub(crate) fn new(
        config: Arc<Config>,
        images: ImageStore,
        network: Arc<dyn PodNetwork>,
        monitors: Arc<dyn Monitors>,
    ) -> anyhow::Result<Self> {
        let paths = Paths::new(&config);
        let hierarchies = Hierarchies::detect().context("finding the cgroup hierarchies")?;
        let host = HostFacts::detect(config.engine.clamp_denied_limits, &hierarchies)?;
        let registry = Registry::new(
            RecordStore::open(paths.sandbox_records())?,
            RecordStore::open(paths.container_records())?,
        );
        let runtimes = runtimes(&config, &paths)?;
        Ok(Self {
            config,
            images,
            network,
            monitors,
            registry,
            events: Events::new(),
            calls: Calls::default(),
            paths,
            hierarchies,
            host,
            runtimes,
        })
    }

    /// The runtime behind a RuntimeClass handler.
    pub(crate) fn runtime(&self, handler: &str) -> Result<&OciRuntime, Status> {
        self.runtimes
            .get(handler)
            .ok_or_else(|| Status::invalid_argument(format!("no runtime for {handler:?} is configured")))
    }

    /// Names of all handlers; the default one is empty.
    pub(crate) fn handlers(&self) -> impl Iterator<Item = &String> {
        self.runtimes.keys()
    }

    /// The runtime of a container's pod. A pod whose handler was taken out of the configuration gets the default one,
    /// which can still find nothing and say so.
    pub(crate) fn runtime_of(&self, sandbox_id: &str) -> anyhow::Result<OciRuntime> {
        let (handler, parent) = match self.registry.find_sandbox(sandbox_id) {
            Ok(Some(sandbox)) => {
                sandbox.record.with(|record| (record.runtime_handler.clone(), record.cgroup_parent.clone()))
            }
            _ => Default::default(),
        };
        let runtime = self.runtimes.get(&handler).or_else(|| self.runtimes.get(""));
        let runtime = runtime.ok_or_else(|| anyhow!("no runtime for {handler:?} is configured"))?;
        Ok(runtime.in_group(&parent))
    }

    /// The group of a container's processes.
    pub(crate) fn cgroup_of(&self, sandbox_id: &str, container_id: &str) -> Option<String> {
        let sandbox = self.registry.find_sandbox(sandbox_id).ok().flatten()?;
        Some(
            sandbox.record.with(|record| super::cgroups::container_path(&record.cgroup_parent, container_id)),
        )
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// The configured handlers, and the default one in any case.
fn runtimes(config: &Config, paths: &Paths) -> anyhow::Result<BTreeMap<String, OciRuntime>> {
    let mut binaries = config.engine.runtimes.clone();
    if !binaries.contains_key("") {
        binaries.insert(String::new(), sibling_binary("knarr-runtime"));
    }
    binaries
        .into_iter()
        .map(|(handler, binary)| {
            let valid = handler.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            anyhow::ensure!(valid, "engine.runtimes: {handler:?} is not a valid handler name");
            let root = paths.runtime_root(&handler);
            Ok((handler, OciRuntime::new(binary, root)))
        })
        .collect()
}

/// A program installed beside this one; left to PATH where it is not.
pub(crate) fn sibling_binary(name: &str) -> PathBuf {
    let beside =
        std::env::current_exe().ok().and_then(|exe| exe.parent().map(|directory| directory.join(name)));
    beside.filter(|path| path.exists()).unwrap_or_else(|| Path::new(name).to_owned())
}

/// Nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

//! Processors for containers alone (`cpu_manager_policy = "static"`): a container of a Guaranteed pod that asks for whole
//! processors gets them for itself, and everything else runs on the rest. Off by default, as with a kubelet.
//!
//! Who has which is decided when the pod is admitted, and is on disk (`cpu_manager_state`) before it is made. When what is
//! left changes, every other running container is moved by one call to the runtime.

mod books;
mod set;

pub use set::CpuSet;

use crate::config::KubeletConfig;
use crate::kubelet::host::{CALL_DEADLINE, within};
use crate::kubelet::labels;
use crate::kubelet::resources;
use books::{Books, Cores};
use k8s_openapi::api::core::v1::Pod;
use knarr_cri::RuntimeService;
use knarr_cri::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, LinuxContainerResources, ListContainersRequest,
    UpdateContainerResourcesRequest,
};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

const FILE: &str = "cpu_manager_state";
const STATIC: &str = "static";
/// Between two looks at all containers.
const RECONCILE: Duration = Duration::from_secs(10);

/// The processors of a node.
#[derive(Debug, Clone)]
pub struct Cpus(Option<Arc<Manager>>);

#[derive(Debug)]
struct Manager {
    file: PathBuf,
    cores: Cores,
    /// Never given to a container alone.
    reserved: CpuSet,
    /// Held only for a decision.
    books: Mutex<Books>,
    changed: Notify,
}

impl Cpus {
    /// Nobody decides about processors.
    pub fn none() -> Cpus {
        Cpus(None)
    }

    /// Whether containers may have processors for themselves.
    pub fn are_given(&self) -> bool {
        self.0.is_some()
    }

    /// As the settings say; what is on disk under the kubelet's directory stays in force. Blocks.
    pub fn load(config: &KubeletConfig, root: &Path) -> anyhow::Result<Cpus> {
        match config.cpu_manager_policy.as_str() {
            "" | "none" => return Ok(Cpus(None)),
            STATIC => {}
            other => anyhow::bail!("kubelet.cpu_manager_policy: unknown policy: \"{other}\""),
        }
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
        let all: CpuSet = online.parse().map_err(anyhow::Error::msg)?;
        let cores = cores(&all);
        let wrong = |error: String| anyhow::anyhow!("kubelet.{error}");
        let reserved = match &config.reserved_system_cpus {
            Some(text) => {
                text.parse::<CpuSet>().map_err(|error| wrong(format!("reserved_system_cpus: {error}")))?
            }
            None => first(&cores, config.reserved().map_err(wrong)?.get("cpu").and_then(resources::milli)),
        };
        anyhow::ensure!(
            !reserved.is_empty() && reserved.without(&all).is_empty() && reserved.len() < all.len(),
            "kubelet.cpu_manager_policy: the static policy requires system_reserved.cpu + kube_reserved.cpu (or \
             reserved_system_cpus) to be greater than zero and less than all processors ({all})"
        );
        let file = root.join(FILE);
        let books = read(&file, &all)?;
        let manager = Manager { file, cores, reserved, books: Mutex::new(books), changed: Notify::new() };
        Ok(Cpus(Some(Arc::new(manager))))
    }

    /// Gives the containers of a pod their processors; one that has them keeps them. The error is the kubelet's. Blocks.
    pub fn reserve(&self, pod: &Pod) -> Result<(), String> {
        let Some(manager) = &self.0 else { return Ok(()) };
        let mut books = manager.lock();
        let before = books.clone();
        if books.reserve(pod, &manager.cores, &manager.reserved)? {
            if let Err(error) = write(&manager.file, &books) {
                *books = before;
                return Err(format!("{}: {error}", manager.file.display()));
            }
            manager.changed.notify_one();
        }
        Ok(())
    }

    /// The pod is gone. Blocks.
    pub fn release(&self, uid: &str) {
        let Some(manager) = &self.0 else { return };
        let mut books = manager.lock();
        if books.release(uid) {
            if let Err(error) = write(&manager.file, &books) {
                tracing::warn!("{}: {error}", manager.file.display());
            }
            manager.changed.notify_one();
        }
    }

    /// `cpuset.cpus` of a container; empty where nobody decides about it.
    pub fn of(&self, uid: &str, container: &str) -> String {
        self.0.as_ref().map(|manager| manager.lock().of(uid, container).to_string()).unwrap_or_default()
    }

    /// The processors that a container has for itself.
    pub fn alone(&self, uid: &str, container: &str) -> Vec<i64> {
        let Some(manager) = &self.0 else { return Vec::new() };
        let books = manager.lock();
        let own = books.entries.get(uid).and_then(|containers| containers.get(container));
        own.into_iter().flat_map(|set| set.0.iter().copied().map(i64::from)).collect()
    }

    /// Whether any container of the pod has processors for itself.
    pub fn has_own(&self, uid: &str) -> bool {
        self.0.as_ref().is_some_and(|manager| manager.lock().entries.contains_key(uid))
    }

    /// The processors that containers may get for themselves, whoever has them.
    pub fn to_give(&self) -> Vec<i64> {
        let Some(manager) = &self.0 else { return Vec::new() };
        let all = manager.cores.iter().fold(CpuSet::default(), |sum, core| sum.with(core));
        all.without(&manager.reserved).0.iter().copied().map(i64::from).collect()
    }

    /// Moves containers to what is theirs now. Never returns.
    pub async fn run(self, runtime: Arc<dyn RuntimeService>) {
        let Some(manager) = self.0.clone() else { return };
        let mut known = BTreeMap::new();
        loop {
            match self.move_all(&*runtime, &known).await {
                Ok(now) => known = now,
                Err(error) => tracing::warn!("processors of containers: {error}"),
            }
            // Whether told or not, everything is looked at.
            let _ = tokio::time::timeout(RECONCILE, manager.changed.notified()).await;
        }
    }

    /// Compares every running container with what was last told to the runtime; what it has now.
    async fn move_all(
        &self,
        runtime: &dyn RuntimeService,
        known: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, String> {
        let state = Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() });
        let filter = Some(ContainerFilter { state, ..Default::default() });
        let listed = within(CALL_DEADLINE, runtime.list_containers(ListContainersRequest { filter })).await;
        let mut now = BTreeMap::new();
        for container in listed.map_err(|status| status.message().to_owned())?.containers {
            let label = |key: &str| container.labels.get(key).cloned();
            let (Some(uid), Some(name)) = (label(labels::POD_UID), label(labels::CONTAINER_NAME)) else {
                continue;
            };
            let wanted = self.of(&uid, &name);
            if known.get(&container.id) == Some(&wanted) {
                now.insert(container.id, wanted);
                continue;
            }
            let linux = LinuxContainerResources { cpuset_cpus: wanted.clone(), ..Default::default() };
            let request = UpdateContainerResourcesRequest {
                container_id: container.id.clone(),
                linux: Some(linux),
                ..Default::default()
            };
            match within(CALL_DEADLINE, runtime.update_container_resources(request)).await {
                Ok(_) => drop(now.insert(container.id, wanted)),
                // It may have ended meanwhile.
                Err(status) => tracing::debug!(container = container.id, "cpuset: {}", status.message()),
            }
        }
        Ok(now)
    }
}

impl Manager {
    fn lock(&self) -> MutexGuard<'_, Books> {
        // Nothing panics while it holds the lock.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The processors of each core, neighbours together.
fn cores(all: &CpuSet) -> Cores {
    let siblings = |number: &u32| -> CpuSet {
        let path = format!("/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list");
        let listed = std::fs::read_to_string(path).ok().and_then(|text| text.parse::<CpuSet>().ok());
        let own = listed.filter(|set| set.0.contains(number));
        // A kernel that does not tell has cores of one thread.
        own.unwrap_or_else(|| [*number].into_iter().collect())
    };
    let mut cores = Cores::new();
    for number in &all.0 {
        let core: CpuSet = siblings(number).0.intersection(&all.0).copied().collect();
        if !cores.contains(&core) {
            cores.push(core);
        }
    }
    cores
}

/// As many processors as these thousandths need, core by core.
fn first(cores: &Cores, milli: Option<i64>) -> CpuSet {
    let count = usize::try_from((milli.unwrap_or(0) + 999) / 1000).unwrap_or(0);
    cores.iter().flat_map(|core| core.0.iter().copied()).take(count).collect()
}

fn read(file: &Path, all: &CpuSet) -> anyhow::Result<Books> {
    let fresh = Books { policy_name: STATIC.to_owned(), default_cpu_set: all.clone(), ..Books::default() };
    let bytes = match std::fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(fresh),
        bytes => bytes?,
    };
    let books: Books = serde_json::from_slice(&bytes).map_err(|error| {
        anyhow::anyhow!("{}: {error}; drain the node and remove the file", file.display())
    })?;
    let given =
        books.entries.values().flat_map(BTreeMap::values).fold(CpuSet::default(), |sum, set| sum.with(set));
    anyhow::ensure!(
        books.policy_name == STATIC && books.default_cpu_set.with(&given) == *all,
        "{}: it is of another policy or of other processors; drain the node and remove the file",
        file.display()
    );
    Ok(books)
}

fn write(file: &Path, books: &Books) -> std::io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(&serde_json::to_vec(books)?)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    Ok(())
}

//! Every sandbox and container this engine knows, in memory.
//!
//! A record is read without waiting (a `watch` cell holds the current one, and lets callers wait for a change). It
//! is changed by one writer at a time, on disk first in order, in memory in any case: a full disk must not make a dead
//! container look alive. Gates are held across awaits and belong to one sandbox or container; no lock of the whole
//! registry ever is.

use super::lifecycle::leftovers::Leftovers;
use super::record_store::RecordStore;
use super::records::{ContainerRecord, SandboxPhase, SandboxRecord};
use super::{blocking::blocking, ids};
use knarr_cri::Status;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{OwnedRwLockWriteGuard, watch};
use tokio_util::sync::CancellationToken;

/// A record with its writer's lock.
#[derive(Debug)]
pub(crate) struct Cell<T> {
    id: String,
    current: watch::Sender<T>,
    /// Held while a change is written, on a blocking thread only.
    writing: Mutex<()>,
    store: Arc<RecordStore<T>>,
}

impl<T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Cell<T> {
    fn new(id: &str, record: T, store: Arc<RecordStore<T>>) -> Self {
        Self { id: id.to_owned(), current: watch::Sender::new(record), writing: Mutex::new(()), store }
    }

    /// The record as it is now.
    pub(crate) fn get(&self) -> T {
        self.current.borrow().clone()
    }

    /// Looks at the record without copying it.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.current.borrow())
    }

    /// Told of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<T> {
        self.current.subscribe()
    }

    /// Changes the record; an error means that the disk does not know.
    pub(crate) async fn update(
        self: &Arc<Self>,
        change: impl FnOnce(&mut T) + Send + 'static,
    ) -> anyhow::Result<()> {
        self.write(change, RecordStore::put).await
    }

    /// The same; who sees the change can rely on it after a power failure.
    pub(crate) async fn update_synced(
        self: &Arc<Self>,
        change: impl FnOnce(&mut T) + Send + 'static,
    ) -> anyhow::Result<()> {
        self.write(change, RecordStore::put_synced).await
    }

    async fn write(
        self: &Arc<Self>,
        change: impl FnOnce(&mut T) + Send + 'static,
        put: fn(&RecordStore<T>, &str, &T) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let cell = self.clone();
        blocking(move || {
            let _writing = cell.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut record = cell.get();
            change(&mut record);
            let written = put(&cell.store, &cell.id, &record);
            cell.current.send_replace(record);
            written
        })
        .await
    }
}

/// One sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) record: Arc<Cell<SandboxRecord>>,
    /// Shared by what happens inside the pod, exclusive for its set-up, stop and removal.
    pub(crate) gate: Arc<tokio::sync::RwLock<()>>,
    /// Of containers that have been removed.
    pub(crate) leftovers: Leftovers,
}

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox_id: String,
    pub(crate) record: Arc<Cell<ContainerRecord>>,
    /// Held by start, removal and the clean-up after an exit.
    pub(crate) gate: tokio::sync::Mutex<()>,
    /// Cancelled to break off a start that does not come to its end.
    pub(crate) ending: CancellationToken,
    /// The runtime holds nothing of it any more. Whoever changes this holds the gate.
    pub(crate) cleared: AtomicBool,
    /// When and how much CPU time was seen last: (nanoseconds since the epoch, nanoseconds used).
    pub(crate) last_cpu: Mutex<Option<(i64, u64)>>,
}

impl Container {
    /// Returns when the container has ended.
    pub(crate) async fn ended(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        drop(self.record.subscribe().wait_for(|record| record.exit.is_some()).await);
    }
}

#[derive(Debug, Default)]
struct Entries {
    sandboxes: BTreeMap<String, Arc<Sandbox>>,
    containers: BTreeMap<String, Arc<Container>>,
    /// Reserved names and the ids they belong to.
    names: BTreeMap<String, String>,
}

impl Entries {
    fn reserve(&mut self, name: &str, id: &str) -> Result<(), String> {
        match self.names.get(name) {
            Some(owner) if owner != id => Err(owner.clone()),
            _ => {
                self.names.insert(name.to_owned(), id.to_owned());
                Ok(())
            }
        }
    }
}

/// The lock inside is held for single look-ups and insertions only.
#[derive(Debug)]
pub(crate) struct Registry {
    entries: RwLock<Entries>,
    pub(crate) sandbox_records: Arc<RecordStore<SandboxRecord>>,
    pub(crate) container_records: Arc<RecordStore<ContainerRecord>>,
}

impl Registry {
    pub(crate) fn new(
        sandboxes: RecordStore<SandboxRecord>,
        containers: RecordStore<ContainerRecord>,
    ) -> Self {
        Self {
            entries: RwLock::default(),
            sandbox_records: Arc::new(sandboxes),
            container_records: Arc::new(containers),
        }
    }

    fn read<R>(&self, look: impl FnOnce(&Entries) -> R) -> R {
        look(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<R>(&self, change: impl FnOnce(&mut Entries) -> R) -> R {
        change(&mut self.entries.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes `name` for `id`, or answers whose it is.
    pub(crate) fn reserve(&self, name: &str, id: &str) -> Result<(), String> {
        self.write(|entries| entries.reserve(name, id))
    }

    /// Whose the name is.
    pub(crate) fn owner_of(&self, name: &str) -> Option<String> {
        self.read(|entries| entries.names.get(name).cloned())
    }

    /// Frees the names of `id`.
    pub(crate) fn release(&self, id: &str) {
        self.write(|entries| entries.names.retain(|_, owner| owner != id));
    }

    /// A new sandbox under its name, or whose the name is. Who finds either finds the gate held by the caller.
    pub(crate) async fn begin_sandbox(
        &self,
        record: SandboxRecord,
    ) -> Result<(Arc<Sandbox>, OwnedRwLockWriteGuard<()>), String> {
        let name = record.name_key();
        let sandbox = self.new_sandbox(record);
        let gate = sandbox.gate.clone().write_owned().await;
        self.write(|entries| {
            entries.reserve(&name, &sandbox.id)?;
            entries.sandboxes.insert(sandbox.id.clone(), sandbox.clone());
            Ok((sandbox, gate))
        })
    }

    pub(crate) fn insert_sandbox(&self, record: SandboxRecord) -> Arc<Sandbox> {
        let sandbox = self.new_sandbox(record);
        self.write(|entries| entries.sandboxes.insert(sandbox.id.clone(), sandbox.clone()));
        sandbox
    }

    fn new_sandbox(&self, record: SandboxRecord) -> Arc<Sandbox> {
        Arc::new(Sandbox {
            id: record.id.clone(),
            gate: Arc::default(),
            leftovers: Leftovers::default(),
            record: Arc::new(Cell::new(&record.id.clone(), record, self.sandbox_records.clone())),
        })
    }

    pub(crate) fn insert_container(&self, record: ContainerRecord) -> Arc<Container> {
        let container = Arc::new(Container {
            id: record.id.clone(),
            sandbox_id: record.sandbox_id.clone(),
            record: Arc::new(Cell::new(&record.id.clone(), record, self.container_records.clone())),
            gate: tokio::sync::Mutex::default(),
            ending: CancellationToken::new(),
            cleared: AtomicBool::new(false),
            last_cpu: Mutex::default(),
        });
        self.write(|entries| entries.containers.insert(container.id.clone(), container.clone()));
        container
    }

    pub(crate) fn remove_sandbox(&self, id: &str) {
        self.write(|entries| {
            entries.sandboxes.remove(id);
            entries.names.retain(|_, owner| owner != id);
        });
    }

    pub(crate) fn remove_container(&self, id: &str) {
        self.write(|entries| entries.containers.remove(id));
        self.release(id);
    }

    /// By id or unique prefix.
    pub(crate) fn find_sandbox(&self, id: &str) -> Result<Option<Arc<Sandbox>>, Status> {
        self.read(|entries| Ok(ids::find(&entries.sandboxes, id)?.cloned()))
    }

    /// By id or unique prefix.
    pub(crate) fn find_container(&self, id: &str) -> Result<Option<Arc<Container>>, Status> {
        self.read(|entries| Ok(ids::find(&entries.containers, id)?.cloned()))
    }

    /// The sandbox, or CRI's NotFound.
    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Status> {
        self.find_sandbox(id)?.ok_or_else(|| {
            Status::not_found(format!("an error occurred when try to find sandbox {id:?}: not found"))
        })
    }

    /// The container, or CRI's NotFound.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>, Status> {
        self.find_container(id)?.ok_or_else(|| {
            Status::not_found(format!("an error occurred when try to find container {id:?}: not found"))
        })
    }

    /// Every sandbox whose set-up is complete.
    pub(crate) fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        let mut all = self.all_sandboxes();
        all.retain(|sandbox| sandbox.record.with(|record| record.phase != SandboxPhase::Starting));
        all
    }

    /// Those still being set up too.
    pub(crate) fn all_sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.read(|entries| entries.sandboxes.values().cloned().collect())
    }

    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.read(|entries| entries.containers.values().cloned().collect())
    }

    pub(crate) fn containers_of(&self, sandbox_id: &str) -> Vec<Arc<Container>> {
        let mut all = self.containers();
        all.retain(|container| container.sandbox_id == sandbox_id);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: String) -> SandboxRecord {
        SandboxRecord {
            id,
            created_at: 1,
            boot_id: "now".into(),
            phase: SandboxPhase::Starting,
            config: Default::default(),
            runtime_handler: String::new(),
            cgroup_parent: String::new(),
            owns_cgroup_parent: false,
            addresses: Vec::new(),
        }
    }

    /// Whether this one has the name; who has not must find the sandbox that has, with its gate held.
    async fn contend(registry: &Registry, id: String, both_have_looked: &tokio::sync::Barrier) -> bool {
        match registry.begin_sandbox(record(id)).await {
            Ok((_sandbox, _gate)) => {
                both_have_looked.wait().await;
                true
            }
            Err(owner) => {
                let found = registry.sandbox(&owner).map(|sandbox| sandbox.gate.try_read().is_err());
                both_have_looked.wait().await;
                assert!(
                    found.expect("a name belongs to a sandbox that can be found"),
                    "{owner}: gate not held"
                );
                false
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_finds_a_name_taken_finds_its_sandbox_with_the_gate_held() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = |name: &str| directory.path().join(name);
        let registry = Arc::new(Registry::new(
            RecordStore::open(store("sandboxes")).expect("sandboxes"),
            RecordStore::open(store("containers")).expect("containers"),
        ));
        for round in 0..2_000 {
            let looked = Arc::new(tokio::sync::Barrier::new(2));
            let (shared, other) = (registry.clone(), looked.clone());
            let rival = tokio::spawn(async move { contend(&shared, format!("b{round}"), &other).await });
            let first = contend(&registry, format!("a{round}"), &looked).await;
            assert_ne!(first, rival.await.expect("the rival"), "round {round}: one of two has the name");
            registry.remove_sandbox(&format!("a{round}"));
            registry.remove_sandbox(&format!("b{round}"));
        }
    }
}

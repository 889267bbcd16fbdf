//! One at a time, among all servers of one store: for writes that are decided by counting what is there (addresses,
//! ports, quotas), which no revision of a single object can guard.
//!
//! Within this process it is a lock. Where others share the store it is a key as well, which only one can create and
//! which is gone when the write is done. Writes come back through the store's one history, so who has the key has seen
//! every write of those who had it before. A server that died with it loses its turn after a while.

use crate::store::{Draft, Entry, Store, StoreError};
use knarr_api::Status;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};

/// Longer than any turn: webhooks have a say in it, for half a minute at most.
const LONGEST: Duration = Duration::from_secs(40);

/// A kind of turn.
#[derive(Debug)]
pub(crate) struct Turnstile {
    key: &'static str,
    /// Held across awaits: that is what it is for.
    lock: Mutex<()>,
}

/// Nobody else has it while this lives.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    /// Dropped before the lock, so that the key is on its way out when the next one of this process comes.
    _shared: Option<Shared>,
    _lock: MutexGuard<'a, ()>,
}

struct Shared {
    store: Arc<dyn Store>,
    entry: Arc<Entry>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Shared({:?})", self.entry)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let (store, entry) = (self.store.clone(), self.entry.clone());
        // Outside of a runtime the process ends: others take the key when its time is over.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = store.delete(&entry.key, entry.revision, draft()).await {
                    tracing::warn!(key = %entry.key, %error, "giving a turn back");
                }
            });
        }
    }
}

fn draft() -> Draft {
    Draft::of(&json!({"kind": "Turn", "apiVersion": "knarr/v1"}))
}

impl Turnstile {
    /// `key` is `GROUP/RESOURCE/NAME`, of no resource that is served.
    pub(crate) const fn new(key: &'static str) -> Self {
        Self { key, lock: Mutex::const_new(()) }
    }

    /// Waits for the turn.
    pub(crate) async fn take(&self, store: &Arc<dyn Store>) -> Result<Turn<'_>, Status> {
        let lock = self.lock.lock().await;
        let shared = if store.is_shared() {
            let entry = self.create(&**store).await.map_err(Status::internal)?;
            Some(Shared { store: store.clone(), entry })
        } else {
            None
        };
        Ok(Turn { _shared: shared, _lock: lock })
    }

    async fn create(&self, store: &dyn Store) -> Result<Arc<Entry>, StoreError> {
        loop {
            match store.create(self.key, draft()).await {
                Err(StoreError::Exists) => self.wait(store).await?,
                other => return other,
            }
        }
    }

    /// Until whoever has the key gives it back, or has had it for too long.
    async fn wait(&self, store: &dyn Store) -> Result<(), StoreError> {
        // Gone, or there and not yet heard of: the next attempt tells.
        let Some(entry) = store.get(self.key).await? else { return Ok(()) };
        let mut watch = match store.watch(self.key, entry.revision) {
            Err(StoreError::Compacted { .. }) => store.watch(self.key, store.revision())?,
            other => other?,
        };
        if tokio::time::timeout(LONGEST, watch.next()).await.is_err() {
            tracing::warn!(key = self.key, "a server has not given its turn back: taken from it");
            match store.delete(self.key, entry.revision, draft()).await {
                Ok(_) | Err(StoreError::NotFound | StoreError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

//! What is left of a container that is removed: a mounted root file system, a snapshot, directories. No caller waits for
//! it to go, since unmounting a root that was written to first writes out the whole disk that it lies on.
//!
//! A container is removed once its record says so. The record itself goes last, so the next engine goes on with what a
//! killed one has not cleared away. Nothing of it outlives the pod: who removes that waits, and is told what stays.

use crate::engine::core::Core;
use crate::engine::failures::Failures;
use crate::engine::records::ContainerRecord;
use crate::engine::registry::Sandbox;
use crate::engine::{blocking::blocking, bundle};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One removed container.
#[derive(Debug)]
pub(crate) struct Leftover {
    id: String,
    /// How many mounts it had.
    mounts: usize,
}

impl Leftover {
    pub(crate) fn of(record: &ContainerRecord) -> Leftover {
        Leftover { id: record.id.clone(), mounts: record.config.mounts.len() }
    }
}

/// Those of one pod.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    waiting: Mutex<Vec<Leftover>>,
    /// Held by who clears them away.
    clearing: tokio::sync::Mutex<()>,
}

impl Leftovers {
    /// It goes when they are cleared away the next time.
    pub(crate) fn add(&self, one: Leftover) {
        self.waiting().push(one);
    }

    /// Ids of those that are still there.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.waiting().iter().map(|one| one.id.clone()).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Leftover>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clears away what is there, and waits for others who do. What cannot go is kept for the next who tries.
pub(crate) async fn clear(core: &Arc<Core>, sandbox: &Sandbox) -> anyhow::Result<()> {
    let _turn = sandbox.leftovers.clearing.lock().await;
    let (shared, found) = (core.clone(), std::mem::take(&mut *sandbox.leftovers.waiting()));
    if found.is_empty() {
        return Ok(());
    }
    let (failures, stuck) = blocking(move || Ok(remove(&shared, found))).await?;
    sandbox.leftovers.waiting().extend(stuck);
    failures.into_result()
}

/// The same behind the caller's back.
pub(crate) fn clear_later(core: &Arc<Core>, sandbox: Arc<Sandbox>) {
    let core = core.clone();
    tokio::spawn(async move {
        if let Err(left) = clear(&core, &sandbox).await {
            tracing::warn!(pod = %sandbox.id, "after removing a container: {left:#}");
        }
    });
}

fn remove(core: &Core, found: Vec<Leftover>) -> (Failures, Vec<Leftover>) {
    let mut failures = Failures::default();
    let remove_one = |one: &Leftover| {
        bundle::remove(core, &one.id, one.mounts)?;
        core.registry.container_records.remove(&one.id)
    };
    let stays = |one: &Leftover| failures.note("clearing away a container", remove_one(one)).is_none();
    let stuck = found.into_iter().filter(stays).collect();
    (failures, stuck)
}

//! Taking a gate to end what is behind it. A start under way holds it; one that takes long (a runtime or a hook that
//! hangs) is broken off, so that a pod can be ended at any time, whatever its runtime does.

use crate::engine::core::Core;
use crate::engine::registry::{Container, Sandbox};
use std::future::Future;
use std::time::Duration;
use tokio::sync::{MutexGuard, RwLockWriteGuard};

/// A healthy start takes tens of milliseconds; this long even on a machine in trouble.
const PATIENCE: Duration = Duration::from_secs(5);

/// The gate of a pod that is to be stopped or removed.
pub(crate) async fn of_sandbox<'a>(core: &Core, sandbox: &'a Sandbox) -> RwLockWriteGuard<'a, ()> {
    or_after_patience(sandbox.gate.write(), || {
        core.registry.containers_of(&sandbox.id).iter().for_each(|container| break_off(container));
    })
    .await
}

/// The gate of a container that is to be removed.
pub(crate) async fn of_container(container: &Container) -> MutexGuard<'_, ()> {
    or_after_patience(container.gate.lock(), || break_off(container)).await
}

fn break_off(container: &Container) {
    let starting = container.record.with(|record| record.started_at == 0 && record.exit.is_none());
    // Only who starts it listens, and holds the gate.
    if starting && container.gate.try_lock().is_err() {
        tracing::warn!(container = %container.id, "its start takes too long and is broken off");
        container.ending.cancel();
    }
}

async fn or_after_patience<T>(gate: impl Future<Output = T>, break_off: impl Fn()) -> T {
    tokio::pin!(gate);
    loop {
        tokio::select! {
            guard = &mut gate => return guard,
            () = tokio::time::sleep(PATIENCE) => break_off(),
        }
    }
}

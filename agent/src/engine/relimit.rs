//! Other limits for a container that is there: for what runs, and in its `config.json` for what starts next. What is not
//! named stays, also what CRI has no word for.

use super::Engine;
use super::additions::{self, Additions};
use super::blocking::blocking;
use super::bundle;
use super::core::Core;
use super::spec::{merge_resources, oci_resources};
use knarr_cri::v1::{ContainerState, LinuxContainerResources};
use knarr_runtime::spec::Resources;
use serde_json::Value;

impl Engine {
    /// The limits of `update`, and those of `more`, for a container in whatever state.
    pub async fn limit(
        &self,
        container_id: &str,
        update: LinuxContainerResources,
        more: &Additions,
    ) -> anyhow::Result<()> {
        let container = self.core.registry.container(container_id)?;
        let _gate = container.gate.lock().await;
        let record = container.record.get();
        let mut resources = oci_resources(&update, &self.core.host);
        additions::limit(more, &mut resources);
        if record.state() == ContainerState::ContainerRunning {
            self.core.runtime_of(&container.sandbox_id)?.update(&container.id, &resources).await?;
        }
        let (core, id) = (self.core.clone(), container.id.clone());
        blocking(move || write(&core, &id, &resources)).await?;
        let merged = merge_resources(&record.resources().cloned().unwrap_or_default(), &update);
        let recorded = container.record.update(move |record| {
            record.config.linux.get_or_insert_default().resources = Some(merged);
        });
        recorded.await
    }
}

/// Writes what is named over what the container has.
pub(crate) fn write(core: &Core, id: &str, resources: &Resources) -> anyhow::Result<()> {
    let mut spec = bundle::read_spec(core, id)?;
    if let Some(linux) = spec.linux.as_mut() {
        linux.resources = Some(over(linux.resources.take().unwrap_or_default(), resources)?);
    }
    bundle::write_spec(core, id, &spec)
}

fn over(old: Resources, new: &Resources) -> anyhow::Result<Resources> {
    let mut all = serde_json::to_value(old)?;
    merge(&mut all, serde_json::to_value(new)?);
    Ok(serde_json::from_value(all)?)
}

/// What is empty is not written, so all that is there is meant.
fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            new.into_iter().for_each(|(name, value)| merge(old.entry(name).or_insert(Value::Null), value));
        }
        (old, new) => *old = new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knarr_runtime::spec::{BlockIo, Memory, Pids};

    #[test]
    fn what_is_not_named_stays() {
        let old = Resources {
            pids: Some(Pids { limit: Some(5) }),
            memory: Some(Memory { limit: Some(1), reservation: Some(2), ..Memory::default() }),
            block_io: Some(BlockIo { weight: Some(10), ..BlockIo::default() }),
            ..Resources::default()
        };
        let new = Resources {
            memory: Some(Memory { limit: Some(7), ..Memory::default() }),
            ..Resources::default()
        };
        let both = over(old.clone(), &new).unwrap();
        assert_eq!((both.pids, both.block_io), (old.pids, old.block_io));
        let memory = both.memory.unwrap();
        assert_eq!((memory.limit, memory.reservation), (Some(7), Some(2)));
    }
}

//! Events live for one hour after their last write, whatever times they tell.

use super::informer::{Key, Lister};
use super::metadata::Metadata;
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::DeleteParams;
use kube::{Api, Client, ResourceExt};
use std::time::Duration;

/// From the last write of an event.
const TIME_TO_LIVE: SignedDuration = SignedDuration::from_hours(1);

/// Woken by its events.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("event-ttl", plane);
    let controller = EventTtl { client: wire.client(), events: wire.keys() };
    wire.run(1, controller)
}

/// Everything one reconcile needs.
pub(crate) struct EventTtl {
    pub(crate) client: Client,
    /// What events tell is of no interest here.
    pub(crate) events: Lister<Metadata<Event>>,
}

impl Reconcile for EventTtl {
    /// Deletes one event when its time is over.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(event) = self.events.get(&key) else { return Ok(Next::Wait) };
        let left = TIME_TO_LIVE - Timestamp::now().duration_since(last_written(&event));
        if left > SignedDuration::ZERO {
            return Ok(Next::After(Duration::try_from(left).unwrap_or_default()));
        }
        let api: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
        ignore_not_found(api.delete(&key.name, &DeleteParams::default()).await)?;
        Ok(Next::Wait)
    }
}

fn last_written(event: &Metadata<Event>) -> Timestamp {
    let written = event.managed_fields().iter().filter_map(|entry| entry.time.as_ref().map(|Time(at)| *at));
    let created = event.creation_timestamp().map(|Time(at)| at);
    written.chain(created).max().unwrap_or_else(Timestamp::now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_write_counts_and_not_what_an_event_tells() {
        let object = json!({"metadata": {"name": "e", "creationTimestamp": "2026-01-01T01:00:00Z",
            "managedFields": [{"manager": "m", "time": "2026-01-01T02:00:00Z"}, {"manager": "n"}]},
            "involvedObject": {}, "lastTimestamp": "2020-01-01T00:00:00Z"});
        let event: Metadata<Event> = serde_json::from_value(object).unwrap();
        assert_eq!(last_written(&event).to_string(), "2026-01-01T02:00:00Z");
    }
}

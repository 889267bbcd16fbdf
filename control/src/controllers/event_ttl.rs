//! Events live for one hour.

use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::api::DeleteParams;
use kube::{Api, Client, ResourceExt};
use std::time::Duration;

/// From the last time an event happened.
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
    pub(crate) events: Lister<Event>,
}

impl Reconcile for EventTtl {
    /// Deletes one event when its time is over.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(event) = self.events.get(&key) else { return Ok(Next::Wait) };
        let left = TIME_TO_LIVE - Timestamp::now().duration_since(last_seen(&event));
        if left > SignedDuration::ZERO {
            return Ok(Next::After(Duration::try_from(left).unwrap_or_default()));
        }
        let api: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
        ignore_not_found(api.delete(&key.name, &DeleteParams::default()).await)?;
        Ok(Next::Wait)
    }
}

fn last_seen(event: &Event) -> Timestamp {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref().map(|MicroTime(at)| *at));
    let time = |time: &Option<Time>| time.as_ref().map(|Time(at)| *at);
    let times = [
        series,
        time(&event.last_timestamp),
        event.event_time.as_ref().map(|MicroTime(at)| *at),
        time(&event.first_timestamp),
    ];
    let created = event.creation_timestamp().map(|Time(at)| at);
    times.into_iter().flatten().next().or(created).unwrap_or(Timestamp::UNIX_EPOCH)
}

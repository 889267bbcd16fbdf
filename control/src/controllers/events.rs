//! Events as kubectl shows them: who did what to which object, with a count instead of repetitions.

use super::runner::message_of;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many recent events are remembered for counting.
const REMEMBERED: usize = 4096;
/// Events of one component that are written at once. When there is a lot to tell, the news comes after the work.
const WRITERS: usize = 8;

/// Normal or Warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

/// Where an event went the first time, and how often it has been.
struct Recorded {
    name: String,
    count: i32,
}

/// While it is held, one writer is left.
#[derive(Debug)]
pub(crate) struct Hush {
    _turns: OwnedSemaphorePermit,
}

/// Writes events for one component. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    client: Client,
    component: &'static str,
    recorded: Arc<Mutex<HashMap<String, Recorded>>>,
    turns: Arc<Semaphore>,
}

impl Recorder {
    /// A recorder for `component`, which events name as their source.
    pub(crate) fn new(client: Client, component: &'static str) -> Self {
        Self { client, component, recorded: Arc::default(), turns: Arc::new(Semaphore::new(WRITERS)) }
    }

    /// Has the news stand back for more urgent work. Not while the writers are busy with what came before.
    pub(crate) fn hush(&self) -> Option<Hush> {
        let all_but_one = u32::try_from(WRITERS - 1).unwrap_or(1);
        self.turns.clone().try_acquire_many_owned(all_but_one).ok().map(|turns| Hush { _turns: turns })
    }

    /// Writers that could begin now.
    #[cfg(test)]
    pub(crate) fn writers(&self) -> usize {
        self.turns.available_permits()
    }

    /// Records an event in the background: an event that cannot be written must never stop the work.
    pub(crate) fn record<K>(&self, object: &K, severity: Severity, reason: &'static str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        let (reference, now) = (reference(object), Timestamp::now());
        let recorder = self.clone();
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _turn = recorder.turns.acquire().await;
            if let Err(error) = recorder.write(reference, (severity, reason, now), message).await {
                tracing::debug!(error = message_of(&error), reason, "event");
            }
        });
    }

    async fn write(
        &self,
        reference: ObjectReference,
        what: (Severity, &str, Timestamp),
        message: String,
    ) -> Result<(), kube::Error> {
        let (severity, reason, now) = what;
        let namespace = reference.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let key =
            format!("{}/{:?}/{reason}/{message}", reference.uid.as_deref().unwrap_or_default(), severity);
        if let Some((name, count)) = self.seen(&key) {
            let again = json!({"count": count, "lastTimestamp": Time(now)});
            if api.patch(&name, &PatchParams::default(), &Patch::Merge(again)).await.is_ok() {
                return Ok(());
            }
        }
        let event = self.event(reference, what, message);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        self.remember(key, name);
        Ok(())
    }

    fn event(
        &self,
        reference: ObjectReference,
        (severity, reason, now): (Severity, &str, Timestamp),
        message: String,
    ) -> Event {
        let name = format!("{}.{:x}", reference.name.as_deref().unwrap_or_default(), now.as_nanosecond());
        let namespace = reference.namespace.clone().unwrap_or_else(|| "default".into());
        Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: reference,
            reason: Some(reason.to_owned()),
            message: Some(message),
            type_: Some(format!("{severity:?}")),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: None }),
            reporting_component: Some(self.component.to_owned()),
            ..Event::default()
        }
    }

    /// The name of the same event's first record, and its new count.
    fn seen(&self, key: &str) -> Option<(String, i32)> {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recorded.get_mut(key)?;
        known.count += 1;
        Some((known.name.clone(), known.count))
    }

    fn remember(&self, key: String, name: String) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.len() >= REMEMBERED {
            recorded.clear();
        }
        recorded.insert(key, Recorded { name, count: 1 });
    }
}

/// The object as events name it.
fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

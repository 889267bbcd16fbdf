//! Events as kubectl shows them: who did what to which object, with a count instead of repetitions, and no floods
//! (`knarr_api::event_correlation`).

use super::runner::message_of;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use knarr_api::event_correlation::{Correlator, Row, Said};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Events of one component that are written at once. When there is a lot to tell, the news comes after the work.
const WRITERS: usize = 8;

/// Normal or Warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

impl Severity {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        }
    }
}

/// Writes events for one component. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    client: Client,
    component: &'static str,
    correlator: Arc<Mutex<Correlator>>,
    turns: Arc<Semaphore>,
}

impl Recorder {
    /// A recorder for `component`, which events name as their source.
    pub(crate) fn new(client: Client, component: &'static str) -> Self {
        Self { client, component, correlator: Arc::default(), turns: Arc::new(Semaphore::new(WRITERS)) }
    }

    /// Records an event in the background: an event that cannot be written must never stop the work.
    pub(crate) fn record<K>(&self, object: &K, severity: Severity, reason: &'static str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        self.record_about(reference(object), severity, reason, message);
    }

    /// The same about an object whose kind is known only by its name.
    pub(crate) fn record_about(
        &self,
        reference: ObjectReference,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) {
        let now = Timestamp::now();
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
        (severity, reason, at): (Severity, &str, Timestamp),
        message: String,
    ) -> Result<(), kube::Error> {
        let said = Said { object: &reference, severity: severity.word(), reason, message: &message, at };
        let Some(row) = self.correlator().judge(said) else { return Ok(()) };
        let namespace = reference.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if row.count > 1 && change(&api, &row, said).await.is_ok() {
            return Ok(());
        }
        let source = EventSource { component: Some(self.component.to_owned()), host: None };
        match api.create(&PostParams::default(), &row.event(said, source)).await {
            // Another writer was faster with another of the same.
            Err(kube::Error::Api(status)) if status.code == 409 && row.count > 1 => {
                change(&api, &row, said).await
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            created => created.map(drop),
        }
    }

    fn correlator(&self) -> MutexGuard<'_, Correlator> {
        self.correlator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn change(api: &Api<Event>, row: &Row, said: Said<'_>) -> Result<(), kube::Error> {
    api.patch(&row.name, &PatchParams::default(), &Patch::Merge(row.change(said))).await.map(drop)
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

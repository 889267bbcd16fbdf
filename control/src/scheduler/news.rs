//! What the scheduler tells: events in the way of `events.k8s.io`, as Kubernetes' scheduler writes them. One that repeats
//! another about the same state of an object makes a series of it, which is written when it begins, every half hour while
//! it goes on, and when it is over.
//!
//! Telling never waits: one task writes what is in the queue, a batch at a time. While pods wait for nodes the batches are
//! small: nobody waits for news.

mod series;

use super::NAME;
use crate::controllers::events::Severity;
use crate::controllers::runner::{is_not_found, message_of};
use crate::server::Direct;
use futures_util::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use series::{Row, Series};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// Events that may wait to be written; later ones are dropped.
const QUEUE: usize = 1 << 16;
/// Events written at once, and in a hurry.
const BATCH: usize = 64;
const SMALL_BATCH: usize = 8;
/// How often it is looked which series are over, and those that go on are written again.
const FINISH: Duration = Duration::from_secs(360);
const REFRESH: Duration = Duration::from_secs(1800);

/// What is told about a pod.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) severity: Severity,
    pub(super) reason: &'static str,
    /// What the scheduler was about.
    pub(super) action: &'static str,
    pub(super) note: String,
}

/// One event on its way.
#[derive(Debug)]
struct Told {
    said: Said,
    regarding: ObjectReference,
    related: Option<ObjectReference>,
    at: Timestamp,
}

/// Takes events. Cheap to clone.
#[derive(Clone)]
pub(super) struct News {
    queue: mpsc::Sender<Told>,
    hushed: Arc<AtomicBool>,
}

/// While it is held, news come in small batches.
#[derive(Debug)]
pub(super) struct Hush(Arc<AtomicBool>);

impl Drop for Hush {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Writes them.
pub(super) struct Writer {
    client: Client,
    direct: Option<Direct>,
    told: mpsc::Receiver<Told>,
    hushed: Arc<AtomicBool>,
    series: Series,
    instance: String,
}

/// Where events are put, and who writes them once it runs.
pub(super) fn channel(client: Client, direct: Option<Direct>) -> (News, Writer) {
    let (queue, told) = mpsc::channel(QUEUE);
    let hushed = Arc::new(AtomicBool::new(false));
    let instance = format!("{NAME}-{}", machine());
    let writer = Writer { client, direct, told, hushed: hushed.clone(), series: Series::default(), instance };
    (News { queue, hushed }, writer)
}

impl News {
    /// Tells something about a pod, and who else it is about.
    pub(super) fn tell(&self, pod: &Pod, related: Option<&Pod>, said: Said) {
        let told =
            Told { said, regarding: reference(pod), related: related.map(reference), at: Timestamp::now() };
        if self.queue.try_send(told).is_err() {
            tracing::debug!("too many events of the scheduler: one is dropped");
        }
    }

    /// Has the news stand back for more urgent work.
    pub(super) fn hush(&self) -> Hush {
        self.hushed.store(true, Ordering::Relaxed);
        Hush(self.hushed.clone())
    }

    #[cfg(test)]
    pub(super) fn is_hushed(&self) -> bool {
        self.hushed.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// Until the future is dropped.
    pub(super) async fn run(mut self) {
        let (mut finish, mut refresh) = (every(FINISH), every(REFRESH));
        loop {
            let most = if self.hushed.load(Ordering::Relaxed) { SMALL_BATCH } else { BATCH };
            let mut batch = Vec::new();
            let rows: Vec<Row> = tokio::select! {
                count = self.told.recv_many(&mut batch, most) => match count {
                    0 => return,
                    _ => Vec::new(),
                },
                _ = finish.tick() => self.series.finished(Timestamp::now()),
                _ = refresh.tick() => self.series.going_on(),
            };
            let told = batch.into_iter().filter_map(|told| self.series.judge(told, &self.instance));
            let rows: Vec<Row> = rows.into_iter().chain(told).collect();
            join_all(rows.into_iter().map(|row| self.write(row))).await;
        }
    }

    async fn write(&self, row: Row) {
        let api: Api<Event> = Api::namespaced(self.client.clone(), row.namespace());
        if let Some(change) = row.change() {
            match api.patch(row.name(), &PatchParams::default(), &Patch::Merge(change)).await {
                Err(error) if is_not_found(&error) => {}
                Err(error) => return tracing::debug!(error = message_of(&error), "series of events"),
                Ok(_) => return,
            }
        }
        let refused = match &self.direct {
            Some(direct) => {
                direct.tell(row.namespace(), row.event()).await.err().map(|status| status.message)
            }
            None => match serde_json::from_value(row.event()) {
                Ok(event) => {
                    api.create(&PostParams::default(), &event).await.err().map(|error| message_of(&error))
                }
                Err(error) => Some(error.to_string()),
            },
        };
        if let Some(error) = refused {
            tracing::debug!(error, "event");
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The pod as events name it, in the state it is in.
fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name_any()),
        namespace: pod.namespace(),
        uid: pod.uid(),
        resource_version: pod.resource_version(),
        field_path: None,
    }
}

/// The machine's name, as events tell who wrote them.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

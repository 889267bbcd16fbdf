//! Events about pods and the node, as `kubectl describe` shows them.
//!
//! Recording never waits: an event goes into a bounded queue, and one task writes them. A repetition of the same
//! event raises the count of the first one; an object that produces too many is throttled, so that a broken pod
//! cannot flood the API server. A node without a cluster writes them to its log.

mod correlation;

use crate::kubelet::pod::{self, Kind};
use correlation::{Correlator, Verdict};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that may wait to be written; later ones are dropped.
const QUEUE: usize = 1000;

/// `type` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    #[allow(missing_docs)]
    Normal,
    #[allow(missing_docs)]
    Warning,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) struct Occurrence {
    pub(crate) object: ObjectReference,
    pub(crate) severity: Severity,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

/// Takes events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Occurrence>,
}

impl Recorder {
    /// A recorder whose events go to `client`'s cluster in the name of `node`, until `shutdown`.
    pub fn start(client: Option<kube::Client>, node: &str, shutdown: CancellationToken) -> Recorder {
        let (queue, occurrences) = mpsc::channel(QUEUE);
        let writer = Writer { client, node: node.to_string(), correlator: Correlator::default() };
        tokio::spawn(writer.run(occurrences, shutdown));
        Recorder { queue }
    }

    /// An event about a pod.
    pub fn pod(&self, pod: &Pod, severity: Severity, reason: &'static str, message: impl Into<String>) {
        self.record(reference(pod), severity, reason, message.into());
    }

    /// An event about one container of a pod.
    pub fn container(
        &self,
        pod: &Pod,
        container: &str,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let list = match pod::find_container(pod, container).map(|(kind, _)| kind) {
            Some(Kind::Init | Kind::Sidecar) => "initContainers",
            Some(Kind::Ephemeral) => "ephemeralContainers",
            _ => "containers",
        };
        let mut object = reference(pod);
        object.field_path = Some(format!("spec.{list}{{{container}}}"));
        self.record(object, severity, reason, message.into());
    }

    /// An event about the node.
    pub fn node(&self, node: &str, severity: Severity, reason: &'static str, message: impl Into<String>) {
        // The kubelet's habit: a node's events carry its name as uid.
        let name = Some(node.to_string());
        let object = ObjectReference {
            kind: Some("Node".into()),
            name: name.clone(),
            uid: name,
            ..Default::default()
        };
        self.record(object, severity, reason, message.into());
    }

    fn record(&self, object: ObjectReference, severity: Severity, reason: &'static str, message: String) {
        // A full queue means a flood or an API server that is away: losing events is the lesser evil.
        let _ = self.queue.try_send(Occurrence { object, severity, reason, message, at: Timestamp::now() });
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod::namespace(pod).to_string()),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// Writes what the recorder took.
struct Writer {
    client: Option<kube::Client>,
    node: String,
    correlator: Correlator,
}

impl Writer {
    async fn run(mut self, mut occurrences: mpsc::Receiver<Occurrence>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                next = occurrences.recv() => match next {
                    Some(occurrence) => self.write(occurrence).await,
                    None => return,
                },
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn write(&mut self, mut occurrence: Occurrence) {
        let object = occurrence.object.name.clone().unwrap_or_default();
        tracing::info!(object, reason = occurrence.reason, "{}", occurrence.message);
        let Some(client) = self.client.clone() else { return };
        let verdict = self.correlator.judge(&mut occurrence);
        let namespace = occurrence.object.namespace.clone().unwrap_or_else(|| "default".to_string());
        let events: Api<Event> = Api::namespaced(client, &namespace);
        let result = match verdict {
            Verdict::Drop => return,
            Verdict::Create => self.create(&events, &occurrence, &namespace).await,
            Verdict::Repeat { name, count } => {
                match repeat(&events, &name, count, &occurrence).await {
                    // It has expired on the server.
                    Err(kube::Error::Api(status)) if status.code == 404 => {
                        self.create(&events, &occurrence, &namespace).await
                    }
                    result => result,
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(object, reason = occurrence.reason, "event not written: {error}");
        }
    }

    async fn create(
        &mut self,
        events: &Api<Event>,
        occurrence: &Occurrence,
        namespace: &str,
    ) -> Result<(), kube::Error> {
        let event = event(occurrence, namespace, &self.node);
        let name = event.metadata.name.clone().unwrap_or_default();
        within_deadline(events.create(&PostParams::default(), &event)).await?;
        self.correlator.created(occurrence, name);
        Ok(())
    }
}

async fn repeat(
    events: &Api<Event>,
    name: &str,
    count: i32,
    occurrence: &Occurrence,
) -> Result<(), kube::Error> {
    let patch = json!({
        "count": count, "lastTimestamp": Time(occurrence.at), "message": occurrence.message,
    });
    within_deadline(events.patch(name, &PatchParams::default(), &Patch::Strategic(patch))).await.map(drop)
}

/// An API server that hangs must not hold back every later event.
async fn within_deadline<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let deadline = std::time::Duration::from_secs(10);
    tokio::time::timeout(deadline, call)
        .await
        .unwrap_or_else(|_| Err(kube::Error::Service("no answer within 10 s".into())))
}

fn event(occurrence: &Occurrence, namespace: &str, node: &str) -> Event {
    let object = occurrence.object.name.as_deref().unwrap_or_default();
    let time = Some(Time(occurrence.at));
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{:x}", occurrence.at.as_nanosecond())),
            namespace: Some(namespace.to_string()),
            ..Default::default()
        },
        involved_object: occurrence.object.clone(),
        reason: Some(occurrence.reason.to_string()),
        message: Some(occurrence.message.chars().take(1024).collect()),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.to_string()) }),
        first_timestamp: time.clone(),
        last_timestamp: time,
        count: Some(1),
        type_: Some(format!("{:?}", occurrence.severity)),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.to_string()),
        ..Default::default()
    }
}

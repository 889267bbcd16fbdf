//! Events about pods and the node, as `kubectl describe` shows them.
//!
//! Recording never waits: an event goes into a bounded queue, and one task writes them. A repetition of the same
//! event raises the count of the first one; an object that produces too many is throttled, so that a broken pod
//! cannot flood the API server. A node without a cluster writes them to its log.

use crate::kubelet::pod::{self, Kind};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use knarr_api::event_correlation::{Correlator, Row, Said};
use kube::api::{Api, Patch, PatchParams, PostParams};
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

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        }
    }
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

impl Occurrence {
    fn said(&self) -> Said<'_> {
        Said {
            object: &self.object,
            severity: self.severity.word(),
            reason: self.reason,
            message: &self.message,
            at: self.at,
        }
    }
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

    async fn write(&mut self, occurrence: Occurrence) {
        let object = occurrence.object.name.clone().unwrap_or_default();
        tracing::info!(object, reason = occurrence.reason, "{}", occurrence.message);
        let Some(client) = self.client.clone() else { return };
        let Some(row) = self.correlator.judge(occurrence.said()) else { return };
        let namespace = occurrence.object.namespace.as_deref().unwrap_or("default");
        let events: Api<Event> = Api::namespaced(client, namespace);
        if let Err(error) = self.put(&events, &row, &occurrence).await {
            tracing::debug!(object, reason = occurrence.reason, "event not written: {error}");
        }
    }

    async fn put(&self, events: &Api<Event>, row: &Row, occurrence: &Occurrence) -> Result<(), kube::Error> {
        let said = occurrence.said();
        if row.count > 1 {
            let change = Patch::Strategic(row.change(said));
            match within_deadline(events.patch(&row.name, &PatchParams::default(), &change)).await {
                // It has expired on the server, or never came there.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                done => return done.map(drop),
            }
        }
        let source = EventSource { component: Some("kubelet".into()), host: Some(self.node.clone()) };
        let event = row.event(said, source);
        within_deadline(events.create(&PostParams::default(), &event)).await.map(drop)
    }
}

/// An API server that hangs must not hold back every later event.
async fn within_deadline<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let deadline = std::time::Duration::from_secs(10);
    tokio::time::timeout(deadline, call)
        .await
        .unwrap_or_else(|_| Err(kube::Error::Service("no answer within 10 s".into())))
}

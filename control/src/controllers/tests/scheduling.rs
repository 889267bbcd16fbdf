//! The scheduler at work against the real server: what becomes of pods, and what is told of them, with requests and
//! without.

use super::*;
use crate::server::audit::{AuditOptions, Rotation};
use k8s_openapi::api::core::v1::Event;
use std::path::Path;

const AUDITED: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n";

async fn audited(directory: &Path) -> ControlPlane {
    let policy = directory.join("policy.yaml");
    std::fs::write(&policy, AUDITED).unwrap();
    let audit = AuditOptions { policy, path: directory.join("audit.log"), rotation: Rotation::default() };
    let mut options = Options { audit: Some(audit), ..Options::new(directory.to_path_buf()) };
    options.listen = "127.0.0.1:0".parse().unwrap();
    options.advertise = Some("127.0.0.1".parse().unwrap());
    ControlPlane::start(options).await.unwrap()
}

fn pod(name: &str, cpu: &str) -> serde_json::Value {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}});
    json!({"metadata": {"name": name}, "spec": {"containers": [container]}})
}

/// The first event of a reason about an object.
async fn told(client: &Client, reason: &str, name: &str) -> Event {
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let mut all = watcher(events, watcher::Config::default()).default_backoff().applied_objects().boxed();
    let about = |event: &Event| {
        event.reason.as_deref() == Some(reason) && event.involved_object.name.as_deref() == Some(name)
    };
    let found = async {
        // A watch that breaks off is begun anew.
        loop {
            if let Some(Ok(event)) = all.next().await
                && about(&event)
            {
                return event;
            }
        }
    };
    tokio::time::timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("nobody tells {reason} of {name}"))
}

async fn schedules(plane: &ControlPlane) {
    let client = plane.client();
    node(&client).await;
    let pods: Api<Pod> = create::<Pod>(&client, pod("small", "1")).await;
    create::<Pod>(&client, pod("large", "100")).await;
    let bound = until(pods.clone(), "small", |pod| pod.spec.as_ref().unwrap().node_name.is_some()).await;
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("n"));
    let conditions = bound.status.unwrap().conditions.unwrap();
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled").unwrap();
    assert_eq!(scheduled.status, "True");
    let event = told(&client, "Scheduled", "small").await;
    assert_eq!(event.message.as_deref(), Some("Successfully assigned default/small to n"));
    assert_eq!((event.action.as_deref(), event.type_.as_deref()), (Some("Binding"), Some("Normal")));
    assert_eq!(event.reporting_component.as_deref(), Some("default-scheduler"));
    assert!(event.event_time.is_some() && event.first_timestamp.is_none());
    let event = told(&client, "FailedScheduling", "large").await;
    assert_eq!((event.action.as_deref(), event.type_.as_deref()), (Some("Scheduling"), Some("Warning")));
    assert!(event.message.unwrap().starts_with("0/1 nodes are available: 1 Insufficient cpu."));
    let kept =
        until(pods, "large", |pod| pod.status.as_ref().is_some_and(|status| status.conditions.is_some()));
    assert_eq!(kept.await.status.unwrap().conditions.unwrap()[0].reason.as_deref(), Some("Unschedulable"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_bound_and_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    schedules(&plane).await;
    plane.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_requests_are_audited_bindings_are_requests() {
    let directory = tempfile::tempdir().unwrap();
    let plane = audited(directory.path()).await;
    schedules(&plane).await;
    plane.shutdown().await.unwrap();
    let log = std::fs::read_to_string(directory.path().join("audit.log")).unwrap();
    let bindings = log.lines().filter(|line| line.contains("/api/v1/namespaces/default/pods/small/binding"));
    assert!(bindings.count() > 0, "{log}");
}

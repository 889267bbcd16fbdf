//! The audit log as its readers find it.

use super::*;
use crate::authn::MASTERS;
use crate::server::audit::{AuditOptions, Rotation};
use std::path::Path;

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- level: None
  users: [system:apiserver]
- level: Metadata
  resources: [{group: "", resources: [secrets]}]
- level: RequestResponse
  omitStages: [RequestReceived]
"#;

fn options(directory: &Path) -> AuditOptions {
    let policy = directory.join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    AuditOptions { policy, path: directory.join("audit.log"), rotation: Rotation::default() }
}

/// Waits for so many whole lines.
fn events(path: &Path, count: usize) -> Vec<Value> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let text = std::fs::read_to_string(path).unwrap();
        let text = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        if text.lines().count() >= count || std::time::Instant::now() > deadline {
            let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(events.len(), count, "{text}");
            return events;
        }
        std::thread::yield_now();
    }
}

#[test]
fn every_request_leaves_what_the_policy_says() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let lab = lab_with(Some(&options));
    let bob = || User::new("bob", &[MASTERS]);
    lab.config_map("unseen", "v");
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "hidden"}});
    let made = lab.call_as(bob(), "POST", "/api/v1/namespaces/default/secrets", &secret);
    assert_eq!(made.code, 201);
    let map = json!({"metadata": {"name": "m"}, "data": {"a": "b"}});
    let made = lab.call_as(bob(), "POST", CONFIG_MAPS, &map);
    let nobody = User::new("eve", &[]);
    lab.call_as(nobody, "DELETE", &format!("{CONFIG_MAPS}/m"), &Value::Null);
    let events = events(&options.path, 4);
    let part = |number: usize, pointer: &str| events[number].pointer(pointer).cloned().unwrap_or_default();
    assert_eq!((part(0, "/stage"), part(1, "/stage")), (json!("RequestReceived"), json!("ResponseComplete")));
    assert_eq!(part(0, "/auditID"), part(1, "/auditID"));
    assert_eq!(part(1, "/user/username"), "bob");
    let about = json!({"resource": "secrets", "apiVersion": "v1", "namespace": "default"});
    assert_eq!((part(1, "/verb"), part(1, "/objectRef")), (json!("create"), about));
    assert!(!events[1].to_string().contains("hidden"), "metadata only");
    assert_eq!(part(2, "/requestObject/data/a"), "b");
    assert_eq!(part(2, "/responseObject/metadata/name"), "m");
    assert_eq!(part(2, "/responseObject/metadata/managedFields"), Value::Null);
    assert_eq!(part(2, "/responseStatus/code"), 201);
    assert_eq!(made.headers["audit-id"].to_str().unwrap(), part(2, "/auditID"));
    assert_eq!(part(3, "/responseStatus/code"), 403);
    assert_eq!(part(3, "/annotations/authorization.k8s.io~1decision"), "forbid");
    assert_eq!(part(3, "/responseStatus/reason"), "Forbidden");
}

#[test]
fn a_watch_is_told_of_when_it_begins_and_when_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let lab = lab_with(Some(&options));
    let path = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1");
    let user = User::new("bob", &[MASTERS]);
    lab.call_as(user, "GET", &path, &Value::Null);
    let events = events(&options.path, 2);
    let stages: Vec<&Value> = events.iter().map(|event| &event["stage"]).collect();
    assert_eq!(stages, ["ResponseStarted", "ResponseComplete"]);
    assert_eq!(events[1]["verb"], "watch");
    assert_eq!(events[1]["requestURI"], path);
}

#[test]
fn who_cannot_be_told_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let lab = lab_with(Some(&options));
    let request = Request::get("/api/v1/pods").header("authorization", "Bearer wrong");
    let answer =
        lab.runtime.block_on(lab.server.clone().handle(request.body(Full::new(Bytes::new())).unwrap()));
    assert_eq!(answer.status(), 401);
    let events = events(&options.path, 1);
    assert_eq!(events[0]["responseStatus"]["code"], 401);
    assert_eq!(events[0]["stage"], "ResponseStarted");
}

//! The one writer of a pod's API object: patches its status when it has changed, and deletes the object for good
//! when nothing of the pod is left. One task per pod, so an API server that is slow or away delays no container,
//! and one pod's writes never wait for another's. Only the newest status is kept.

use crate::kubelet::pod;
use crate::kubelet::status::PASSING;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between attempts while the API server does not answer.
const RETRY: Duration = Duration::from_secs(2);
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// The object that shows a pod; for a static pod that is its mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    #[allow(missing_docs)]
    pub namespace: String,
    #[allow(missing_docs)]
    pub name: String,
    #[allow(missing_docs)]
    pub uid: String,
}

impl Target {
    /// The object itself.
    pub fn of(pod: &Pod) -> Target {
        let owned = str::to_string;
        Target {
            namespace: owned(pod::namespace(pod)),
            name: owned(pod::name(pod)),
            uid: owned(pod::uid(pod)),
        }
    }
}

/// What the object should become.
#[derive(Debug, Clone, Default)]
struct Wanted {
    target: Option<Target>,
    status: Option<PodStatus>,
    delete: bool,
}

/// Takes statuses for one pod.
#[derive(Debug)]
pub struct StatusWriter {
    wanted: watch::Sender<Wanted>,
    done: mpsc::Receiver<()>,
}

impl StatusWriter {
    /// A writer for a pod whose object has `reported` as its status.
    pub fn start(client: Option<kube::Client>, reported: Option<PodStatus>) -> StatusWriter {
        let (wanted, changes) = watch::channel(Wanted::default());
        let (finished, done) = mpsc::channel(1);
        let known =
            reported.and_then(|status| serde_json::to_value(status).ok()).unwrap_or_else(|| json!({}));
        let writer = Writer { client, known };
        tokio::spawn(async move {
            writer.run(changes).await;
            drop(finished);
        });
        StatusWriter { wanted, done }
    }

    /// Makes `target` show `status`.
    pub fn write(&self, target: Option<Target>, status: PodStatus) {
        self.wanted.send_modify(|wanted| {
            wanted.target = target;
            wanted.status = Some(status);
        });
    }

    /// Deletes the object and returns when it is gone (or has become another pod's).
    pub async fn delete(mut self) {
        self.wanted.send_modify(|wanted| wanted.delete = true);
        self.done.recv().await;
    }
}

struct Writer {
    client: Option<kube::Client>,
    /// The status that the object has, as far as we know.
    known: Value,
}

enum Outcome {
    Written,
    /// There is no such object any more.
    Gone,
    Again,
}

impl Writer {
    async fn run(mut self, mut changes: watch::Receiver<Wanted>) {
        let Some(client) = self.client.take() else { return };
        while changes.changed().await.is_ok() {
            loop {
                let wanted = changes.borrow_and_update().clone();
                let Some(target) = &wanted.target else { break };
                let pods: Api<Pod> = Api::namespaced(client.clone(), &target.namespace);
                let mut outcome = match &wanted.status {
                    Some(status) => Box::pin(self.patch(&pods, target, status)).await,
                    None => Outcome::Written,
                };
                if wanted.delete && matches!(outcome, Outcome::Written) {
                    outcome = Box::pin(delete(&pods, target)).await;
                }
                match outcome {
                    Outcome::Gone => return,
                    Outcome::Written => break,
                    Outcome::Again => wait_or_change(&mut changes).await,
                }
            }
        }
    }

    async fn patch(&mut self, pods: &Api<Pod>, target: &Target, status: &PodStatus) -> Outcome {
        let Ok(wanted) = serde_json::to_value(status) else { return Outcome::Written };
        if wanted == self.known {
            return Outcome::Written;
        }
        let changes = json!({"metadata": {"uid": target.uid}, "status": difference(&self.known, &wanted)});
        let (parameters, patch) = (PatchParams::default(), Patch::Strategic(changes));
        let call = pods.patch_status(&target.name, &parameters, &patch);
        match tokio::time::timeout(CALL_DEADLINE, call).await {
            Ok(Ok(_)) => {
                self.known = wanted;
                Outcome::Written
            }
            Ok(Err(kube::Error::Api(answer))) if answer.code == 404 => Outcome::Gone,
            // The uid is another one: the object now belongs to a successor.
            Ok(Err(kube::Error::Api(answer))) if names_another(answer.code, &answer.message) => Outcome::Gone,
            // Admission gave the object of a static pod other resources than its manifest has: its class stays.
            Ok(Err(kube::Error::Api(answer)))
                if answer.code == 422 && answer.message.contains("status.qosClass") =>
            {
                if let (Some(known), Some(class)) = (self.known.as_object_mut(), wanted.get("qosClass")) {
                    known.insert("qosClass".to_string(), class.clone());
                }
                Outcome::Again
            }
            // The same again would be refused again; what comes next, or the deletion, need not wait for it.
            Ok(Err(kube::Error::Api(answer))) if answer.code == 422 => {
                tracing::warn!(pod = target.name, "status refused: {}", answer.message);
                Outcome::Written
            }
            Ok(Err(error)) => {
                tracing::warn!(pod = target.name, "status not written: {error}");
                Outcome::Again
            }
            Err(_) => Outcome::Again,
        }
    }
}

/// Whether an API server refuses a write because the object of this name has another uid: some call it a conflict,
/// some a change of what cannot change.
fn names_another(code: u16, message: &str) -> bool {
    (code == 409 && message.contains("UID")) || (code == 422 && message.contains("metadata.uid"))
}

/// A pause before the next attempt, shorter when there is something newer to write.
async fn wait_or_change(changes: &mut watch::Receiver<Wanted>) {
    // Both outcomes lead to the next attempt.
    let _ = tokio::time::timeout(RETRY, changes.changed()).await;
}

async fn delete(pods: &Api<Pod>, target: &Target) -> Outcome {
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(target.uid.clone()), resource_version: None }),
        ..Default::default()
    };
    match tokio::time::timeout(CALL_DEADLINE, pods.delete(&target.name, &parameters)).await {
        Ok(Ok(_)) => Outcome::Gone,
        Ok(Err(kube::Error::Api(answer))) if matches!(answer.code, 404 | 409) => Outcome::Gone,
        Ok(Err(error)) => {
            tracing::warn!(pod = target.name, "object not deleted: {error}");
            Outcome::Again
        }
        Err(_) => Outcome::Again,
    }
}

/// A strategic merge patch from one status to another: changed fields, and `null` for those that are gone.
/// Conditions are merged by type, so those of others stay; addresses replace what was there.
fn difference(known: &Value, wanted: &Value) -> Value {
    let mut patch = serde_json::Map::new();
    let empty = serde_json::Map::new();
    let (known, wanted) = (known.as_object().unwrap_or(&empty), wanted.as_object().unwrap_or(&empty));
    for (field, value) in wanted.iter().filter(|(field, value)| known.get(*field) != Some(value)) {
        let mut value = value.clone();
        if let (true, Some(list)) = (ADDRESSES.contains(&field.as_str()), value.as_array_mut()) {
            list.insert(0, json!({"$patch": "replace"}));
        }
        if let (true, Some(list)) = (field == "conditions", value.as_array_mut()) {
            list.iter_mut().for_each(|condition| take_away(known, condition));
            list.extend(
                passed(known, list).into_iter().map(|kind| json!({"$patch": "delete", "type": kind})),
            );
        }
        patch.insert(field.clone(), value);
    }
    for field in known.keys().filter(|field| !wanted.contains_key(*field) && OURS.contains(&field.as_str())) {
        patch.insert(field.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// Names the fields of a condition that it no longer has: conditions are merged, and would keep them.
fn take_away(known: &serde_json::Map<String, Value>, condition: &mut Value) {
    let list = known.get("conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let before = list.iter().find(|before| before["type"] == condition["type"]).and_then(Value::as_object);
    let Some(present) = condition.as_object_mut() else { return };
    for field in before.into_iter().flat_map(serde_json::Map::keys) {
        present.entry(field.clone()).or_insert(Value::Null);
    }
}

/// Conditions that were there while they held, and no longer do.
fn passed(known: &serde_json::Map<String, Value>, wanted: &[Value]) -> Vec<&'static str> {
    let has = |list: &[Value], kind: &str| list.iter().any(|condition| condition["type"] == kind);
    let before = known.get("conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    PASSING.into_iter().filter(|kind| has(before, kind) && !has(wanted, kind)).collect()
}

/// Lists of addresses, which an API server would merge by address: those of a static pod before this one, of which nobody
/// here knows, would stay beside the new ones.
const ADDRESSES: [&str; 2] = ["podIPs", "hostIPs"];

/// Fields that a kubelet may take away; others belong to the scheduler or to controllers.
const OURS: &[&str] =
    &["reason", "message", "podIP", "podIPs", "hostIP", "hostIPs", "ephemeralContainerStatuses"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_replaced_whether_or_not_some_are_known() {
        let wanted = json!({"podIPs": [{"ip": "b"}], "hostIPs": [{"ip": "h"}]});
        let expected = json!({"podIPs": [{"$patch": "replace"}, {"ip": "b"}], "hostIPs": [{"$patch": "replace"}, {"ip": "h"}]});
        assert_eq!(difference(&json!({}), &wanted), expected);
        assert_eq!(difference(&json!({"podIPs": [{"ip": "a"}]}), &wanted), expected);
        assert_eq!(difference(&wanted, &wanted), json!({}));
    }

    #[test]
    fn only_what_changed_is_written() {
        let known =
            json!({"phase": "Pending", "reason": "x", "nominatedNodeName": "n", "podIPs": [{"ip": "a"}]});
        let wanted = json!({"phase": "Running", "podIPs": [{"ip": "b"}]});
        let expected =
            json!({"phase": "Running", "reason": null, "podIPs": [{"$patch": "replace"}, {"ip": "b"}]});
        assert_eq!(difference(&known, &wanted), expected);
        assert_eq!(difference(&wanted, &wanted), json!({}));
        let known = json!({"conditions": [{"type": "Ready"}, {"type": "PodResizePending"}, {"type": "x"}]});
        let wanted = json!({"conditions": [{"type": "Ready"}]});
        let expected = json!([{"type": "Ready"}, {"$patch": "delete", "type": "PodResizePending"}]);
        assert_eq!(difference(&known, &wanted)["conditions"], expected);
        let known =
            json!({"conditions": [{"type": "Ready", "status": "False", "reason": "r", "message": "m"}]});
        let wanted = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let expected = json!([{"type": "Ready", "status": "True", "reason": null, "message": null}]);
        assert_eq!(difference(&known, &wanted)["conditions"], expected);
    }
}

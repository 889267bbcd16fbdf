//! POST pods/NAME/binding: the scheduler gives a pod its node. Once only.

use super::super::change::At;
use super::super::{Call, Server, answer, object_meta, read_body};
use crate::admission::{Kind, Operation, Write};
use crate::authn::User;
use crate::registry::Resource;
use crate::server::Answer;
use crate::store::{Draft, Entry, Fields};
use knarr_api::{Status, meta};
use serde_json::{Map, Value, json};

const KIND: Kind<'_> = ("", "v1", "Binding");

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let mut binding = read_body::object(call, KIND)?;
    if meta::name(&binding) != call.path.name() && !meta::name(&binding).is_empty() {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    meta::set(&mut binding, "name", call.path.name());
    to_node(server, call, &call.resource, binding, super::write_of(call, Operation::Create, KIND)).await
}

/// POST of a Binding to its own collection, as the first schedulers did it.
pub(super) async fn run_named(server: &Server, call: &Call) -> Result<Answer, Status> {
    let binding = read_body::object(call, KIND)?;
    let pods = server.table.find("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
    to_node(server, call, &pods, binding, super::write_of(call, Operation::Create, KIND)).await
}

async fn to_node(
    server: &Server,
    call: &Call,
    pods: &Resource,
    mut binding: Value,
    write: Write<'_>,
) -> Result<Answer, Status> {
    let name = meta::name(&binding).to_owned();
    let warnings = server.admit_sent(Write { name: &name, ..write }, &mut binding).await?;
    let node = binding.pointer("/target/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = binding.pointer("/target/kind").and_then(Value::as_str).unwrap_or_default();
    if node.is_empty() || !matches!(kind, "" | "Node") {
        let message = "Required value".to_owned();
        let cause = knarr_api::StatusCause {
            reason: "FieldValueRequired".into(),
            message,
            field: "target.name".into(),
        };
        return Err(Status::invalid("", "Binding", &name, vec![cause]));
    }
    let at = At { resource: pods, namespace: call.path.namespace(), name: &name };
    let annotations = binding.pointer("/metadata/annotations").and_then(Value::as_object);
    let wanted = Wanted { uid: meta::uid(&binding), node: &node, annotations };
    server.rewrite(at, super::dry_run(call), |entry| bound(entry, &wanted, at.name)).await?;
    let mut answer = answer::status(call.accept.encoding(), &Status::success());
    answer::warn(&mut answer, &warnings);
    Ok(answer)
}

/// The same for the scheduler of this process.
pub(in crate::server) async fn bind(
    server: &Server,
    user: &User,
    at: At<'_>,
    uid: &str,
    node: &str,
) -> Result<(), Status> {
    if server.is_judged().await? {
        return bind_as_admitted(server, user, at, uid, node).await;
    }
    let wanted = Wanted { uid, node, annotations: None };
    server.rewrite(at, false, |entry| bound(entry, &wanted, at.name)).await
}

/// The same where policies or webhooks may have a say in it.
async fn bind_as_admitted(
    server: &Server,
    user: &User,
    at: At<'_>,
    uid: &str,
    node: &str,
) -> Result<(), Status> {
    let At { resource, namespace, name } = at;
    let mut binding = json!({
        "kind": "Binding", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace, "uid": uid},
        "target": {"kind": "Node", "name": node},
    });
    let write = Write {
        user,
        operation: Operation::Create,
        resource,
        sent: None,
        subresource: "binding",
        kind: Some(KIND),
        namespace,
        name,
        prefix: "",
        old: None,
        dry_run: false,
        options: None,
    };
    server.admit_sent(write, &mut binding).await?;
    let node = binding.pointer("/target/name").and_then(Value::as_str).unwrap_or(node);
    let annotations = binding.pointer("/metadata/annotations").and_then(Value::as_object);
    let wanted = Wanted { uid, node, annotations };
    server.rewrite(at, false, |entry| bound(entry, &wanted, name)).await
}

/// What a binding says.
struct Wanted<'a> {
    /// Empty where any pod of the name will do.
    uid: &'a str,
    node: &'a str,
    annotations: Option<&'a Map<String, Value>>,
}

/// The pod with its node. A binding makes nobody the owner of a field.
fn bound(entry: &Entry, wanted: &Wanted<'_>, name: &str) -> Result<Draft, Status> {
    let pod = Fields::read(&entry.value);
    let [mut metadata, mut spec, mut status] = ["metadata", "spec", "status"].map(|part| pod.inner(part));
    check(&metadata, &spec, wanted, name)?;
    spec.set("nodeName", &wanted.node);
    status.set("conditions", &scheduled(status.value("conditions")));
    if let Some(new) = wanted.annotations {
        let mut all = metadata.value("annotations").as_object().cloned().unwrap_or_default();
        all.extend(new.clone());
        metadata.set("annotations", &all);
    }
    let mut changed = Fields::read(&entry.value);
    changed.set("metadata", &metadata);
    changed.set("spec", &spec);
    changed.set("status", &status);
    Ok(Draft::of_fields(&changed, Some(wanted.node)))
}

fn check(metadata: &Fields<'_>, spec: &Fields<'_>, wanted: &Wanted<'_>, name: &str) -> Result<(), Status> {
    let refuse = |why: String| Err(Status::conflict("", "pods/binding", name, &why));
    let found = metadata.value("uid");
    let found = found.as_str().unwrap_or_default();
    if !wanted.uid.is_empty() && wanted.uid != found {
        let uid = wanted.uid;
        return refuse(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
        ));
    }
    if metadata.has("deletionTimestamp") {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(assigned) = spec.value("nodeName").as_str().filter(|assigned| !assigned.is_empty()) {
        return refuse(format!("pod {name} is already assigned to node {assigned:?}"));
    }
    if spec.value("schedulingGates").as_array().is_some_and(|gates| !gates.is_empty()) {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    Ok(())
}

/// The condition PodScheduled becomes true.
fn scheduled(conditions: Value) -> Vec<Value> {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": object_meta::now(),
    });
    let known = match conditions {
        Value::Array(known) => known,
        _ => Vec::new(),
    };
    known.into_iter().filter(|known| known["type"] != "PodScheduled").chain([condition]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pod: &Value) -> Entry {
        Entry::new("core/pods/n/p".into(), 7, Draft::of(pod).seal(7))
    }

    fn to<'a>(uid: &'a str, node: &'a str) -> Wanted<'a> {
        Wanted { uid, node, annotations: None }
    }

    #[test]
    fn a_pod_is_bound_once() {
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "uid": "u"},
            "spec": {"x": 1.50}, "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled",
            "status": "False"}, {"type": "Other"}]}});
        let draft = bound(&entry(&pod), &to("u", "n"), "p").unwrap();
        let after = Entry::new("core/pods/n/p".into(), 8, draft.seal(8));
        let object = after.object();
        assert_eq!((&object["spec"], &object["kind"]), (&json!({"x": 1.5, "nodeName": "n"}), &json!("Pod")));
        assert_eq!(object["metadata"], json!({"name": "p", "uid": "u", "resourceVersion": "8"}));
        assert_eq!(object["status"]["phase"], "Pending");
        let conditions = object["status"]["conditions"].as_array().unwrap();
        assert_eq!((conditions.len(), &conditions[0]["type"]), (2, &json!("Other")));
        assert_eq!(conditions[1]["status"], "True");
        let again = bound(&after, &to("", "m"), "p").unwrap_err();
        assert!(again.message.ends_with(r#"pod p is already assigned to node "n""#), "{again}");
        assert!(bound(&entry(&pod), &to("other", "n"), "p").is_err());
    }

    #[test]
    fn a_binding_brings_its_annotations() {
        let pod = json!({"metadata": {"annotations": {"a": "1", "b": "1"}}, "spec": {"schedulingGates": []}});
        let new = json!({"b": "2"});
        let wanted = Wanted { annotations: new.as_object(), ..to("", "n") };
        let draft = bound(&entry(&pod), &wanted, "p").unwrap();
        let object: Value = serde_json::from_slice(&draft.seal(8)).unwrap();
        assert_eq!(object["metadata"]["annotations"], json!({"a": "1", "b": "2"}));
        assert_eq!(object["status"]["conditions"][0]["type"], "PodScheduled");
        for kept in [
            json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ] {
            assert!(bound(&entry(&kept), &to("", "n"), "p").is_err(), "{kept}");
        }
    }
}

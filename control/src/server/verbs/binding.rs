//! POST pods/NAME/binding: the scheduler gives a pod its node. Once only.

use super::super::change::{At, Manner, Part};
use super::super::{Call, Server, answer, object_meta, read_body};
use crate::registry::Resource;
use crate::server::Answer;
use knarr_api::{Status, meta};
use serde_json::{Value, json};

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let binding = read_body::object(call, ("", "v1", "Binding"))?;
    if meta::name(&binding) != call.path.name() && !meta::name(&binding).is_empty() {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    to_node(server, call, &call.resource, binding).await
}

/// POST of a Binding to its own collection, as the first schedulers did it.
pub(super) async fn run_named(server: &Server, call: &Call) -> Result<Answer, Status> {
    let binding = read_body::object(call, ("", "v1", "Binding"))?;
    let pods = server.table.find("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
    to_node(server, call, &pods, binding).await
}

async fn to_node(server: &Server, call: &Call, pods: &Resource, binding: Value) -> Result<Answer, Status> {
    let name = match call.path.name() {
        "" => meta::name(&binding).to_owned(),
        name => name.to_owned(),
    };
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
    let change = |old: &Value| bind(old, &binding, &node, at.name);
    // A binding makes nobody the owner of a field.
    let manner = Manner { writer: None, ..super::manner(call) };
    server.modify(at, Part::Internal, &manner, change).await?;
    Ok(answer::status(call.accept.encoding(), &Status::success()))
}

fn bind(old: &Value, binding: &Value, node: &str, name: &str) -> Result<Value, Status> {
    let refuse = |why: String| Err(Status::conflict("", "pods/binding", name, &why));
    let uid = meta::uid(binding);
    if !uid.is_empty() && uid != meta::uid(old) {
        return refuse(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(old)
        ));
    }
    if meta::deletion_timestamp(old).is_some() {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(assigned) = old["spec"]["nodeName"].as_str().filter(|assigned| !assigned.is_empty()) {
        return refuse(format!("pod {name} is already assigned to node {assigned:?}"));
    }
    if old.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty()) {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut new = old.clone();
    new["spec"]["nodeName"] = node.into();
    for (key, value) in
        binding.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten()
    {
        new["metadata"]["annotations"][key.as_str()] = value.clone();
    }
    set_scheduled(&mut new);
    Ok(new)
}

/// The condition PodScheduled becomes true.
fn set_scheduled(pod: &mut Value) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": object_meta::now(),
    });
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|known| known["type"] != "PodScheduled");
        list.push(condition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}, "status": {"phase": "Pending"}});
        let bound = bind(&pod, &json!({}), "n", "p").unwrap();
        assert_eq!(
            (&bound["spec"]["nodeName"], &bound["status"]["conditions"][0]["status"]),
            (&json!("n"), &json!("True"))
        );
        let again = bind(&bound, &json!({}), "m", "p").unwrap_err();
        assert!(again.message.ends_with(r#"pod p is already assigned to node "n""#), "{again}");
        assert!(bind(&pod, &json!({"metadata": {"uid": "other"}}), "n", "p").is_err());
    }
}

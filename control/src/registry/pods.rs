//! Pods: the containers that run together on a node.

use super::cells::or_none;
use super::columns::{age, name, text, timed};
use super::row::Row;
use super::rules::Rules;
use super::{
    Resource, cells, faults::Faults, fields, pod_changes, pod_parts, pod_resources, pod_spec, pod_status,
    pod_status_rules, warnings,
};
use serde_json::{Map, Value, json};

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "Pod", "pods")
        .short(&["po"])
        .category("all")
        .status()
        .part("ephemeralcontainers")
        .part("resize")
        .subresource("binding", Some(("", "v1", "Binding")), &["create"])
        .subresource("eviction", Some(("policy", "v1", "Eviction")), &["create"])
        .subresource("log", None, &["get"])
        .subresource("exec", Some(("", "v1", "PodExecOptions")), &["create", "get"])
        .subresource("attach", Some(("", "v1", "PodAttachOptions")), &["create", "get"])
        .subresource("portforward", Some(("", "v1", "PodPortForwardOptions")), &["create", "get"])
        .proxy("PodProxyOptions")
        .columns(vec![
            name(),
            text("Ready", "Containers that are ready, of all.", pod_status::ready),
            text("Status", "What the pod is doing, in one word.", pod_status::status),
            timed(
                "Restarts",
                "How often its containers were restarted, and when last.",
                pod_status::restarts,
            ),
            age(),
            text("IP", "Its address.", |pod| or_none(fields::text(pod, "/status/podIP"))).wide(),
            text("Node", "Where it runs.", |pod| or_none(fields::text(pod, "/spec/nodeName"))).wide(),
            text("Nominated Node", "Where room is being made for it.", |pod| {
                or_none(fields::text(pod, "/status/nominatedNodeName"))
            })
            .wide(),
            text("Readiness Gates", "Conditions that must hold besides, and how many do.", gates).wide(),
        ])
        .rules(Rules {
            has_generation: true,
            defaults,
            on_create,
            on_update,
            on_status_update: pod_status_rules::keep,
            validate,
            validate_create: |pod, faults| {
                if !fields::list(pod, "/spec/ephemeralContainers").is_empty() {
                    faults.forbidden("spec.ephemeralContainers", "cannot be set on create");
                }
                let placed = !fields::text(pod, "/spec/nodeName").is_empty();
                if placed && !fields::list(pod, "/spec/schedulingGates").is_empty() {
                    let detail = "cannot be set until all schedulingGates have been cleared";
                    faults.forbidden("spec.nodeName", detail);
                }
            },
            validate_update: pod_changes::validate,
            validate_status_update: pod_status_rules::validate,
            selectable,
            deletion_grace,
            on_part: pod_parts::on_part,
            warnings: warnings::of_pod,
            ..Rules::NONE
        })
        .done()
}

fn gates(pod: &Value) -> String {
    let gates = fields::list(pod, "/spec/readinessGates");
    let held =
        gates.iter().filter(|gate| cells::condition_holds(pod, fields::text(gate, "/conditionType"))).count();
    if gates.is_empty() { cells::NONE.to_owned() } else { format!("{held}/{}", gates.len()) }
}

fn defaults(pod: &mut Value) {
    if let Some(spec) = fields::child(pod, "spec") {
        pod_spec::defaults(spec);
        pod_spec::tolerate_lost_nodes(spec);
    }
}

fn on_create(pod: &mut Value) {
    grant_a_second(pod);
    let quality = pod_resources::quality_of_service(pod.get("spec").unwrap_or(&Value::Null));
    let mut status = json!({"phase": "Pending", "qosClass": quality});
    if !fields::list(pod, "/spec/schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    fields::set(pod, "status", status);
}

/// What admission decided at the beginning stays, also for clients that leave it out.
/// No time at all is not to be had: the least is a second.
fn grant_a_second(pod: &mut Value) {
    if let Some(spec) = pod.get_mut("spec")
        && fields::int(spec, "/terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0)
    {
        fields::set(spec, "terminationGracePeriodSeconds", 1.into());
    }
}

fn on_update(new: &mut Value, old: &Value) {
    grant_a_second(new);
    if let (Some(spec), Some(before)) = (fields::child(new, "spec"), old.get("spec")) {
        fields::copy_missing(spec, before, &["priority", "preemptionPolicy", "overhead"]);
    }
}

fn validate(pod: &Value, faults: &mut Faults) {
    let empty = Value::Object(Map::new());
    let spec = pod.get("spec").unwrap_or(&empty);
    pod_spec::validate(spec, "spec", &["Always", "OnFailure", "Never"], faults);
}

fn selectable(pod: &Value, field: &str) -> Option<String> {
    let pointer = match field {
        "spec.hostNetwork" => return Some(fields::flag(pod, "/spec/hostNetwork").to_string()),
        "spec.nodeName"
        | "spec.restartPolicy"
        | "spec.schedulerName"
        | "spec.serviceAccountName"
        | "status.phase"
        | "status.podIP"
        | "status.nominatedNodeName" => format!("/{}", field.replace('.', "/")),
        "status.podIPs" => return Some(fields::text(pod, "/status/podIPs/0/ip").to_owned()),
        _ => return None,
    };
    Some(fields::text(pod, &pointer).to_owned())
}

/// A pod that no node has, or that has ended, goes at once.
fn deletion_grace(pod: &Value, requested: Option<i64>) -> i64 {
    let ended = matches!(fields::text(pod, "/status/phase"), "Failed" | "Succeeded");
    if fields::text(pod, "/spec/nodeName").is_empty() || ended {
        return 0;
    }
    let own = fields::int(pod, "/spec/terminationGracePeriodSeconds").unwrap_or(30);
    requested.unwrap_or(own).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i:1"}]}})
    }

    #[test]
    fn grace_is_the_pods_own_unless_asked_otherwise() {
        let mut on_node = pod();
        assert_eq!(deletion_grace(&on_node, None), 30);
        on_node["spec"]["terminationGracePeriodSeconds"] = json!(5);
        assert_eq!((deletion_grace(&on_node, None), deletion_grace(&on_node, Some(1))), (5, 1));
        on_node["status"] = json!({"phase": "Succeeded"});
        assert_eq!(deletion_grace(&on_node, None), 0);
        assert_eq!(deletion_grace(&json!({"spec": {}}), Some(30)), 0);
    }
}

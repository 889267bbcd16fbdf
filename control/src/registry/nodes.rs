//! Nodes: the machines that run pods.

use super::cells::{self, or_none};
use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, amount_status_rules, faults::Faults, fields};
use serde_json::Value;

pub(super) fn row() -> Resource {
    Row::cluster("", "v1", "Node", "nodes")
        .short(&["no"])
        .status()
        .proxy("NodeProxyOptions")
        .columns(vec![
            name(),
            text("Status", "Whether it is ready for pods.", status),
            text("Roles", "Roles that labels give it.", roles),
            age(),
            text("Version", "Version of its node agent.", |node| {
                fields::text(node, "/status/nodeInfo/kubeletVersion").to_owned()
            }),
            text("Internal-IP", "Its address inside the cluster.", |node| address(node, "InternalIP")).wide(),
            text("External-IP", "Its address outside the cluster.", |node| address(node, "ExternalIP"))
                .wide(),
            text("OS-Image", "Operating system.", |node| {
                or_unknown(fields::text(node, "/status/nodeInfo/osImage"))
            })
            .wide(),
            text("Kernel-Version", "Kernel.", |node| {
                or_unknown(fields::text(node, "/status/nodeInfo/kernelVersion"))
            })
            .wide(),
            text("Container-Runtime", "What runs its containers.", |node| {
                or_unknown(fields::text(node, "/status/nodeInfo/containerRuntimeVersion"))
            })
            .wide(),
        ])
        // A kubelet registers its node with its status.
        .rules(Rules {
            brings_status: true,
            defaults,
            validate,
            validate_update,
            on_status_update: |node, _| defaults(node),
            validate_status_update: amount_status_rules::of_node,
            selectable,
            ..Rules::NONE
        })
        .done()
}

fn status(node: &Value) -> String {
    let ready = match cells::condition(node, "Ready") {
        Some(condition) if fields::text(condition, "/status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let closed = if fields::flag(node, "/spec/unschedulable") { ",SchedulingDisabled" } else { "" };
    format!("{ready}{closed}")
}

fn roles(node: &Value) -> String {
    let role = |(key, value): (&str, &Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) if !role.is_empty() => Some(role.to_owned()),
        _ if key == "kubernetes.io/role" => value.as_str().filter(|role| !role.is_empty()).map(str::to_owned),
        _ => None,
    };
    let mut roles: Vec<String> = fields::pairs(node, "/metadata/labels").filter_map(role).collect();
    roles.sort();
    roles.dedup();
    or_none(&roles.join(","))
}

fn address(node: &Value, kind: &str) -> String {
    let found =
        fields::list(node, "/status/addresses").iter().find(|address| fields::text(address, "/type") == kind);
    or_none(found.map(|address| fields::text(address, "/address")).unwrap_or_default())
}

fn or_unknown(text: &str) -> String {
    if text.is_empty() { "<unknown>".to_owned() } else { text.to_owned() }
}

/// What can be allocated is everything there is, until the node says otherwise.
fn defaults(node: &mut Value) {
    if let Some(status) = node.get_mut("status")
        && status.get("allocatable").is_none()
        && let Some(capacity) = status.get("capacity").cloned()
    {
        fields::set(status, "allocatable", capacity);
    }
}

fn validate(node: &Value, faults: &mut Faults) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, taint) in fields::list(node, "/spec/taints").iter().enumerate() {
        let text = |field: &str| fields::text(taint, field).to_owned();
        if !seen.insert((text("/key"), text("/effect"))) {
            faults.duplicate_but(format!("metadata.taints[{index}]"), &in_go(taint), UNIQUE);
        }
        // Kubernetes says so, wherever they are.
        let path = format!("metadata.taints[{index}]");
        super::validation::label_key(&format!("{path}.key"), fields::text(taint, "/key"), faults);
        match fields::text(taint, "/effect") {
            "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
            "" => faults.required(format!("{path}.effect"), ""),
            other => faults.not_supported(
                format!("{path}.effect"),
                other,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            ),
        }
    }
}

const UNIQUE: &str = "taints must be unique by key and effect pair";

/// A taint as Kubernetes prints it: its fields by their inner names.
fn in_go(taint: &Value) -> String {
    let part = |field: &str| taint.get(field).cloned().unwrap_or_else(|| "".into());
    let added = taint.get("timeAdded").unwrap_or(&Value::Null);
    let (key, value, effect) = (part("key"), part("value"), part("effect"));
    format!("{{\"Key\":{key},\"Value\":{value},\"Effect\":{effect},\"TimeAdded\":{added}}}")
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    for field in ["podCIDR", "providerID"] {
        let before = old.pointer(&format!("/spec/{field}")).filter(|value| *value != "");
        let after = new.pointer(&format!("/spec/{field}"));
        if before.is_some() && before != after {
            faults.forbidden(
                if field == "podCIDR" { "spec.podCIDRs".to_owned() } else { format!("spec.{field}") },
                &format!("node updates may not change {field} except from \"\" to valid"),
            );
        }
    }
}

fn selectable(node: &Value, field: &str) -> Option<String> {
    (field == "spec.unschedulable").then(|| fields::flag(node, "/spec/unschedulable").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn status_and_roles_come_from_conditions_and_labels() {
        let mut node = json!({"metadata": {"labels": {
            "node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "worker", "x": "y"}}});
        assert_eq!((status(&node).as_str(), roles(&node).as_str()), ("Unknown", "control-plane,worker"));
        node["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        node["spec"] = json!({"unschedulable": true});
        assert_eq!(status(&node), "Ready,SchedulingDisabled");
    }

    #[test]
    fn a_new_node_keeps_the_status_that_it_comes_with() {
        let strategy = row().strategy;
        for (given, kept) in
            [(json!({"capacity": {"cpu": "2"}}), json!({"capacity": {"cpu": "2"}})), (json!(null), json!({}))]
        {
            let mut node = json!({"metadata": {"name": "n"}, "status": given});
            strategy.prepare_create(&mut node);
            assert_eq!(node["status"], kept);
        }
    }
}

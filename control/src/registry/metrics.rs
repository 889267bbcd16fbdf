//! Usage of nodes and pods, as `kubectl top` and autoscalers read it. Made when asked for, never stored.

use super::columns::{age, name, text};
use super::row::Row;
use super::{Resource, fields};
use serde_json::{Value, json};

const GROUP: &str = "metrics.k8s.io";

pub(super) fn rows() -> Vec<Resource> {
    let window = || {
        text("Window", "Time over which it was measured.", |object| {
            fields::text(object, "/window").to_owned()
        })
    };
    vec![
        Row::cluster(GROUP, "v1beta1", "NodeMetrics", "nodes")
            .verbs(&["get", "list"])
            .columns(vec![
                name(),
                text("CPU", "Cores in use.", |object| fields::text(object, "/usage/cpu").to_owned()),
                text("Memory", "Bytes in use.", |object| fields::text(object, "/usage/memory").to_owned()),
                window(),
            ])
            .schema(schema(&json!({"usage": usage()})))
            .done(),
        Row::namespaced(GROUP, "v1beta1", "PodMetrics", "pods")
            .verbs(&["get", "list"])
            .columns(vec![name(), window(), age()])
            .schema(schema(
                &json!({"containers": {"type": "array", "items": {"type": "object", "properties": {
                "name": {"type": "string", "description": "Name of the container."}, "usage": usage()}}}}),
            ))
            .done(),
    ]
}

fn usage() -> Value {
    json!({"type": "object", "description": "Amounts by resource.", "additionalProperties": {
        "x-kubernetes-int-or-string": true}})
}

fn schema(own: &Value) -> Value {
    let mut properties = json!({
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
        "timestamp": {"type": "string", "format": "date-time", "description": "When it was measured."},
        "window": {"type": "string", "description": "Time over which it was measured."},
    });
    for (name, schema) in own.as_object().into_iter().flatten() {
        properties[name.as_str()] = schema.clone();
    }
    json!({"type": "object", "description": "How much is in use.", "properties": properties})
}

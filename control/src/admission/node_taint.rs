//! A new node gets no pods before it has said that it is ready: it is tainted, until the controller of nodes takes the
//! taint away.

use crate::registry::fields;
use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

/// Adds the taint to a new node.
pub(super) fn fill_in(node: &mut Value) {
    let Some(spec) = fields::child(node, "spec") else { return };
    let mut taints = fields::list(spec, "/taints").to_vec();
    if !taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == EFFECT) {
        taints.push(json!({"key": NOT_READY, "effect": EFFECT}));
        fields::set(spec, "taints", taints.into());
    }
}

//! CSI drivers: what a storage driver can do.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, validation, volume_sources};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Seconds that a token for a driver is good for at least.
const SHORTEST_TOKEN: i64 = 600;

pub(super) fn row() -> Resource {
    Row::cluster("storage.k8s.io", "v1", "CSIDriver", "csidrivers")
        .columns(vec![
            name(),
            text("AttachRequired", "Whether volumes must be plugged in first.", |object| {
                (object.pointer("/spec/attachRequired") != Some(&Value::Bool(false))).to_string()
            }),
            text("PodInfoOnMount", "Whether it wants to know the pod.", |object| {
                fields::flag(object, "/spec/podInfoOnMount").to_string()
            }),
            text("StorageCapacity", "Whether it tells how much room there is.", |object| {
                fields::flag(object, "/spec/storageCapacity").to_string()
            }),
            text("TokenRequests", "Audiences of the tokens it wants.", |object| {
                let requests = fields::list(object, "/spec/tokenRequests").iter();
                let audiences: Vec<&str> =
                    requests.map(|request| fields::text(request, "/audience")).collect();
                if audiences.is_empty() { "<unset>".to_owned() } else { audiences.join(",") }
            }),
            text("RequiresRepublish", "Whether mounts are renewed.", |object| {
                fields::flag(object, "/spec/requiresRepublish").to_string()
            }),
            text("Modes", "Lives of its volumes.", |object| {
                cells::joined(
                    fields::list(object, "/spec/volumeLifecycleModes").iter().filter_map(Value::as_str),
                )
            }),
            age(),
        ])
        .rules(Rules {
            defaults: |object| {
                let Some(spec) = fields::child(object, "spec") else { return };
                fields::fill(spec, "attachRequired", true);
                for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
                    fields::fill(spec, field, false);
                }
                fields::fill_text(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
                fields::fill(spec, "volumeLifecycleModes", json!(["Persistent"]));
            },
            validate,
            validate_update,
            ..Rules::NONE
        })
        .done()
}

fn validate(driver: &Value, faults: &mut Faults) {
    volume_sources::driver(fields::text(driver, "/metadata/name"), "metadata.name", faults);
    let mut audiences = BTreeSet::new();
    for (index, request) in fields::list(driver, "/spec/tokenRequests").iter().enumerate() {
        let path = format!("spec.tokenRequests[{index}]");
        let audience = fields::text(request, "/audience");
        if !audiences.insert(audience) {
            faults.duplicate(format!("{path}.audience"), &json!(audience));
            continue;
        }
        let seconds = fields::int(request, "/expirationSeconds");
        if let Some(seconds) = seconds.filter(|seconds| *seconds < SHORTEST_TOKEN) {
            let detail = "may not specify a duration less than 10 minutes";
            faults.invalid(format!("{path}.expirationSeconds"), &json!(seconds), detail);
        }
    }
    let policy = fields::text(driver, "/spec/fsGroupPolicy");
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    validation::optional_choice("spec.fsGroupPolicy", policy, &policies, faults);
    for mode in fields::list(driver, "/spec/volumeLifecycleModes").iter().filter_map(Value::as_str) {
        validation::optional_choice("spec.volumeLifecycleModes", mode, &["Persistent", "Ephemeral"], faults);
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    // The first name is spelled like this in Kubernetes' own messages.
    for (name, field) in
        [("attachedRequired", "attachRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
    {
        let part = |driver: &Value| driver.pointer(&format!("/spec/{field}")).cloned().unwrap_or(Value::Null);
        if part(new) != part(old) {
            faults.immutable(format!("spec.{name}"), &part(new));
        }
    }
}

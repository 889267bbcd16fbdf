//! CSI drivers: what a storage driver can do.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, fields};
use serde_json::Value;

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
                fields::fill(spec, "volumeLifecycleModes", serde_json::json!(["Persistent"]));
            },
            ..Rules::NONE
        })
        .done()
}

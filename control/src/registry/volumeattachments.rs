//! Volume attachments: which volume is plugged into which node.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation, volume_sources};
use knarr_api::names;
use serde_json::{Value, json};

pub(super) fn row() -> Resource {
    Row::cluster("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments")
        .status()
        .columns(vec![
            name(),
            text("Attacher", "Who plugs it in.", |object| fields::text(object, "/spec/attacher").to_owned()),
            text("PV", "The volume.", |object| {
                fields::text(object, "/spec/source/persistentVolumeName").to_owned()
            }),
            text("Node", "The node.", |object| fields::text(object, "/spec/nodeName").to_owned()),
            text("Attached", "Whether it is done.", |object| {
                fields::flag(object, "/status/attached").to_string()
            }),
            age(),
        ])
        .rules(Rules { on_create, validate, validate_update, ..Rules::NONE })
        .done()
}

fn on_create(attachment: &mut Value) {
    fields::set(attachment, "status", json!({"attached": false}));
}

fn validate(attachment: &Value, faults: &mut Faults) {
    volume_sources::driver(fields::text(attachment, "/spec/attacher"), "spec.attacher", faults);
    let node = fields::text(attachment, "/spec/nodeName");
    validation::named("spec.nodeName", node, names::dns1123_subdomain, faults);
    let given = |field: &str| attachment.pointer(&format!("/spec/source/{field}")).is_some();
    if given("inlineVolumeSpec") == given("persistentVolumeName") {
        let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        faults.required("spec.source", detail);
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    if new.get("spec") != old.get("spec") {
        let part = |pointer: &str| new.pointer(pointer).unwrap_or(&Value::Null);
        // Kubernetes tells the specification in its inner form.
        let shown = json!({
            "Attacher": part("/spec/attacher"),
            "Source": {
                "PersistentVolumeName": part("/spec/source/persistentVolumeName"),
                "InlineVolumeSpec": part("/spec/source/inlineVolumeSpec"),
            },
            "NodeName": part("/spec/nodeName"),
        });
        faults.immutable("spec", &shown);
    }
}

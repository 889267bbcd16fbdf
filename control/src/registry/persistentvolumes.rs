//! Persistent volumes: disks of the cluster.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, resources, validation};
use serde_json::{Value, json};

pub(super) const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

pub(super) fn row() -> Resource {
    Row::cluster("", "v1", "PersistentVolume", "persistentvolumes")
        .short(&["pv"])
        .status()
        .columns(vec![
            name(),
            text("Capacity", "How large it is.", |object| {
                cells::int_or_text(object, "/spec/capacity/storage", "0")
            }),
            text("Access Modes", "How it may be mounted.", |object| {
                cells::access_modes(object, "/spec/accessModes")
            }),
            text("Reclaim Policy", "What becomes of it when its claim goes.", |object| {
                fields::text(object, "/spec/persistentVolumeReclaimPolicy").to_owned()
            }),
            text("Status", "Whether it is in use.", phase),
            text("Claim", "Who has it.", |object| {
                let claim = |field: &str| fields::text(object, &format!("/spec/claimRef/{field}")).to_owned();
                if object.pointer("/spec/claimRef").is_some() {
                    format!("{}/{}", claim("namespace"), claim("name"))
                } else {
                    String::new()
                }
            }),
            text("StorageClass", "Its class.", |object| {
                fields::text(object, "/spec/storageClassName").to_owned()
            }),
            text("VolumeAttributesClass", "Its class of attributes.", |object| {
                cells::int_or_text(object, "/spec/volumeAttributesClassName", "<unset>")
            }),
            text("Reason", "Why it is in this state.", |object| {
                fields::text(object, "/status/reason").to_owned()
            }),
            age(),
            text("VolumeMode", "Files or raw blocks.", |object| {
                cells::int_or_text(object, "/spec/volumeMode", "<unset>")
            })
            .wide(),
        ])
        .rules(Rules { defaults, on_create, validate, ..Rules::NONE })
        .done()
}

/// The phase of a volume or claim, or that it is going away.
pub(super) fn phase(object: &Value) -> String {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return "Terminating".to_owned();
    }
    fields::text(object, "/status/phase").to_owned()
}

fn defaults(object: &mut Value) {
    let Some(spec) = fields::child(object, "spec") else { return };
    fields::fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    fields::fill_text(spec, "volumeMode", "Filesystem");
    if let Some(host) = spec.get_mut("hostPath") {
        fields::fill(host, "type", "");
    }
}

fn on_create(object: &mut Value) {
    fields::set(object, "status", json!({"phase": "Pending"}));
}

fn validate(object: &Value, faults: &mut Faults) {
    modes(object, faults);
    let capacity = object.pointer("/spec/capacity/storage");
    match capacity {
        None => faults.required("spec.capacity", ""),
        Some(amount) => resources::amount_of("spec.capacity[storage]", "storage", amount, faults),
    }
    validation::one_of(
        object,
        "spec.persistentVolumeReclaimPolicy",
        &["Delete", "Recycle", "Retain"],
        faults,
    );
    validation::one_of(object, "spec.volumeMode", &["Block", "Filesystem"], faults);
}

/// At least one access mode, and none that does not exist.
pub(super) fn modes(object: &Value, faults: &mut Faults) {
    let modes = fields::list(object, "/spec/accessModes");
    if modes.is_empty() {
        faults.required("spec.accessModes", "at least 1 access mode is required");
    }
    for mode in modes.iter().filter_map(Value::as_str).filter(|mode| !ACCESS_MODES.contains(mode)) {
        faults.not_supported("spec.accessModes", mode, &ACCESS_MODES);
    }
}

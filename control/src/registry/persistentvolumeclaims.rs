//! Claims of persistent volumes: what a pod asks for and is given.

use super::columns::{age, name, text};
use super::persistentvolumes::{modes, phase};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, resources, validation};
use serde_json::{Value, json};

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
        .short(&["pvc"])
        .status()
        .columns(vec![
            name(),
            text("Status", "Whether it has a volume.", phase),
            text("Volume", "Its volume.", |object| fields::text(object, "/spec/volumeName").to_owned()),
            text("Capacity", "How large the volume is.", |object| {
                bound(object, cells::int_or_text(object, "/status/capacity/storage", "0"))
            }),
            text("Access Modes", "How the volume may be mounted.", |object| {
                bound(object, cells::access_modes(object, "/status/accessModes"))
            }),
            text("StorageClass", "The class asked for.", |object| {
                fields::text(object, "/spec/storageClassName").to_owned()
            }),
            text("VolumeAttributesClass", "The class of attributes asked for.", |object| {
                cells::int_or_text(object, "/spec/volumeAttributesClassName", "<unset>")
            }),
            age(),
            text("VolumeMode", "Files or raw blocks.", |object| {
                cells::int_or_text(object, "/spec/volumeMode", "<unset>")
            })
            .wide(),
        ])
        .rules(Rules { defaults, on_create, validate, validate_update, ..Rules::NONE })
        .done()
}

/// A cell that only a claim with a volume has.
fn bound(object: &Value, cell: String) -> String {
    if fields::text(object, "/spec/volumeName").is_empty() { String::new() } else { cell }
}

/// The documented defaults, also of claims inside stateful sets.
pub(super) fn defaults(object: &mut Value) {
    if let Some(spec) = fields::child(object, "spec") {
        fields::fill_text(spec, "volumeMode", "Filesystem");
    }
}

fn on_create(object: &mut Value) {
    fields::set(object, "status", json!({"phase": "Pending"}));
}

fn validate(object: &Value, faults: &mut Faults) {
    modes(object, faults);
    match object.pointer("/spec/resources/requests/storage") {
        None => faults.required("spec.resources[storage]", ""),
        Some(amount) => resources::amount_of("spec.resources[storage]", "storage", amount, faults),
    }
    validation::one_of(object, "spec.volumeMode", &["Block", "Filesystem"], faults);
}

/// A claim may grow and may be bound; everything else of its spec stays.
fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let fixed = |object: &Value, unbound: bool| {
        let mut spec = object.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
        spec.remove("resources");
        spec.remove("volumeAttributesClassName");
        if unbound {
            spec.remove("volumeName");
            spec.remove("storageClassName");
        }
        spec
    };
    let unbound = fields::text(old, "/spec/volumeName").is_empty();
    if fixed(new, unbound) != fixed(old, unbound) {
        faults.forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let asked =
        |object: &Value| object.pointer("/spec/resources/requests/storage").and_then(resources::parse);
    if let (Some(before), Some(after)) = (asked(old), asked(new))
        && after < before
    {
        faults.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity");
    }
}

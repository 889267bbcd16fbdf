//! Claims of persistent volumes: what a pod asks for and is given.

use super::columns::{age, name, text};
use super::persistentvolumes::{modes, phase};
use super::row::Row;
use super::rules::Rules;
use super::{
    Resource, amount_status_rules, cells, data_sources, faults::Faults, fields, resources, validation,
    warnings,
};
use knarr_api::names;
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
        .rules(Rules {
            defaults,
            on_create,
            validate,
            validate_update,
            validate_status_update: amount_status_rules::of_claim,
            warnings: warn,
            ..Rules::NONE
        })
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
    if let Some(spec) = object.get_mut("spec") {
        data_sources::complete(spec);
    }
    fields::set(object, "status", json!({"phase": "Pending"}));
}

fn validate(object: &Value, faults: &mut Faults) {
    validate_spec(object, "spec", faults);
}

/// Every fault of the specification of the claim `object`, which is told as that at `path`.
pub(super) fn validate_spec(object: &Value, path: &str, faults: &mut Faults) {
    modes(object, path, "at least 1 access mode is required", faults);
    let storage = format!("{path}.resources[storage]");
    match object.pointer("/spec/resources/requests/storage") {
        None => faults.required(storage, ""),
        Some(amount) => resources::more_than_nothing(&storage, amount, faults),
    }
    let mode = fields::text(object, "/spec/volumeMode");
    validation::optional_choice(&format!("{path}.volumeMode"), mode, &["Block", "Filesystem"], faults);
    if let Some(selector) = object.pointer("/spec/selector") {
        validation::label_selector(selector, &format!("{path}.selector"), faults);
    }
    if let Some(spec) = object.get("spec") {
        data_sources::validate(spec, path, faults);
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let name = fields::text(object, &format!("/spec/{field}"));
        validation::optional_name(&format!("{path}.{field}"), name, names::dns1123_subdomain, faults);
    }
}

/// A claim that has its volume may grow; everything else of its spec stays, but for what an unbound one did not say.
fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let bound = fields::text(old, "/status/phase") == "Bound";
    let unbound = fields::text(old, "/spec/volumeName").is_empty();
    let open = |field: &str| match field {
        "volumeAttributesClassName" => true,
        "resources" => bound,
        "volumeName" => unbound,
        "storageClassName" => unbound && fields::text(old, "/spec/storageClassName").is_empty(),
        _ => false,
    };
    let fixed = |object: &Value| {
        let mut spec = object.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
        spec.retain(|field, _| !open(field));
        spec
    };
    if fixed(new) != fixed(old) {
        faults.forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let asked =
        |object: &Value| object.pointer("/spec/resources/requests/storage").and_then(resources::parse);
    let had = old.pointer("/status/capacity/storage").and_then(resources::parse).or_else(|| asked(old));
    if let (true, Some(had), Some(before), Some(after)) = (bound, had, asked(old), asked(new))
        && after < before
        && after < had
    {
        faults.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity");
    }
}

fn warn(object: &Value) -> Vec<String> {
    let class = "volume.beta.kubernetes.io/storage-class";
    let words = "deprecated since v1.8; use \"storageClassName\" attribute instead";
    let amount = object.pointer("/spec/resources/requests/storage");
    let of_amount = warnings::fraction(amount, "spec.resources.requests[storage]");
    warnings::of_annotation(object, class, words).into_iter().chain(of_amount).collect()
}

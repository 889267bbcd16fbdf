//! Storage classes: how volumes are made for claims.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation};
use serde_json::Value;

const DEFAULT: &str = "/metadata/annotations/storageclass.kubernetes.io~1is-default-class";

pub(super) fn row() -> Resource {
    let mut identity = name();
    identity.cell = std::sync::Arc::new(|class, _| {
        let mark = if fields::text(class, DEFAULT) == "true" { " (default)" } else { "" };
        format!("{}{mark}", fields::text(class, "/metadata/name")).into()
    });
    Row::cluster("storage.k8s.io", "v1", "StorageClass", "storageclasses")
        .short(&["sc"])
        .columns(vec![
            identity,
            text("Provisioner", "Who makes the volumes.", |class| {
                fields::text(class, "/provisioner").to_owned()
            }),
            text("ReclaimPolicy", "What becomes of a volume when its claim goes.", |class| {
                fields::text(class, "/reclaimPolicy").to_owned()
            }),
            text("VolumeBindingMode", "When a claim gets its volume.", |class| {
                fields::text(class, "/volumeBindingMode").to_owned()
            }),
            text("AllowVolumeExpansion", "Whether volumes may grow.", |class| {
                fields::flag(class, "/allowVolumeExpansion").to_string()
            }),
            age(),
        ])
        .rules(Rules { defaults, validate, validate_update, ..Rules::NONE })
        .done()
}

fn defaults(class: &mut Value) {
    fields::fill_text(class, "reclaimPolicy", "Delete");
    fields::fill_text(class, "volumeBindingMode", "Immediate");
}

fn validate(class: &Value, faults: &mut Faults) {
    if fields::text(class, "/provisioner").is_empty() {
        faults.required("provisioner", "");
    }
    validation::one_of(class, "reclaimPolicy", &["Delete", "Retain"], faults);
    validation::one_of(class, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], faults);
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if new.get(field) != old.get(field) {
            faults.forbidden(field, &format!("updates to {field} are forbidden."));
        }
    }
    validation::unchanged(new, old, "volumeBindingMode", faults);
}

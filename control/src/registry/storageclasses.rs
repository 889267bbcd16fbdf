//! Storage classes: how volumes are made for claims.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation, warnings};
use knarr_api::names;
use serde_json::{Value, json};
use std::collections::BTreeSet;

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
        .rules(Rules { defaults, validate, validate_update, warnings: warn, ..Rules::NONE })
        .done()
}

fn defaults(class: &mut Value) {
    fields::fill_text(class, "reclaimPolicy", "Delete");
    fields::fill_text(class, "volumeBindingMode", "Immediate");
}

fn validate(class: &Value, faults: &mut Faults) {
    // Upper case is tolerated here, as names of old provisioners have it.
    let provisioner = fields::text(class, "/provisioner").to_lowercase();
    validation::required_name("provisioner", &provisioner, names::qualified_name, faults);
    parameters(class, faults);
    validation::one_of(class, "reclaimPolicy", &["Delete", "Retain"], faults);
    validation::one_of(class, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], faults);
    for (index, term) in fields::list(class, "/allowedTopologies").iter().enumerate() {
        topology(term, &format!("allowedTopologies[{index}]"), faults);
    }
}

/// What the provisioner is told: not too much of it, and by names.
fn parameters(class: &Value, faults: &mut Faults) {
    const MOST: usize = 512;
    const LARGEST: usize = 256 << 10;
    if fields::pairs(class, "/parameters").count() > MOST {
        return faults.too_long("parameters", MOST);
    }
    if fields::pairs(class, "/parameters").any(|(key, _)| key.is_empty()) {
        faults.invalid("parameters", &json!(""), "field can not be empty.");
    }
    let size = |(key, value): (&str, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if fields::pairs(class, "/parameters").map(size).sum::<usize>() > LARGEST {
        faults.too_long("parameters", LARGEST);
    }
}

/// Labels with values, each once.
fn topology(term: &Value, path: &str, faults: &mut Faults) {
    let mut keys = BTreeSet::new();
    for (index, expression) in fields::list(term, "/matchLabelExpressions").iter().enumerate() {
        let path = format!("{path}.matchLabelExpressions[{index}]");
        let (key, values) = (fields::text(expression, "/key"), fields::list(expression, "/values"));
        if values.is_empty() {
            faults.required(format!("{path}.values"), "");
        }
        for (at, value) in values.iter().enumerate().filter(|(at, value)| values[..*at].contains(value)) {
            faults.duplicate(format!("{path}.values[{at}]"), value);
        }
        validation::named(&format!("{path}.key"), key, names::qualified_name, faults);
        if !keys.insert(key) {
            faults.duplicate(format!("{path}.key"), &json!(key));
        }
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        validation::unchanged(new, old, field, faults);
    }
}

fn warn(class: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (index, term) in fields::list(class, "/allowedTopologies").iter().enumerate() {
        for (at, expression) in fields::list(term, "/matchLabelExpressions").iter().enumerate() {
            let field = format!("allowedTopologies[{index}].matchLabelExpressions[{at}].key");
            found.extend(warnings::of_label(fields::text(expression, "/key"), &field));
        }
    }
    found
}

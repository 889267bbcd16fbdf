//! Custom resource definitions: rows of this very table that users add.

use super::columns::{created_at, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation};
use crate::extensions::FINALIZER;
use crate::schema::structural::rules;
use serde_json::{Value, json};

pub(super) fn row() -> Resource {
    Row::cluster("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
        .short(&["crd", "crds"])
        .category("api-extensions")
        .status()
        .columns(vec![name(), created_at()])
        .rules(Rules { has_generation: true, defaults, on_create, validate, validate_update, ..Rules::NONE })
        .done()
}

fn defaults(definition: &mut Value) {
    let Some(spec) = fields::child(definition, "spec") else { return };
    fields::fill(spec, "conversion", json!({"strategy": "None"}));
    if let Some(names) = fields::child(spec, "names") {
        let kind = fields::text(names, "/kind").to_owned();
        fields::fill_text(names, "singular", &kind.to_lowercase());
        fields::fill_text(names, "listKind", &format!("{kind}List"));
    }
}

/// The finalizer keeps a deleted definition until its objects are gone.
fn on_create(definition: &mut Value) {
    let mut finalizers = fields::list(definition, "/metadata/finalizers").to_vec();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    fields::set_in(definition, "metadata", "finalizers", finalizers.into());
    let stored =
        fields::list(definition, "/spec/versions").iter().filter(|version| fields::flag(version, "/storage"));
    let versions: Vec<Value> = stored.map(|version| version["name"].clone()).collect();
    let names = json!({"kind": "", "plural": ""});
    fields::set(
        definition,
        "status",
        json!({"acceptedNames": names, "conditions": [], "storedVersions": versions}),
    );
}

fn validate(definition: &Value, faults: &mut Faults) {
    let group = fields::text(definition, "/spec/group");
    if group.is_empty() {
        faults.required("spec.group", "");
    } else if !group.contains('.') {
        faults.invalid("spec.group", &json!(group), "should be a domain with at least one dot");
    }
    let plural = fields::text(definition, "/spec/names/plural");
    let expected = format!("{plural}.{group}");
    let name = fields::text(definition, "/metadata/name");
    if name != expected {
        faults.invalid("metadata.name", &json!(name), "must be spec.names.plural+\".\"+spec.group");
    }
    for field in ["plural", "kind"] {
        if fields::text(definition, &format!("/spec/names/{field}")).is_empty() {
            faults.required(format!("spec.names.{field}"), "");
        }
    }
    validation::one_of(definition, "spec.scope", &["Cluster", "Namespaced"], faults);
    versions(definition, faults);
    // Versions that only a webhook can convert would be served wrong.
    let several = fields::list(definition, "/spec/versions").len() > 1;
    if several && fields::text(definition, "/spec/conversion/strategy") == "Webhook" {
        faults.not_supported("spec.conversion.strategy", "Webhook", &["None"]);
    }
}

fn versions(definition: &Value, faults: &mut Faults) {
    let versions = fields::list(definition, "/spec/versions");
    let stored = versions.iter().filter(|version| fields::flag(version, "/storage")).count();
    if stored != 1 {
        let detail = "must have exactly one version marked as storage version";
        faults.invalid("spec.versions", &versions.to_vec().into(), detail);
    }
    for (index, version) in versions.iter().enumerate() {
        if version.pointer("/schema/openAPIV3Schema").is_none() {
            faults.required(format!("spec.versions[{index}].schema.openAPIV3Schema"), "schemas are required");
        }
        if let Some(schema) = version.pointer("/schema/openAPIV3Schema") {
            let mut causes = Vec::new();
            rules::faults(schema, &format!("spec.versions[{index}].schema.openAPIV3Schema"), &mut causes);
            faults.extend(causes);
        }
        let kind = fields::text(version, "/schema/openAPIV3Schema/type");
        if kind != "object" && version.pointer("/schema/openAPIV3Schema").is_some() {
            let path = format!("spec.versions[{index}].schema.openAPIV3Schema.type");
            faults.invalid(path, &json!(kind), "must be object at the root");
        }
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    for field in ["spec.group", "spec.scope", "spec.names.plural", "spec.names.kind"] {
        validation::unchanged(new, old, field, faults);
    }
}

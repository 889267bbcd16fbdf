//! Custom resource definitions: rows of this very table that users add.

use super::columns::{created_at, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation};
use crate::extensions::FINALIZER;
use crate::schema::structural::definition;
use knarr_api::names::dns1035_label;
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
    if let Some(service) = spec.pointer_mut("/conversion/webhook/clientConfig/service") {
        fields::fill_int(service, "port", 443);
    }
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
    names(definition.pointer("/spec/names").unwrap_or(&Value::Null), faults);
    columns(definition, faults);
    validation::one_of(definition, "spec.scope", &["Cluster", "Namespaced"], faults);
    versions(definition, faults);
    conversion(definition, faults);
}

/// Kinds are written with capitals, and are names otherwise.
fn names(names: &Value, faults: &mut Faults) {
    for (field, is_kind) in [("plural", false), ("singular", false), ("kind", true), ("listKind", true)] {
        let (name, path) = (fields::text(names, &format!("/{field}")), format!("spec.names.{field}"));
        if name.is_empty() {
            if matches!(field, "plural" | "kind") {
                faults.required(path, "");
            }
            continue;
        }
        let (tried, lead) = match is_kind {
            true => (name.to_lowercase(), "may have mixed case, but should otherwise match: "),
            false => (name.to_owned(), ""),
        };
        let why = dns1035_label(&tried).join(",");
        if !why.is_empty() {
            faults.invalid(path, &json!(name), &format!("{lead}{why}"));
        }
    }
    for field in ["shortNames", "categories"] {
        for (index, name) in fields::list(names, &format!("/{field}")).iter().enumerate() {
            let path = format!("spec.names.{field}[{index}]");
            validation::named(&path, name.as_str().unwrap_or_default(), dns1035_label, faults);
        }
    }
    let (kind, list) = (fields::text(names, "/kind"), fields::text(names, "/listKind"));
    if !kind.is_empty() && kind == list {
        faults.invalid("spec.names.listKind", &json!(list), "kind and listKind may not be the same");
    }
}

/// Columns that all versions have are told as Kubernetes keeps them.
fn columns(definition: &Value, faults: &mut Faults) {
    let versions = fields::list(definition, "/spec/versions");
    let of = |version| fields::list(version, "/additionalPrinterColumns");
    if versions.windows(2).all(|pair| of(&pair[0]) == of(&pair[1])) {
        let all = versions.first().map(of).unwrap_or_default();
        return all.iter().enumerate().for_each(|(index, column)| {
            self::column(column, &format!("spec.additionalPrinterColumns[{index}]"), faults);
        });
    }
    for (at, version) in versions.iter().enumerate() {
        for (index, column) in of(version).iter().enumerate() {
            self::column(column, &format!("spec.versions[{at}].additionalPrinterColumns[{index}]"), faults);
        }
    }
}

fn column(column: &Value, path: &str, faults: &mut Faults) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    if fields::text(column, "/name").is_empty() {
        faults.required(format!("{path}.name"), "");
    }
    let detail = format!("must be one of {}", TYPES.join(","));
    match fields::text(column, "/type") {
        "" => faults.required(format!("{path}.type"), &detail),
        known if TYPES.contains(&known) => {}
        other => faults.invalid(format!("{path}.type"), &json!(other), &detail),
    }
    let format = fields::text(column, "/format");
    if !format.is_empty() && !FORMATS.contains(&format) {
        let detail = format!("must be one of {}", FORMATS.join(","));
        faults.invalid(format!("{path}.format"), &json!(format), &detail);
    }
    if fields::text(column, "/jsonPath").is_empty() {
        faults.required(format!("{path}.JSONPath"), "");
    }
}

/// The words are those of Kubernetes, whose internal type calls `webhook.clientConfig` so.
fn conversion(definition: &Value, faults: &mut Faults) {
    validation::one_of(definition, "spec.conversion.strategy", &["None", "Webhook"], faults);
    let webhook = definition.pointer("/spec/conversion/webhook").filter(|webhook| !webhook.is_null());
    let client = webhook.and_then(|webhook| webhook.get("clientConfig"));
    let path = "spec.conversion.webhookClientConfig";
    if fields::text(definition, "/spec/conversion/strategy") != "Webhook" {
        if webhook.is_some() {
            faults.forbidden(path, "should not be set when strategy is not set to Webhook");
        }
        return;
    }
    match client {
        None => faults.required(path, "required when strategy is set to Webhook"),
        Some(client) if client.get("url").is_some() == client.get("service").is_some() => {
            faults.required(path, "exactly one of url or service is required");
        }
        Some(_) => {}
    }
    let reviews = fields::list(definition, "/spec/conversion/webhook/conversionReviewVersions");
    let path = "spec.conversion.conversionReviewVersions";
    if reviews.is_empty() {
        faults.required(path, "");
    } else if !reviews.iter().any(|version| version == "v1" || version == "v1beta1") {
        faults.invalid(path, &reviews.to_vec().into(), "must include at least one of v1, v1beta1");
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
    }
    let schema = |version: &Value| version.pointer("/schema/openAPIV3Schema").cloned();
    let schemas: Vec<Value> = versions.iter().filter_map(schema).collect();
    if schemas.len() == versions.len() && schemas.windows(2).all(|pair| pair[0] == pair[1]) {
        // One schema of all versions is told as Kubernetes keeps it.
        if let Some(schema) = schemas.first() {
            definition::faults(schema, "spec.validation.openAPIV3Schema", faults);
        }
        return;
    }
    for (index, schema) in schemas.iter().enumerate() {
        definition::faults(schema, &format!("spec.versions[{index}].schema.openAPIV3Schema"), faults);
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    for field in ["spec.group", "spec.scope", "spec.names.plural", "spec.names.kind"] {
        validation::unchanged(new, old, field, faults);
    }
}

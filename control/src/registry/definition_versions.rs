//! What each version of a custom resource definition says besides its schema: its columns, its subresources, the fields
//! that selectors may name. What all versions say alike is told as Kubernetes keeps it, once.

use super::faults::Faults;
use super::{fields, validation};
use crate::schema::structural::definition;
use knarr_api::names::dns1035_label;
use serde_json::{Value, json};

/// As many fields of a version may be named by selectors.
const MOST_SELECTABLE: usize = 8;

/// Every fault of the versions of a definition.
pub(super) fn validate(definition: &Value, faults: &mut Faults) {
    let versions = fields::list(definition, "/spec/versions");
    for (index, version) in versions.iter().enumerate() {
        if version.pointer("/schema/openAPIV3Schema").is_none() {
            faults.required(format!("spec.versions[{index}].schema.openAPIV3Schema"), "");
        }
    }
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        let name = fields::text(version, "/name");
        let why = dns1035_label(name).join(",");
        if !why.is_empty() {
            faults.invalid(format!("{path}.name"), &json!(name), &why);
        }
        deprecation(version, &path, faults);
    }
    let names: Vec<&str> = versions.iter().map(|version| fields::text(version, "/name")).collect();
    if names.iter().enumerate().any(|(at, name)| names[..at].contains(name)) {
        faults.invalid("spec.versions", &json!(versions), "must contain unique version names");
    }
    let stored = versions.iter().filter(|version| fields::flag(version, "/storage")).count();
    if stored != 1 {
        let detail = "must have exactly one version marked as storage version";
        faults.invalid("spec.versions", &json!(versions), detail);
    }
    let parts: [(&str, &str, Part); 4] = [
        ("schema", "validation", schema),
        ("subresources", "subresources", subresources),
        ("additionalPrinterColumns", "additionalPrinterColumns", columns),
        ("selectableFields", "selectableFields", selectable),
    ];
    for (field, shared, check) in parts {
        each(versions, field, shared, check, faults);
    }
}

/// Checks one part of a version that stands at a path.
type Part = fn(&Value, &str, &mut Faults);

/// Once where all versions agree, else for each version.
fn each(versions: &[Value], field: &str, shared: &str, check: Part, faults: &mut Faults) {
    let alike = versions.windows(2).all(|pair| pair[0].get(field) == pair[1].get(field));
    if alike {
        versions.first().into_iter().for_each(|version| check(version, &format!("spec.{shared}"), faults));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        check(version, &format!("spec.versions[{index}].{field}"), faults);
    }
}

fn schema(version: &Value, path: &str, faults: &mut Faults) {
    let Some(schema) = version.pointer("/schema/openAPIV3Schema") else { return };
    let path = format!("{path}.openAPIV3Schema");
    if version.pointer("/subresources/status").is_some_and(|status| !status.is_null()) {
        only_fields(schema, &path, faults);
    }
    definition::faults(schema, &path, faults);
}

/// Where status is written by itself, its schema is taken out of the whole: nothing else may speak of it.
fn only_fields(schema: &Value, path: &str, faults: &mut Faults) {
    const ALLOWED: [(&str, &str); 22] = [
        ("description", "Description"),
        ("type", "Type"),
        ("format", "Format"),
        ("title", "Title"),
        ("maximum", "Maximum"),
        ("exclusiveMaximum", "ExclusiveMaximum"),
        ("minimum", "Minimum"),
        ("exclusiveMinimum", "ExclusiveMinimum"),
        ("maxLength", "MaxLength"),
        ("minLength", "MinLength"),
        ("pattern", "Pattern"),
        ("maxItems", "MaxItems"),
        ("minItems", "MinItems"),
        ("uniqueItems", "UniqueItems"),
        ("multipleOf", "MultipleOf"),
        ("required", "Required"),
        ("items", "Items"),
        ("properties", "Properties"),
        ("externalDocs", "ExternalDocs"),
        ("example", "Example"),
        ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
        ("x-kubernetes-validations", "XValidations"),
    ];
    let kind = fields::text(schema, "/type");
    if !matches!(kind, "" | "object") {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        return faults.invalid(format!("{path}.type"), &json!(kind), detail);
    }
    let said = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    let known = |name: &str| ALLOWED.iter().any(|(field, _)| *field == name);
    let mut all = schema.as_object().into_iter().flatten();
    if all.any(|(name, value)| said(value) && !known(name)) {
        let names: Vec<&str> = ALLOWED.iter().map(|(_, name)| *name).collect();
        let names = names.join(" ");
        let detail = format!(
            "only [{names}] fields are allowed at the root of the schema if the status subresource is enabled"
        );
        faults.invalid(path, schema, &detail);
    }
}

fn subresources(version: &Value, path: &str, faults: &mut Faults) {
    let Some(scale) = version.pointer("/subresources/scale").filter(|scale| !scale.is_null()) else { return };
    for (field, root) in [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")] {
        let (place, at) = (fields::text(scale, &format!("/{field}")), format!("{path}.scale.{field}"));
        if place.is_empty() {
            faults.required(at, "");
        } else if simple(place, &at, faults) && !place.starts_with(&format!("{root}.")) {
            faults.invalid(at, &json!(place), &format!("should be a json path under {root}"));
        }
    }
    let (place, at) = (fields::text(scale, "/labelSelectorPath"), format!("{path}.scale.labelSelectorPath"));
    let inside = place.starts_with(".spec.") || place.starts_with(".status.");
    if !place.is_empty() && simple(place, &at, faults) && !inside {
        faults.invalid(at, &json!(place), "should be a json path under either .spec or .status");
    }
}

/// Whether a path begins as paths do.
fn simple(path: &str, at: &str, faults: &mut Faults) -> bool {
    if !path.starts_with('.') {
        faults.invalid(at, &json!(path), "must be a simple json path starting with .");
    }
    path.starts_with('.')
}

fn columns(version: &Value, path: &str, faults: &mut Faults) {
    for (index, column) in fields::list(version, "/additionalPrinterColumns").iter().enumerate() {
        self::column(column, &format!("{path}[{index}]"), faults);
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
    let (place, at) = (fields::text(column, "/jsonPath"), format!("{path}.JSONPath"));
    if place.is_empty() {
        faults.required(at, "");
    } else {
        simple(place, &at, faults);
    }
}

fn selectable(version: &Value, path: &str, faults: &mut Faults) {
    let empty = Value::Null;
    let schema = version.pointer("/schema/openAPIV3Schema").unwrap_or(&empty);
    let mut seen: Vec<Vec<String>> = Vec::new();
    for (index, field) in fields::list(version, "/selectableFields").iter().enumerate() {
        let (place, at) = (fields::text(field, "/jsonPath"), format!("{path}[{index}].jsonPath"));
        if place.is_empty() {
            faults.required(at, "");
            continue;
        }
        let (names, found) = match definition::follow(place, schema, false) {
            Ok(found) => found,
            Err(why) => {
                faults.invalid(at, &json!(place), &format!("is an invalid path: {why}"));
                continue;
            }
        };
        if names.first().is_some_and(|name| name == "metadata") {
            faults.invalid(at.as_str(), &json!(place), "must not point to fields in metadata");
        }
        if !matches!(fields::text(found, "/type"), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            faults.invalid(at.as_str(), &json!(place), detail);
        }
        if seen.contains(&names) {
            faults.duplicate(at, &json!(place));
        } else {
            seen.push(names);
        }
    }
    if seen.len() > MOST_SELECTABLE {
        faults.too_many(path, seen.len(), MOST_SELECTABLE);
    }
}

/// The words that users of an old version are told.
fn deprecation(version: &Value, path: &str, faults: &mut Faults) {
    const LONGEST: usize = 256;
    let Some(words) = version.get("deprecationWarning").and_then(Value::as_str) else { return };
    let mut wrong = |detail: &str| {
        faults.invalid(format!("{path}.deprecationWarning"), &json!(words), detail);
    };
    if !fields::flag(version, "/deprecated") {
        return wrong("can only be set for deprecated versions");
    }
    if words.len() > LONGEST {
        wrong("must be <= 256 characters long");
    }
    if words.is_empty() {
        wrong("must not be an empty string");
    }
    if let Some((at, _)) = words.char_indices().find(|(_, one)| one.is_control()) {
        wrong(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
}

/// Names that a definition cannot do without, and all others that it says.
pub(super) fn names(names: &Value, faults: &mut Faults) {
    const ALL: [(&str, bool); 4] =
        [("plural", false), ("singular", false), ("kind", true), ("listKind", true)];
    for (field, _) in ALL {
        if fields::text(names, &format!("/{field}")).is_empty() {
            faults.required(format!("spec.names.{field}"), "");
        }
    }
    for (field, is_kind) in ALL {
        let (name, path) = (fields::text(names, &format!("/{field}")), format!("spec.names.{field}"));
        // Kinds are written with capitals, and are names otherwise.
        let (tried, lead) = match is_kind {
            true => (name.to_lowercase(), "may have mixed case, but should otherwise match: "),
            false => (name.to_owned(), ""),
        };
        let why = dns1035_label(&tried).join(",");
        if !name.is_empty() && !why.is_empty() {
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

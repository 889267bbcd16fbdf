//! The strategy of custom resources: whatever their schema says.

use crate::registry::{Cause, Strategy, fields};
use crate::schema::structural::{self, rules, validate};
use knarr_api::names;
use serde_json::{Value, json};
use std::sync::Arc;

/// Defaults and rules of one version of a custom resource.
pub(super) struct CustomStrategy {
    pub(super) schema: Option<Arc<Value>>,
    /// `.status` belongs to `/status` alone.
    pub(super) has_status: bool,
    /// Paths of fields that selectors may name, such as `spec.color`.
    pub(super) selectable: Vec<String>,
}

impl Strategy for CustomStrategy {
    fn default(&self, object: &mut Value) {
        if let Some(schema) = &self.schema {
            structural::default(schema, object);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let (true, Some(map)) = (self.has_status, object.as_object_mut()) {
            map.remove("status");
        }
        fields::set_in(object, "metadata", "generation", 1.into());
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.has_status {
            fields::copy(new, old, "status");
        }
        let generation = fields::int(old, "/metadata/generation").unwrap_or(0);
        let ignored: &[&str] = if self.has_status { &["metadata", "status"] } else { &["metadata"] };
        let part = |object: &Value| {
            let mut part = object.as_object().cloned().unwrap_or_default();
            part.retain(|name, _| !ignored.contains(&name.as_str()));
            part
        };
        let next = if part(new) == part(old) { generation.max(1) } else { generation + 1 };
        fields::set_in(new, "metadata", "generation", next.into());
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        let status = new.get("status").cloned();
        new.clone_from(old);
        if let Some(status) = status {
            fields::set(new, "status", status);
        }
        self.default(new);
    }

    fn selectable(&self, object: &Value, field: &str) -> Option<String> {
        self.selectable.iter().find(|known| *known == field)?;
        let value = object.pointer(&format!("/{}", field.replace('.', "/"))).unwrap_or(&Value::Null);
        Some(match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        })
    }

    fn validate(&self, object: &Value) -> Vec<Cause> {
        let mut causes = name(object);
        if let Some(schema) = &self.schema {
            causes.extend(validate::validate(schema, object, None));
        }
        self.with_rules(causes, object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<Cause> {
        let mut causes = name(new);
        if let Some(schema) = &self.schema {
            causes.extend(validate::validate(schema, new, Some(old)));
        }
        self.with_rules(causes, new, Some(old))
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<Cause> {
        let status = |schema: &Arc<Value>| validate::validate_status(schema, new, old);
        self.with_rules(self.schema.as_ref().map(status).unwrap_or_default(), new, Some(old))
    }
}

/// Rules are written for objects that fit the schema so far that their authors could rely on it.
const NEEDED: [&str; 5] = [
    "FieldValueNotSupported",
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
];

impl CustomStrategy {
    fn with_rules(&self, mut causes: Vec<Cause>, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let Some(schema) = self.schema.as_ref().filter(|schema| rules::has_any(schema)) else {
            return causes;
        };
        if causes.iter().any(|cause| NEEDED.contains(&cause.reason)) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            causes.push(Cause {
                reason: "FieldValueInvalid",
                field: "<nil>".to_owned(),
                message: format!("Invalid value: \"null\": {why}"),
            });
        } else {
            causes.extend(rules::check(schema, object, old));
        }
        causes
    }
}

fn name(object: &Value) -> Vec<Cause> {
    let name = fields::text(object, "/metadata/name");
    let wrong = if name.is_empty() { Vec::new() } else { names::dns1123_subdomain(name) };
    let cause = |fault: String| Cause {
        reason: "FieldValueInvalid",
        field: "metadata.name".to_owned(),
        message: format!("Invalid value: {}: {fault}", json!(name)),
    };
    wrong.into_iter().map(cause).collect()
}

//! Collecting the faults of an object, each with the words that Kubernetes uses: clients and people match on them.

use super::Cause;
use serde_json::Value;

/// The faults found so far.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    causes: Vec<Cause>,
}

impl Faults {
    /// A field that must be there is not. `detail` may be empty.
    pub(crate) fn required(&mut self, field: impl Into<String>, detail: &str) {
        self.push("FieldValueRequired", field, with_detail("Required value".to_owned(), detail));
    }

    /// A value breaks a rule.
    pub(crate) fn invalid(&mut self, field: impl Into<String>, value: &Value, detail: &str) {
        self.push(
            "FieldValueInvalid",
            field,
            with_detail(format!("Invalid value: {}", shown(value)), detail),
        );
    }

    /// The same of a value as it is to be shown.
    pub(crate) fn invalid_shown(&mut self, field: impl Into<String>, shown: &str, detail: &str) {
        self.push("FieldValueInvalid", field, with_detail(format!("Invalid value: {shown}"), detail));
    }

    /// A combination of fields that breaks a rule; no single value is to blame.
    pub(crate) fn invalid_as_a_whole(&mut self, field: impl Into<String>, detail: &str) {
        self.push("FieldValueInvalid", field, format!("Invalid value: {detail}"));
    }

    /// A text that is none of the allowed ones, which are told in the order given.
    pub(crate) fn not_supported(&mut self, field: impl Into<String>, value: &str, allowed: &[&str]) {
        self.not_supported_value(field, &Value::from(value), allowed);
    }

    /// A value that is none of the allowed ones.
    pub(crate) fn not_supported_value(&mut self, field: impl Into<String>, value: &Value, allowed: &[&str]) {
        let allowed: Vec<String> = allowed.iter().map(|value| format!("{value:?}")).collect();
        let message =
            format!("Unsupported value: {}: supported values: {}", shown(value), allowed.join(", "));
        self.push("FieldValueNotSupported", field, message);
    }

    /// More bytes than a field may have.
    pub(crate) fn too_long(&mut self, field: impl Into<String>, limit: usize) {
        self.push("FieldValueTooLong", field, format!("Too long: may not be more than {limit} bytes"));
    }

    /// More elements than a list may have.
    pub(crate) fn too_many(&mut self, field: impl Into<String>, count: usize, limit: usize) {
        let message = format!("Too many: {count}: must have at most {limit} items");
        self.push("FieldValueTooMany", field, message);
    }

    /// A value that may not be there at all, or not be changed.
    pub(crate) fn forbidden(&mut self, field: impl Into<String>, detail: &str) {
        self.push("FieldValueForbidden", field, with_detail("Forbidden".to_owned(), detail));
    }

    /// A value that occurs twice where it must be unique.
    pub(crate) fn duplicate(&mut self, field: impl Into<String>, value: &Value) {
        self.push("FieldValueDuplicate", field, format!("Duplicate value: {}", shown(value)));
    }

    /// The same with the rule in words; the value as it is to be shown.
    pub(crate) fn duplicate_but(&mut self, field: impl Into<String>, shown: &str, detail: &str) {
        self.push("FieldValueDuplicate", field, with_detail(format!("Duplicate value: {shown}"), detail));
    }

    /// A reference to something that is not there.
    pub(crate) fn not_found(&mut self, field: impl Into<String>, value: &Value) {
        self.push("FieldValueNotFound", field, format!("Not found: {}", shown(value)));
    }

    /// The same with more words.
    pub(crate) fn not_found_but(&mut self, field: impl Into<String>, value: &Value, detail: &str) {
        self.push("FieldValueNotFound", field, with_detail(format!("Not found: {}", shown(value)), detail));
    }

    /// A change of a field that never changes.
    pub(crate) fn immutable(&mut self, field: impl Into<String>, value: &Value) {
        self.invalid(field, value, "field is immutable");
    }

    /// What another check found.
    pub(crate) fn extend(&mut self, causes: Vec<Cause>) {
        self.causes.extend(causes);
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.causes.is_empty()
    }

    /// How many were found.
    pub(crate) fn count(&self) -> usize {
        self.causes.len()
    }

    /// What was found, in the order it was found.
    pub(crate) fn into_causes(self) -> Vec<Cause> {
        self.causes
    }

    fn push(&mut self, reason: &'static str, field: impl Into<String>, message: String) {
        self.causes.push(Cause { reason, field: field.into(), message });
    }
}

fn with_detail(message: String, detail: &str) -> String {
    if detail.is_empty() { message } else { format!("{message}: {detail}") }
}

/// Texts are quoted, everything else is compact JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

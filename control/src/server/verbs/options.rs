//! The options of a request: its query parameters, checked as a whole before anything is looked up or done. A client
//! that misspells `dryRun` must not get a change, and one that sends three mistakes hears of all three, in Kubernetes'
//! words.

use super::super::Call;
use super::super::query::Query;
use super::super::read_body;
use knarr_api::{Status, StatusCause};
use serde_json::{Value, json};

/// Longest name of a field manager, bytes.
const MAX_MANAGER: usize = 128;

/// Refuses a request whose options are none.
pub(super) fn check(call: &Call, verb: &str) -> Result<(), Status> {
    match verb {
        "create" | "update" | "patch" => refuse(kind(call), writes(call)),
        "delete" | "deletecollection" => refuse("DeleteOptions", dry_run(call).into_iter().collect()),
        "get" if call.query.flag("export") => {
            Err(Status::bad_request("the export parameter, deprecated since v1.14, is no longer supported"))
        }
        "list" => {
            call.query.number::<i64>("timeoutSeconds")?;
            call.query.number::<i64>("limit")?;
            refuse("ListOptions", lists(call))
        }
        "watch" => {
            call.query.number::<i64>("timeoutSeconds")?;
            call.query.number::<i64>("limit")?;
            refuse("ListOptions", watches(call))
        }
        _ => Ok(()),
    }
}

/// The options of a write as the client sent them, for those who have a say in it.
pub(in crate::server) fn sent(query: &Query, verb: &str) -> Value {
    if !matches!(verb, "create" | "update" | "patch") {
        return Value::Null;
    }
    let mut options = json!({});
    let trial: Vec<&str> = query.all("dryRun").collect();
    if !trial.is_empty() {
        options["dryRun"] = trial.into();
    }
    for name in ["fieldManager", "fieldValidation"] {
        if let Some(value) = query.get(name) {
            options[name] = value.into();
        }
    }
    options
}

/// The refusal of options with these faults, if there are any.
pub(super) fn refuse(options: &str, faults: Vec<StatusCause>) -> Result<(), Status> {
    if faults.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", options, "", faults)) }
}

/// The name by which Kubernetes speaks of the options of a write.
fn kind(call: &Call) -> &'static str {
    match call.method {
        http::Method::POST => "CreateOptions",
        http::Method::PUT => "UpdateOptions",
        http::Method::DELETE => "DeleteOptions",
        _ => "PatchOptions",
    }
}

fn fault(field: &str, reason: &str, message: String) -> StatusCause {
    StatusCause { reason: reason.into(), message, field: field.into() }
}

fn forbidden(field: &str, why: &str) -> StatusCause {
    fault(field, "FieldValueForbidden", format!("Forbidden: {why}"))
}

fn writes(call: &Call) -> Vec<StatusCause> {
    let mut faults = Vec::new();
    let applies = call.method == http::Method::PATCH && read_body::content_type(call) == super::patch::APPLY;
    if call.method == http::Method::PATCH && !applies && call.query.get("force").is_some() {
        faults.push(forbidden("force", "may not be specified for non-apply patch"));
    }
    match call.query.get("fieldManager") {
        Some(manager) => faults.extend(manager_faults(manager)),
        None if applies => {
            let message = "Required value: is required for apply patch".to_owned();
            faults.push(fault("fieldManager", "FieldValueRequired", message));
        }
        None => {}
    }
    faults.extend(dry_run(call));
    if let Some(value) = call.query.get("fieldValidation")
        && !matches!(value, "Ignore" | "Strict" | "Warn")
    {
        let supported = "supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"";
        let message = format!("Unsupported value: {value:?}: {supported}");
        faults.push(fault("fieldValidation", "FieldValueNotSupported", message));
    }
    faults
}

/// It is shown to people: neither long nor unprintable.
fn manager_faults(manager: &str) -> Vec<StatusCause> {
    let mut faults = Vec::new();
    if manager.len() > MAX_MANAGER {
        let message = format!("Too long: may not be more than {MAX_MANAGER} bytes");
        faults.push(fault("fieldManager", "FieldValueTooLong", message));
    }
    let hidden = |character: &char| {
        let wide_space = character.is_whitespace() && *character != ' ';
        let formats = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        character.is_control() || wide_space || formats
    };
    for (position, character) in manager.char_indices().filter(|(_, character)| hidden(character)) {
        let message = format!(
            "Invalid value: {}: invalid character U+{:04X} (at position {position})",
            quoted(manager),
            u32::from(character)
        );
        faults.push(fault("fieldManager", "FieldValueInvalid", message));
    }
    faults
}

/// A text in quotes as Go prints it.
fn quoted(text: &str) -> String {
    let escape = |character: char| match character {
        '"' | '\\' => format!("\\{character}"),
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        low if low < ' ' || low == '\u{7f}' => format!("\\x{:02x}", u32::from(low)),
        other if other.is_ascii() || other.is_alphanumeric() => other.to_string(),
        other => format!("\\u{:04x}", u32::from(other)),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

/// Any value of the query's `dryRun` but `All`.
fn dry_run(call: &Call) -> Option<StatusCause> {
    let values: Vec<&str> = call.query.all("dryRun").collect();
    dry_run_fault(&values)
}

/// The fault of a list of values for `dryRun`: who asked for a trial must not get a change.
pub(super) fn dry_run_fault(values: &[&str]) -> Option<StatusCause> {
    if values.iter().all(|value| *value == "All") {
        return None;
    }
    let listed = Value::from(values.to_vec());
    let message = format!("Unsupported value: {listed}: supported values: \"All\"");
    Some(fault("dryRun", "FieldValueNotSupported", message))
}

fn unsupported(value: &str, supported: &str) -> StatusCause {
    let message = format!("Unsupported value: {value:?}: supported values: {supported}");
    fault("resourceVersionMatch", "FieldValueNotSupported", message)
}

fn lists(call: &Call) -> Vec<StatusCause> {
    let query = &call.query;
    let mut faults = Vec::new();
    if let Some(value) = query.get("resourceVersionMatch") {
        let refuse = |why: &str| forbidden("resourceVersionMatch", why);
        if query.get("continue").is_some() {
            faults.push(refuse("resourceVersionMatch is forbidden when continue is provided"));
        }
        if query.get("resourceVersion").is_none() {
            faults.push(refuse("resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        if !matches!(value, "Exact" | "NotOlderThan") {
            faults.push(unsupported(value, "\"Exact\", \"NotOlderThan\", \"\""));
        }
        if value == "Exact" && query.get("resourceVersion") == Some("0") {
            faults.push(refuse("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
        }
    }
    if query.all("sendInitialEvents").next().is_some() {
        faults.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    faults
}

fn watches(call: &Call) -> Vec<StatusCause> {
    let begins = call.query.all("sendInitialEvents").next().is_some();
    let value = call.query.get("resourceVersionMatch");
    let mut faults = Vec::new();
    let mut refuse = |why: &str| faults.push(forbidden("resourceVersionMatch", why));
    if begins && value != Some("NotOlderThan") {
        refuse("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if !begins && value.is_some() {
        refuse("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    }
    faults.extend(
        value.filter(|value| *value != "NotOlderThan").map(|value| unsupported(value, "\"NotOlderThan\"")),
    );
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_are_quoted_as_go_does() {
        assert_eq!(quoted("a\0\n\u{200b}\""), r#""a\x00\n\u200b\"""#);
        assert!(manager_faults("kubectl edit").is_empty());
        assert_eq!(
            manager_faults("\u{200b}")[0].message,
            r#"Invalid value: "\u200b": invalid character U+200B (at position 0)"#
        );
    }
}

//! What stands beside the expression of a rule: its message, the reason it is broken for, the field it is about.

use super::field_path;
use crate::registry::faults::Faults;
use crate::registry::fields;
use serde_json::{Value, json};

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Every fault of the words of a rule that stands at `place` in `schema`.
pub(super) fn words(rule: &Value, schema: &Value, place: &str, faults: &mut Faults) {
    let text = |field: &str| fields::text(rule, &format!("/{field}"));
    let breaks = |text: &str| text.contains(['\n', '\r']);
    let (source, message) = (text("rule").trim(), text("message"));
    let at = format!("{place}.message");
    if source.is_empty() {
        faults.required(format!("{place}.rule"), "rule is not specified");
    } else if !message.is_empty() && message.trim().is_empty() {
        faults.invalid(at, &json!(message), "must be non-empty if specified");
    } else if breaks(message.trim()) {
        faults.invalid(at, &json!(message), "must not contain line breaks");
    } else if breaks(source) && message.trim().is_empty() {
        faults.required(at, "message must be specified if rule contains line breaks");
    }
    let computed = text("messageExpression");
    if !computed.is_empty() && computed.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        faults.required(format!("{place}.messageExpression"), detail);
    }
    if let Some(reason) =
        rule.get("reason").and_then(Value::as_str).filter(|reason| !REASONS.contains(reason))
    {
        faults.not_supported(format!("{place}.reason"), reason, &REASONS);
    }
    about(text("fieldPath"), schema, &format!("{place}.fieldPath"), faults);
}

fn about(path: &str, schema: &Value, at: &str, faults: &mut Faults) {
    if path.is_empty() {
        return;
    }
    if path.trim().is_empty() {
        faults.invalid(at, &json!(path), "must be non-empty if specified");
    }
    if path.contains(['\n', '\r']) {
        faults.invalid(at, &json!(path), "must not contain line breaks");
    }
    if field_path::follow(path, schema, true).is_err() {
        faults.invalid(at, &json!(path), "must be a valid path");
    }
}

/// A rule as Kubernetes shows it where it is wrong: its own form, in Go's JSON.
pub(super) fn shown(rule: &Value) -> String {
    let text = |field: &str| escaped(&json!(fields::text(rule, &format!("/{field}"))));
    let maybe = |field: &str| escaped(rule.get(field).unwrap_or(&Value::Null));
    format!(
        r#"{{"Rule":{},"Message":{},"MessageExpression":{},"Reason":{},"FieldPath":{},"OptionalOldSelf":{}}}"#,
        text("rule"),
        text("message"),
        text("messageExpression"),
        maybe("reason"),
        text("fieldPath"),
        maybe("optionalOldSelf"),
    )
}

/// Go writes JSON that may stand in a page of HTML.
fn escaped(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_beside_a_rule() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        for (more, told) in [
            (json!({}), ""),
            (json!({"message": " "}), "r.message: Invalid value: \" \": must be non-empty if specified"),
            (json!({"message": "a\nb"}), "r.message: Invalid value: \"a\\nb\": must not contain line breaks"),
            (
                json!({"messageExpression": " "}),
                "r.messageExpression: Required value: messageExpression must be non-empty if specified",
            ),
            (
                json!({"reason": "Odd"}),
                "r.reason: Unsupported value: \"Odd\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
            ),
            (json!({"fieldPath": ".a"}), ""),
            (json!({"fieldPath": ".b"}), "r.fieldPath: Invalid value: \".b\": must be a valid path"),
            (json!({"fieldPath": "a"}), "r.fieldPath: Invalid value: \"a\": must be a valid path"),
        ] {
            let mut rule = json!({"rule": "self.a == ''"});
            rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let mut faults = Faults::default();
            words(&rule, &schema, "r", &mut faults);
            let causes = faults.into_causes().into_iter();
            let found: Vec<String> =
                causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
            assert_eq!(found.join(", "), told, "{more}");
        }
    }

    #[test]
    fn a_rule_is_shown_as_go_writes_it() {
        assert_eq!(
            shown(&json!({"rule": "self > 0", "reason": "FieldValueInvalid"})),
            r#"{"Rule":"self \u003e 0","Message":"","MessageExpression":"","Reason":"FieldValueInvalid","FieldPath":"","OptionalOldSelf":null}"#
        );
    }
}

//! Checks that many kinds share. Each appends Kubernetes' own message for the field that breaks a rule.

use super::faults::Faults;
use super::fields;
use knarr_api::names;
use serde_json::{Value, json};

/// The value of the field at a dotted path without indexes.
pub(super) fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, name| value.get(name))
}

/// One rule of `knarr_api::names` applied to one text.
pub(super) fn named(field: &str, text: &str, rule: fn(&str) -> Vec<String>, faults: &mut Faults) {
    for message in rule(text) {
        faults.invalid(field, &json!(text), &message);
    }
}

/// `metadata.name` by a rule that is stricter than the general one.
pub(super) fn object_name(object: &Value, rule: fn(&str) -> Vec<String>, faults: &mut Faults) {
    let prefix = fields::text(object, "/metadata/generateName");
    if !prefix.is_empty() {
        // The generated end makes a name of a prefix that ends in a hyphen.
        let name = prefix.strip_suffix('-').map_or(prefix.to_owned(), |start| format!("{start}a"));
        for message in rule(&name) {
            faults.invalid("metadata.generateName", &json!(prefix), &message);
        }
    }
    let name = fields::text(object, "/metadata/name");
    if !name.is_empty() {
        named("metadata.name", name, rule, faults);
    }
}

/// A lower case label of DNS.
pub(super) fn dns_label(field: &str, text: &str, faults: &mut Faults) {
    named(field, text, names::dns1123_label, faults);
}

/// A key of labels, taints, tolerations.
pub(super) fn label_key(field: &str, text: &str, faults: &mut Faults) {
    if text.is_empty() {
        faults.required(field, "");
    } else {
        named(field, text, names::qualified_name, faults);
    }
}

/// A map of labels at a dotted path.
pub(super) fn labels(object: &Value, path: &str, faults: &mut Faults) {
    let Some(labels) = at(object, path).and_then(Value::as_object) else { return };
    for (key, value) in labels {
        named(path, key, names::qualified_name, faults);
        named(path, value.as_str().unwrap_or_default(), names::label_value, faults);
    }
}

/// A key of a config map or secret.
pub(super) fn config_key(field: &str, key: &str, faults: &mut Faults) {
    const FORM: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    if key.len() > 253 {
        faults.invalid(field, &json!(key), "must be no more than 253 characters");
    }
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        faults.invalid(field, &json!(key), FORM);
    }
    if key == "." || key == ".." {
        faults.invalid(field, &json!(key), &format!("must not be '{key}'"));
    } else if key.starts_with("..") {
        faults.invalid(field, &json!(key), "must not start with '..'");
    }
}

/// A number of things.
pub(super) fn not_negative(object: &Value, path: &str, faults: &mut Faults) {
    if let Some(value) = at(object, path).and_then(Value::as_i64).filter(|value| *value < 0) {
        faults.invalid(path, &json!(value), "must be greater than or equal to 0");
    }
}

/// A number of things, at least one.
pub(super) fn positive(object: &Value, path: &str, faults: &mut Faults) {
    positive_or(object, path, "must be greater than 0", faults);
}

/// A number of things, at least one, where a kind has words of its own for it.
pub(super) fn positive_or(object: &Value, path: &str, detail: &str, faults: &mut Faults) {
    if let Some(value) = at(object, path).and_then(Value::as_i64).filter(|value| *value < 1) {
        faults.invalid(path, &json!(value), detail);
    }
}

/// A text out of a few.
pub(super) fn one_of(object: &Value, path: &str, allowed: &[&str], faults: &mut Faults) {
    match at(object, path).and_then(Value::as_str).unwrap_or_default() {
        "" => faults.required(path, ""),
        text if allowed.contains(&text) => {}
        other => faults.not_supported(path, other, allowed),
    }
}

/// A port of TCP, UDP or SCTP.
pub(super) fn port_number(field: &str, port: i64, faults: &mut Faults) {
    if !(1..=65_535).contains(&port) {
        faults.invalid(field, &json!(port), "must be between 1 and 65535, inclusive");
    }
}

/// A port as a number, or as a name that a container gives to one.
pub(super) fn port_or_name(field: &str, port: Option<&Value>, faults: &mut Faults) {
    match port {
        Some(Value::Number(number)) => port_number(field, number.as_i64().unwrap_or(-1), faults),
        Some(Value::String(name)) => port_name(field, name, faults),
        _ => {}
    }
}

/// The name of a port, as IANA forms them.
pub(super) fn port_name(field: &str, name: &str, faults: &mut Faults) {
    let rules = [
        (name.len() > 15, "must be no more than 15 characters"),
        (
            !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (!name.bytes().any(|byte| byte.is_ascii_lowercase()), "must contain at least one letter (a-z)"),
        (name.contains("--"), "must not contain consecutive hyphens"),
        (name.starts_with('-') || name.ends_with('-'), "must not begin or end with a hyphen"),
    ];
    for (_, message) in rules.iter().filter(|(broken, _)| *broken) {
        faults.invalid(field, &json!(name), message);
    }
}

/// A count or a percentage.
pub(super) fn int_or_percent(object: &Value, path: &str, faults: &mut Faults) {
    const FORM: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
    match at(object, path) {
        Some(Value::Number(number)) if number.as_i64().is_some_and(|value| value < 0) => {
            faults.invalid(path, &Value::Number(number.clone()), "must be greater than or equal to 0");
        }
        Some(Value::String(text)) => {
            let digits = text.strip_suffix('%').unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                faults.invalid(path, &json!(text), FORM);
            }
        }
        _ => {}
    }
}

/// A count or a percentage of things of which there are no more than all.
pub(super) fn int_or_part(object: &Value, path: &str, faults: &mut Faults) {
    int_or_percent(object, path, faults);
    let text = at(object, path).and_then(Value::as_str).unwrap_or_default();
    let percent = text.strip_suffix('%').and_then(|digits| digits.parse::<u64>().ok());
    if percent.is_some_and(|percent| percent > 100) {
        faults.invalid(path, &json!(text), "must not be greater than 100%");
    }
}

/// A text that must be there and follow a rule.
pub(super) fn required_name(field: &str, text: &str, rule: fn(&str) -> Vec<String>, faults: &mut Faults) {
    if text.is_empty() {
        faults.required(field, "");
    } else {
        named(field, text, rule, faults);
    }
}

/// A text that follows a rule where it is given.
pub(super) fn optional_name(field: &str, text: &str, rule: fn(&str) -> Vec<String>, faults: &mut Faults) {
    if !text.is_empty() {
        named(field, text, rule, faults);
    }
}

/// A text out of a few, or none.
pub(super) fn optional_choice(field: &str, text: &str, allowed: &[&str], faults: &mut Faults) {
    if !text.is_empty() && !allowed.contains(&text) {
        faults.not_supported(field, text, allowed);
    }
}

/// `example.com/what`: a name below a domain that its author owns.
pub(super) fn domain_path(field: &str, text: &str, faults: &mut Faults) {
    match text.split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            named(field, domain, names::dns1123_subdomain, faults);
        }
        _ => faults.invalid(field, &json!(text), "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

/// A field that never changes after creation.
pub(super) fn unchanged(new: &Value, old: &Value, path: &str, faults: &mut Faults) {
    if at(new, path) != at(old, path) {
        faults.immutable(path, at(new, path).unwrap_or(&Value::Null));
    }
}

/// A label selector: its labels, and expressions with the values that their operators take.
pub(super) fn label_selector(selector: &Value, path: &str, faults: &mut Faults) {
    labels_of(selector.get("matchLabels"), &format!("{path}.matchLabels"), faults);
    for (index, expression) in fields::list(selector, "/matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let values = fields::list(expression, "/values");
        match fields::text(expression, "/operator") {
            "In" | "NotIn" if values.is_empty() => {
                faults.required(
                    format!("{path}.values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                faults.forbidden(
                    format!("{path}.values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                faults.invalid(format!("{path}.operator"), &json!(other), "not a valid selector operator")
            }
        }
        named(&format!("{path}.key"), fields::text(expression, "/key"), names::qualified_name, faults);
        for (at, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            named(&format!("{path}.values[{at}]"), value, names::label_value, faults);
        }
    }
}

fn labels_of(labels: Option<&Value>, path: &str, faults: &mut Faults) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        named(path, key, names::qualified_name, faults);
        named(path, value.as_str().unwrap_or_default(), names::label_value, faults);
    }
}

/// Whether a selector asks for nothing.
pub(super) fn is_empty_selector(selector: &Value) -> bool {
    fields::pairs(selector, "/matchLabels").next().is_none()
        && fields::list(selector, "/matchExpressions").is_empty()
}

/// A workload selects the pods that it makes: `spec.selector` must be there and match the labels of `spec.template`.
pub(super) fn selector_matches_template(object: &Value, kind: &str, faults: &mut Faults) {
    match object.pointer("/spec/selector") {
        None => faults.required("spec.selector", ""),
        Some(selector) => {
            label_selector(selector, "spec.selector", faults);
            if is_empty_selector(selector) {
                let detail = format!("empty selector is invalid for {kind}");
                faults.invalid("spec.selector", selector, &detail);
            }
        }
    }
    labels_match_selector(object, faults);
}

/// No selector at all matches nothing, an empty one everything, and one that cannot be understood is a fault itself.
pub(super) fn labels_match_selector(object: &Value, faults: &mut Faults) {
    const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
    let labels = object.pointer("/spec/template/metadata/labels").unwrap_or(&Value::Null);
    let selector = object.pointer("/spec/selector");
    let unknown = |expression: &Value| !OPERATORS.contains(&fields::text(expression, "/operator"));
    if let Some(selector) =
        selector.filter(|selector| fields::list(selector, "/matchExpressions").iter().any(unknown))
    {
        faults.invalid("spec.selector", selector, "invalid label selector");
    } else if !selector.is_some_and(|selector| selects(selector, labels)) {
        faults.invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        );
    }
}

/// Whether a label selector matches a map of labels.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let equal = fields::pairs(selector, "/matchLabels").all(|(key, value)| label(key) == value.as_str());
    let expressed = fields::list(selector, "/matchExpressions").iter().all(|expression| {
        let found = label(fields::text(expression, "/key"));
        let listed = || fields::list(expression, "/values").iter().any(|value| value.as_str() == found);
        match fields::text(expression, "/operator") {
            "In" => found.is_some() && listed(),
            "NotIn" => found.is_none() || !listed(),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    });
    equal && expressed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_follow_iana() {
        for (name, good) in
            [("http", true), ("a-1", true), ("80", false), ("a--b", false), ("-a", false), ("HTTP", false)]
        {
            let mut faults = Faults::default();
            port_name("f", name, &mut faults);
            assert_eq!(faults.is_empty(), good, "{name}");
        }
    }

    #[test]
    fn selectors_match_labels() {
        let selector = json!({"matchLabels": {"a": "1"}, "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["x", "y"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert!(selects(&selector, &json!({"a": "1", "b": "y"})));
        assert!(!selects(&selector, &json!({"a": "1", "b": "z"})));
        assert!(!selects(&selector, &json!({"a": "1", "b": "y", "c": ""})));
    }
}

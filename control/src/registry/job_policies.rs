//! When a job has failed or succeeded before all its pods have: what exit codes and conditions of pods mean, and which
//! indexes are enough.

use super::faults::Faults;
use super::{fields, validation};
use knarr_api::names;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// Every fault of `podFailurePolicy` of the job specification `spec` at the dotted `path`.
pub(super) fn failure(spec: &Value, path: &str, faults: &mut Faults) {
    for (index, rule) in fields::list(spec, "/podFailurePolicy/rules").iter().enumerate() {
        failure_rule(rule, spec, &format!("{path}.podFailurePolicy.rules[{index}]"), faults);
    }
}

fn failure_rule(rule: &Value, spec: &Value, path: &str, faults: &mut Faults) {
    let action = fields::text(rule, "/action");
    choice(action, &format!("{path}.action"), &ACTIONS, faults);
    if action == "FailIndex" && spec.get("backoffLimitPerIndex").is_none() {
        let detail = "requires the backoffLimitPerIndex to be set";
        faults.invalid(format!("{path}.action"), &json!(action), detail);
    }
    let codes = rule.get("onExitCodes");
    if let Some(codes) = codes {
        exit_codes(codes, spec, &format!("{path}.onExitCodes"), faults);
    }
    let conditions = fields::list(rule, "/onPodConditions");
    for (index, condition) in conditions.iter().enumerate() {
        let path = format!("{path}.onPodConditions[{index}]");
        let kind = fields::text(condition, "/type");
        validation::named(&format!("{path}.type"), kind, names::qualified_name, faults);
        choice(fields::text(condition, "/status"), &format!("{path}.status"), &STATUSES, faults);
    }
    match (codes.is_some(), !conditions.is_empty()) {
        (true, true) => {
            faults
                .invalid_as_a_whole(path, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        (false, false) => {
            faults.invalid_as_a_whole(path, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        _ => {}
    }
}

fn exit_codes(codes: &Value, spec: &Value, path: &str, faults: &mut Faults) {
    let operator = fields::text(codes, "/operator");
    choice(operator, &format!("{path}.operator"), &OPERATORS, faults);
    if let Some(name) = codes.get("containerName").and_then(Value::as_str) {
        let of = |list: &str| fields::list(spec, &format!("/template/spec/{list}")).iter();
        let known =
            of("containers").chain(of("initContainers")).any(|found| fields::text(found, "/name") == name);
        if !known {
            let detail = "must be one of the container or initContainer names in the pod template";
            faults.invalid(format!("{path}.containerName"), &json!(name), detail);
        }
    }
    let values: Vec<i64> = fields::list(codes, "/values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        faults.invalid(format!("{path}.values"), &json!([]), "at least one value is required");
    }
    let mut seen = BTreeSet::new();
    for (index, value) in values.iter().enumerate() {
        let field = format!("{path}.values[{index}]");
        if operator == "In" && *value == 0 {
            faults.invalid(field.as_str(), &json!(0), "must not be 0 for the In operator");
        }
        if !seen.insert(value) {
            faults.duplicate(field, &json!(value));
        }
    }
    if !values.is_sorted() {
        faults.invalid(format!("{path}.values"), &json!(values), "must be ordered");
    }
}

/// A text out of a few; Kubernetes has words of its own here for none at all.
fn choice(text: &str, field: &str, allowed: &[&str], faults: &mut Faults) {
    if text.is_empty() {
        let all: Vec<String> = allowed.iter().map(|name| format!("{name:?}")).collect();
        faults.required(field, &format!("valid values: [{}]", all.join(" ")));
    } else if !allowed.contains(&text) {
        faults.not_supported(field, text, allowed);
    }
}

/// Every fault of `successPolicy` of the job specification `spec` at the dotted `path`.
pub(super) fn success(spec: &Value, path: &str, faults: &mut Faults) {
    let Some(policy) = spec.get("successPolicy") else { return };
    let path = format!("{path}.successPolicy");
    let rules = fields::list(policy, "/rules");
    if fields::text(spec, "/completionMode") != "Indexed" {
        faults.invalid(path, &inner_form(rules), "requires indexed completion mode");
        return;
    }
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        faults.required(format!("{path}.rules"), detail);
    }
    for (index, rule) in rules.iter().enumerate() {
        success_rule(rule, spec, &format!("{path}.rules[{index}]"), faults);
    }
}

fn inner_form(rules: &[Value]) -> Value {
    let part = |rule: &Value, field: &str| rule.get(field).cloned().unwrap_or(Value::Null);
    let inner = rules.iter().map(|rule| {
        json!({"SucceededIndexes": part(rule, "succeededIndexes"), "SucceededCount": part(rule, "succeededCount")})
    });
    json!({"Rules": inner.collect::<Vec<_>>()})
}

fn success_rule(rule: &Value, spec: &Value, path: &str, faults: &mut Faults) {
    let (indexes, count) =
        (rule.get("succeededIndexes").and_then(Value::as_str), fields::int(rule, "/succeededCount"));
    if indexes.is_none() && count.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        faults.required(path, detail);
    }
    let completions = fields::int(spec, "/completions").unwrap_or(0);
    let mut named = None;
    if let Some(text) = indexes {
        match count_indexes(text, completions) {
            Ok(total) => named = Some(total),
            Err(detail) => faults.invalid(
                format!("{path}.succeededIndexes"),
                &json!(text),
                &format!("error parsing succeededIndexes: {detail}"),
            ),
        }
    }
    let Some(count) = count else { return };
    let field = format!("{path}.succeededCount");
    if count < 0 {
        faults.invalid(field.as_str(), &json!(count), "must be greater than or equal to 0");
    }
    if count > completions {
        let detail =
            format!("must be less than or equal to {completions} (the number of specified completions)");
        faults.invalid(field.as_str(), &json!(count), &detail);
    }
    if let Some(total) = named.filter(|total| count > *total) {
        let what = "the number of indexes in the specified succeededIndexes field";
        faults.invalid(field, &json!(count), &format!("must be less than or equal to {total} ({what})"));
    }
}

/// How many indexes a text like `0-2,5` names, all below `completions` and rising.
fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let number = |part: &str| {
        let index: i64 =
            part.parse().map_err(|_| format!("cannot convert string to integer for index: {part:?}"))?;
        if index >= completions { Err(format!("too large index: {part:?}")) } else { Ok(index) }
    };
    let (mut total, mut previous) = (0, None);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = match interval.split('-').collect::<Vec<_>>().as_slice() {
            [one] => (number(one)?, number(one)?),
            [first, last] => (number(first)?, number(last)?),
            _ => return Err(format!("incorrectly formatted index interval: {interval:?}")),
        };
        if let Some(previous) = previous.filter(|previous| first <= *previous) {
            return Err(format!("non-increasing order, previous: {previous}, current: {first}"));
        }
        if last < first {
            return Err(format!("non-increasing order, previous: {first}, current: {last}"));
        }
        total += last - first + 1;
        previous = Some(last);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_rise_and_are_below_the_completions() {
        for (text, expected) in [
            ("0-2,4", Ok(4)),
            ("", Ok(0)),
            ("1", Ok(1)),
            ("a-b", Err("cannot convert string to integer for index: \"a\"")),
            ("0-5", Err("too large index: \"5\"")),
            ("2,1", Err("non-increasing order, previous: 2, current: 1")),
        ] {
            assert_eq!(count_indexes(text, 5), expected.map_err(str::to_owned), "{text}");
        }
    }
}

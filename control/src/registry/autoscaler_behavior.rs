//! How fast an autoscaler may go, up and down.

use super::faults::Faults;
use super::{fields, resources, validation};
use serde_json::{Value, json};

/// Seconds that a recommendation may be remembered.
const MAX_WINDOW: i64 = 3600;
/// Seconds that a policy may look back.
const MAX_PERIOD: i64 = 1800;

/// Every fault of the behaviour of an autoscaler.
pub(super) fn validate(autoscaler: &Value, faults: &mut Faults) {
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = autoscaler.pointer(&format!("/spec/behavior/{direction}")) {
            direction_of(rules, &format!("spec.behavior.{direction}"), faults);
        }
    }
}

fn direction_of(rules: &Value, path: &str, faults: &mut Faults) {
    let window = fields::int(rules, "/stabilizationWindowSeconds").unwrap_or(0);
    let field = format!("{path}.stabilizationWindowSeconds");
    if window < 0 {
        faults.invalid(field.as_str(), &json!(window), "must be greater than or equal to zero");
    }
    if window > MAX_WINDOW {
        faults.invalid(field, &json!(window), &format!("must be less than or equal to {MAX_WINDOW}"));
    }
    if let Some(tolerance) =
        rules.get("tolerance").and_then(resources::parse).filter(|value| value.is_negative())
    {
        let detail = "must be greater than or equal to 0";
        faults.invalid(format!("{path}.tolerance"), &json!(tolerance.to_string()), detail);
    }
    let select = fields::text(rules, "/selectPolicy");
    validation::optional_choice(&format!("{path}.selectPolicy"), select, &["Disabled", "Max", "Min"], faults);
    let policies = fields::list(rules, "/policies");
    if policies.is_empty() {
        faults.required(format!("{path}.policies"), "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        policy_of(policy, &format!("{path}.policies[{index}]"), faults);
    }
}

fn policy_of(policy: &Value, path: &str, faults: &mut Faults) {
    let kind = fields::text(policy, "/type");
    if !matches!(kind, "Percent" | "Pods") {
        faults.not_supported(format!("{path}.type"), kind, &["Percent", "Pods"]);
    }
    for field in ["value", "periodSeconds"] {
        let number = fields::int(policy, &format!("/{field}")).unwrap_or(0);
        if number <= 0 {
            faults.invalid(format!("{path}.{field}"), &json!(number), "must be greater than zero");
        }
        if field == "periodSeconds" && number > MAX_PERIOD {
            let detail = format!("must be less than or equal to {MAX_PERIOD}");
            faults.invalid(format!("{path}.{field}"), &json!(number), &detail);
        }
    }
}

//! What may be written into a status that tells amounts or a phase: of claims, volumes, quotas, nodes and namespaces.

use super::faults::Faults;
use super::{fields, resource_names, resources};
use jiff::Timestamp;
use knarr_api::names;
use serde_json::{Value, json};

const MOVED: &str = "lastPhaseTransitionTime";
const RESIZES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// When a volume came to its phase is known even if whoever changes the phase does not say.
pub(super) fn stamp_phase(new: &mut Value, old: &Value) {
    let before = old.get("status").unwrap_or(&Value::Null);
    let Some(status) = fields::child(new, "status") else { return };
    let (given, known) =
        (fields::text(status, "/lastPhaseTransitionTime"), fields::text(before, "/lastPhaseTransitionTime"));
    let same_phase = fields::text(status, "/phase") == fields::text(before, "/phase");
    if same_phase && given.is_empty() {
        fields::copy(status, before, MOVED);
    } else if !same_phase && (given.is_empty() || given == known) {
        fields::set(status, MOVED, now());
    }
}

/// This moment as objects tell it.
pub(super) fn now() -> Value {
    json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Of claims.
pub(super) fn of_claim(new: &Value, _: &Value, faults: &mut Faults) {
    for (name, amount) in fields::pairs(new, "/status/capacity") {
        basic(&format!("status.capacity[{name}]"), amount, faults);
    }
    const STATUSES: &str = "status.allocatedResourceStatuses";
    for (name, state) in fields::pairs(new, "/status/allocatedResourceStatuses") {
        of_storage(STATUSES, name, faults);
        if !RESIZES.iter().any(|known| state == known) {
            faults.not_supported(STATUSES, name, &RESIZES);
        }
    }
    for (name, amount) in fields::pairs(new, "/status/allocatedResources") {
        let field = format!("status.allocatedResources[{name}]");
        if of_storage("status.allocatedResources", name, faults) && basic(&field, amount, faults) {
            resources::amount_of(&field, name, amount, faults);
        }
    }
}

fn basic(field: &str, amount: &Value, faults: &mut Faults) -> bool {
    let below = resources::parse(amount).filter(|quantity| quantity.is_negative());
    if let Some(quantity) = &below {
        let shown = quantity.to_string();
        let shown = shown.parse::<i64>().map_or(json!(shown), Value::from);
        faults.invalid(field, &shown, "must be a valid resource quantity");
    }
    below.is_none()
}

/// Of Kubernetes' own resources a claim has storage; others carry the domain of whoever made them up.
fn of_storage(field: &str, name: &str, faults: &mut Faults) -> bool {
    let wrong = names::qualified_name(name);
    for message in &wrong {
        faults.invalid(field, &json!(name), message);
    }
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if wrong.is_empty() && native && name != "storage" {
        faults.not_supported(field, name, &["storage"]);
        return false;
    }
    wrong.is_empty()
}

/// Of quotas: the same names as in the specification.
pub(super) fn of_quota(new: &Value, _: &Value, faults: &mut Faults) {
    for part in ["hard", "used"] {
        for (name, amount) in fields::pairs(new, &format!("/status/{part}")) {
            let field = format!("status.{part}[{name}]");
            resource_names::of_quota(&field, name, faults);
            resources::amount_of(&field, name, amount, faults);
        }
    }
}

/// Of nodes.
pub(super) fn of_node(new: &Value, _: &Value, faults: &mut Faults) {
    for part in ["capacity", "allocatable"] {
        for (name, amount) in fields::pairs(new, &format!("/status/{part}")) {
            resources::amount_of(&format!("status.{part}.{name}"), name, amount, faults);
        }
    }
    let all = fields::list(new, "/status/addresses");
    for (index, address) in all.iter().enumerate().filter(|(index, address)| all[..*index].contains(address))
    {
        let of = |field: &str| address.get(field).cloned().unwrap_or_else(|| "".into());
        let shown = format!("{{\"Type\":{},\"Address\":{}}}", of("type"), of("address"));
        faults.duplicate_but(format!("status.addresses[{index}]"), &shown, "");
    }
}

/// Of namespaces: the phase follows from the deletion.
pub(super) fn of_namespace(new: &Value, _: &Value, faults: &mut Faults) {
    let phase = fields::text(new, "/status/phase");
    let (allowed, is) = match new.pointer("/metadata/deletionTimestamp") {
        None => ("Active", "empty"),
        Some(_) => ("Terminating", "not empty"),
    };
    if phase != allowed {
        let detail = format!("may only be '{allowed}' if `deletionTimestamp` is {is}");
        faults.invalid("status.Phase", &json!(phase), &detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&Value, &Value, &mut Faults);

    fn told(check: Check, object: &Value) -> Vec<String> {
        let mut faults = Faults::default();
        check(object, &Value::Null, &mut faults);
        let causes = faults.into_causes().into_iter();
        causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn amounts_and_phases_are_looked_at() {
        const UNKNOWN: &str = "status.allocatedResourceStatuses: Unsupported value: \"storage\": supported values: \"ControllerResizeInProgress\", \"ControllerResizeInfeasible\", \"NodeResizeInProgress\", \"NodeResizeInfeasible\", \"NodeResizePending\"";
        let table: [(Check, Value, &str); 10] = [
            (
                of_claim,
                json!({"capacity": {"storage": "1Gi"}, "allocatedResources": {"storage": "2Gi"}, "allocatedResourceStatuses": {"storage": "NodeResizePending"}}),
                "",
            ),
            (
                of_claim,
                json!({"capacity": {"storage": "-1"}}),
                "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
            ),
            (
                of_claim,
                json!({"allocatedResources": {"cpu": "1"}}),
                "status.allocatedResources: Unsupported value: \"cpu\": supported values: \"storage\"",
            ),
            (of_claim, json!({"allocatedResourceStatuses": {"storage": "Odd"}}), UNKNOWN),
            (
                of_quota,
                json!({"hard": {"pods": "4"}, "used": {"pods": "-1"}}),
                "status.used[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                of_node,
                json!({"capacity": {"cpu": "-1"}}),
                "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                of_node,
                json!({"addresses": [{"type": "InternalIP", "address": "a"}, {"type": "InternalIP", "address": "a"}]}),
                "status.addresses[1]: Duplicate value: {\"Type\":\"InternalIP\",\"Address\":\"a\"}",
            ),
            (
                of_node,
                json!({"addresses": [{"type": "InternalIP", "address": "a"}, {"type": "Hostname", "address": "a"}]}),
                "",
            ),
            (of_namespace, json!({"phase": "Active"}), ""),
            (
                of_namespace,
                json!({"phase": "Terminating"}),
                "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
            ),
        ];
        for (check, status, words) in table {
            assert_eq!(told(check, &json!({"metadata": {}, "status": status})).join(", "), words, "{status}");
        }
        let going =
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Active"}});
        let words = "status.Phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty";
        assert_eq!(told(of_namespace, &going), [words]);
    }

    #[test]
    fn a_change_of_phase_has_a_time() {
        const BEFORE: &str = "2026-01-01T00:00:00Z";
        let stamped = |status: Value| {
            let old = json!({"status": {"phase": "Available", MOVED: BEFORE}});
            let mut new = json!({"status": status});
            stamp_phase(&mut new, &old);
            fields::text(&new, "/status/lastPhaseTransitionTime").to_owned()
        };
        let given = "2026-02-02T00:00:00Z";
        assert_eq!(stamped(json!({"phase": "Available"})), BEFORE);
        assert_eq!(stamped(json!({"phase": "Available", MOVED: given})), given);
        assert_eq!(stamped(json!({"phase": "Bound", MOVED: given})), given);
        for silent in [json!({"phase": "Bound"}), json!({"phase": "Bound", MOVED: BEFORE})] {
            let found = stamped(silent);
            assert!(found.parse::<Timestamp>().is_ok() && found != BEFORE, "{found}");
        }
    }
}

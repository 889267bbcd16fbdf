//! What may change of a pod that exists: little, unless it is held back by scheduling gates. Then whoever holds it back may
//! narrow down where it goes.

use super::faults::Faults;
use super::fields;
use serde_json::{Map, Value, json};

const REQUIRED: &str = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";

/// Of a pod that exists only a few fields may change.
pub(super) fn validate(new: &Value, old: &Value, faults: &mut Faults) {
    const RULE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    for group in ["containers", "initContainers"] {
        let count = |pod: &Value| fields::list(pod, &format!("/spec/{group}")).len();
        if count(new) != count(old) {
            faults.forbidden(format!("spec.{group}"), "pod updates may not add or remove containers");
            return;
        }
    }
    deadline(new, old, faults);
    tolerations(new, old, faults);
    gates(new, old, faults);
    let held = !fields::list(old, "/spec/schedulingGates").is_empty();
    if held {
        narrowed(new, old, faults);
    }
    if fixed_part(new, held) != fixed_part(old, held) {
        faults.forbidden("spec", RULE);
    }
}

fn deadline(new: &Value, old: &Value, faults: &mut Faults) {
    let deadline = |pod: &Value| fields::int(pod, "/spec/activeDeadlineSeconds");
    match (deadline(old), deadline(new)) {
        (Some(_), None) => {
            faults.invalid(
                "spec.activeDeadlineSeconds",
                &Value::Null,
                "must not update from a positive integer to nil value",
            );
        }
        (Some(before), Some(after)) if after > before => {
            let detail = "must be less than or equal to previous value";
            faults.invalid("spec.activeDeadlineSeconds", &json!(after), detail);
        }
        _ => {}
    }
}

/// Those that are there stay, for however long.
fn tolerations(new: &Value, old: &Value, faults: &mut Faults) {
    let timeless = |pod: &Value| -> Vec<Value> {
        let mut all = fields::list(pod, "/spec/tolerations").to_vec();
        let each = all.iter_mut().filter_map(Value::as_object_mut);
        each.for_each(|toleration| drop(toleration.remove("tolerationSeconds")));
        all
    };
    let after = timeless(new);
    if !timeless(old).iter().all(|toleration| after.contains(toleration)) {
        faults.forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

/// Gates are only ever opened.
fn gates(new: &Value, old: &Value, faults: &mut Faults) {
    let before = fields::list(old, "/spec/schedulingGates");
    for gate in fields::list(new, "/spec/schedulingGates").iter().filter(|gate| !before.contains(gate)) {
        let name = fields::text(gate, "/name");
        let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
        faults.forbidden("spec.schedulingGates", &detail);
    }
}

/// A pod that is held back asks for no less of its node than before.
fn narrowed(new: &Value, old: &Value, faults: &mut Faults) {
    let after = new.pointer("/spec/nodeSelector").unwrap_or(&Value::Null);
    let stays = |(key, value): (&str, &Value)| after.get(key) == Some(value);
    if !fields::pairs(old, "/spec/nodeSelector").all(stays) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        faults.invalid("spec.nodeSelector", after, detail);
    }
    let terms = |pod| fields::list(pod, &format!("/spec{REQUIRED}/nodeSelectorTerms"));
    let (before, after) = (terms(old), terms(new));
    let path = format!("spec{}.nodeSelectorTerms", REQUIRED.replace('/', "."));
    if !before.is_empty() && before.len() != after.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return faults.invalid(path, &json!(after), detail);
    }
    for (index, (before, after)) in before.iter().zip(after).enumerate() {
        if !only_adds(after, before) {
            let detail = "only additions are allowed (no mutations or deletions)";
            faults.invalid(format!("{path}[{index}]"), after, detail);
        }
    }
}

/// A term without any requirement matches nothing, and goes on doing so.
fn only_adds(new: &Value, old: &Value) -> bool {
    let of = |term, field: &str| fields::list(term, &format!("/{field}")).to_vec();
    let parts = ["matchExpressions", "matchFields"];
    if parts.iter().all(|part| of(old, part).is_empty()) {
        return parts.iter().all(|part| of(new, part).is_empty());
    }
    parts.iter().all(|part| of(new, part).starts_with(&of(old, part)))
}

/// The spec without what may change: images, deadline, tolerations, and the gates; of a pod that is held back also
/// without what says on which nodes it may go.
fn fixed_part(pod: &Value, held: bool) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    for group in ["containers", "initContainers"] {
        for container in fields::each(&mut spec, group) {
            container.as_object_mut().map(|container| container.remove("image"));
        }
    }
    if let Some(spec) = spec.as_object_mut() {
        for free in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
            spec.remove(free);
        }
        if held {
            spec.remove("nodeSelector");
            forget_nodes(spec);
        }
    }
    spec
}

fn forget_nodes(spec: &mut Map<String, Value>) {
    let Some(affinity) = spec.get_mut("affinity").and_then(Value::as_object_mut) else { return };
    affinity.remove("nodeAffinity");
    if affinity.is_empty() {
        spec.remove("affinity");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(extra: Value) -> Value {
        let mut pod =
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
        pod["spec"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        pod
    }

    fn change(old: Value, new: Value) -> Vec<String> {
        let mut faults = Faults::default();
        validate(&pod(new), &pod(old), &mut faults);
        let causes = faults.into_causes().into_iter();
        causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn only_few_fields_of_a_running_pod_change() {
        let on_node = |extra: Value| {
            let mut spec = json!({"nodeName": "n"});
            spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            spec
        };
        let change = |new: Value| change(on_node(json!({})), on_node(new));
        assert!(change(json!({"containers": [{"name": "c", "image": "i:2"}]})).is_empty());
        assert!(change(json!({"tolerations": [{"operator": "Exists"}]})).is_empty());
        for refused in [
            json!({"containers": [{"name": "d", "image": "i:1"}]}),
            json!({"hostNetwork": true}),
            json!({"nodeSelector": {"a": "b"}}),
        ] {
            assert!(change(refused.clone())[0].contains("pod updates may not change fields"), "{refused}");
        }
    }

    #[test]
    fn tolerations_stay_for_however_long() {
        let of = |key: &str, seconds: i64| json!({"tolerations": [{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]});
        assert!(change(of("a", 300), of("a", 10)).is_empty());
        let refused = change(of("a", 300), of("b", 300));
        let words = "existing toleration can not be modified except its tolerationSeconds";
        assert_eq!(refused, [format!("spec.tolerations: Forbidden: {words}")]);
    }

    #[test]
    fn gates_are_only_opened() {
        let gates = |names: &[&str]| {
            let all: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"schedulingGates": all})
        };
        assert!(change(gates(&["a", "b"]), gates(&["b"])).is_empty());
        let words = "only deletion is allowed, but found new scheduling gate 'c'";
        assert_eq!(
            change(gates(&["a"]), gates(&["a", "c"])),
            [format!("spec.schedulingGates: Forbidden: {words}")]
        );
    }

    #[test]
    fn where_a_pod_goes_that_is_held_back_can_be_narrowed_down() {
        let held = |extra: Value| {
            let mut spec = json!({"schedulingGates": [{"name": "g"}]});
            spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            spec
        };
        let term = |keys: &[&str]| -> Value {
            let all: Vec<Value> = keys.iter().map(|key| json!({"key": key, "operator": "Exists"})).collect();
            json!({"matchExpressions": all})
        };
        let affinity = |terms: &[Value]| {
            let required = json!({"nodeSelectorTerms": terms});
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
        };
        let selector = |value: &str| json!({"nodeSelector": {"a": value}});
        for (old, new, refused) in [
            (json!({}), selector("b"), ""),
            (selector("b"), json!({"nodeSelector": {"a": "b", "c": "d"}}), ""),
            (selector("b"), selector("c"), "only additions to spec.nodeSelector are allowed"),
            (selector("b"), json!({}), "only additions to spec.nodeSelector are allowed"),
            (json!({}), affinity(&[term(&["a"])]), ""),
            (affinity(&[term(&["a"])]), affinity(&[term(&["a", "b"])]), ""),
            (affinity(&[term(&["a"])]), affinity(&[term(&["b"])]), "only additions are allowed"),
            (affinity(&[term(&["a"])]), affinity(&[term(&["a"]), term(&["b"])]), "no additions/deletions to"),
            (affinity(&[term(&["a"])]), json!({}), "no additions/deletions to"),
        ] {
            let found = change(held(old.clone()), held(new.clone()));
            assert_eq!(found.is_empty(), refused.is_empty(), "{old} {new}: {found:?}");
            assert!(found.concat().contains(refused), "{old} {new}: {found:?}");
        }
    }
}

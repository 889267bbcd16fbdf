//! What a pod may use as a whole: the resources that it shares out among its containers (`spec.resources`), and the class
//! of service that follows from them, or from those of its containers where the pod itself says nothing.

use super::faults::Faults;
use super::{fields, resource_claims, resource_names, resources};
use crate::quota::pods::{is_shared, of_containers};
use knarr_api::quantity::Quantity;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

fn own<'a>(spec: &'a Value, which: &str) -> Option<&'a Map<String, Value>> {
    spec.pointer(&format!("/resources/{which}")).and_then(Value::as_object).filter(|map| !map.is_empty())
}

/// What follows from what the pod and its containers say: a limit of huge pages from those of the containers; then what is
/// limited is requested, as much as the containers request, or up to the limit where they are silent.
pub(super) fn defaults(spec: &mut Value) {
    let speaks = own(spec, "limits").is_some() || own(spec, "requests").is_some();
    if speaks {
        let mut limits = own(spec, "limits").cloned().unwrap_or_default();
        for (name, amount) in of_containers(spec, "limits") {
            let requested = own(spec, "requests").is_some_and(|requests| requests.contains_key(&name));
            if name.starts_with("hugepages-") && !requested {
                limits.entry(name).or_insert_with(|| json!(amount.to_string()));
            }
        }
        replace(spec, "limits", limits);
    }
    let Some(limits) = own(spec, "limits").cloned() else { return };
    let mut requests = own(spec, "requests").cloned().unwrap_or_default();
    for (name, amount) in of_containers(spec, "requests") {
        if is_shared(&name) && resource_names::may_be_overcommitted(&name) {
            requests.entry(name).or_insert_with(|| json!(amount.to_string()));
        }
    }
    for (name, limit) in limits.into_iter().filter(|(name, _)| is_shared(name)) {
        requests.entry(name).or_insert(limit);
    }
    replace(spec, "requests", requests);
}

fn replace(spec: &mut Value, which: &str, amounts: Map<String, Value>) {
    if let Some(resources) = spec.get_mut("resources").filter(|_| !amounts.is_empty()) {
        fields::set(resources, which, amounts.into());
    }
}

/// Every fault of what a pod says as a whole.
pub(super) fn validate(spec: &Value, path: &str, faults: &mut Faults) {
    let Some(given) = spec.get("resources").filter(|given| !given.is_null()) else { return };
    let field = format!("{path}.resources");
    if fields::text(spec, "/os/name") == "windows" {
        return faults.forbidden(field, "may not be set for a windows pod");
    }
    if given.get("claims").is_some_and(|claims| !claims.is_null()) {
        faults.forbidden(format!("{field}.claims"), "claims may not be set for Resources at pod-level");
    }
    resource_claims::of_container(spec, spec, &format!("{field}.claims"), faults);
    resources::validate_named(Some(given), &field, resource_names::of_pod, faults);
    no_less_than_containers(spec, given, &field, faults);
    no_container_more(spec, given, &field, faults);
}

/// The containers together get by with what the pod has.
fn no_less_than_containers(spec: &Value, given: &Value, path: &str, faults: &mut Faults) {
    for (which, counts) in [("requests", any as fn(&str) -> bool), ("limits", is_huge)] {
        for (name, sum) in of_containers(spec, which).into_iter().filter(|(name, _)| counts(name)) {
            let own = given.get(which).and_then(|own| own.get(&name)).and_then(resources::parse);
            if let Some(own) = own.filter(|own| sum > *own) {
                let detail = format!("must be greater than or equal to aggregate container {which} of {sum}");
                faults.invalid(format!("{path}.{which}[{name}]"), &json!(own.to_string()), &detail);
            }
        }
    }
}

fn any(_: &str) -> bool {
    true
}

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// No container may use more than the pod.
fn no_container_more(spec: &Value, given: &Value, path: &str, faults: &mut Faults) {
    for (index, container) in fields::list(spec, "/containers").iter().enumerate() {
        for (name, limit) in fields::pairs(container, "/resources/limits") {
            let own = given.get("limits").and_then(|limits| limits.get(name)).and_then(resources::parse);
            let (Some(limit), Some(own)) = (resources::parse(limit), own) else { continue };
            if limit > own {
                let field = format!("{path}.containers[{index}][{name}].limits");
                let detail = format!("must be less than or equal to pod limits of {own}");
                faults.invalid(field, &json!(limit.to_string()), &detail);
            }
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`: how its resources rank when a node runs out of them.
pub(super) fn quality_of_service(spec: &Value) -> &'static str {
    let whole = spec.get("resources").filter(|given| !given.is_null());
    let each: Vec<&Value> = match whole {
        Some(_) => vec![spec],
        None => {
            let groups = ["/initContainers", "/containers"].iter();
            groups.flat_map(|group| fields::list(spec, group)).collect()
        }
    };
    let (mut any, mut all_guaranteed) = (false, true);
    for one in each {
        let (requests, limits) = (ranked(one, "requests"), ranked(one, "limits"));
        any |= !requests.is_empty() || !limits.is_empty();
        all_guaranteed &= limits.len() == 2 && requests == limits;
    }
    match (any, all_guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Amounts of the resources by which a class of service is told.
fn ranked<'a>(one: &'a Value, which: &str) -> BTreeMap<&'a str, Quantity> {
    let amounts =
        one.pointer(&format!("/resources/{which}")).and_then(Value::as_object).into_iter().flatten();
    let ranked = amounts.filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"));
    let parsed = ranked.filter_map(|(name, amount)| Some((name.as_str(), resources::parse(amount)?)));
    parsed.filter(|(_, amount)| !amount.is_zero()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(resources: Value, containers: &[Value]) -> Value {
        let containers: Vec<Value> =
            containers.iter().map(|own| json!({"name": "c", "resources": own})).collect();
        json!({"resources": resources, "containers": containers})
    }

    #[test]
    fn what_is_limited_is_requested() {
        let one = json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}});
        let huge = json!({"limits": {"hugepages-2Mi": "4Mi", "memory": "1Gi"}});
        let table = [
            (json!({}), vec![one.clone()], json!({})),
            (json!({"requests": {"cpu": "2"}}), vec![one.clone()], json!({"requests": {"cpu": "2"}})),
            (
                json!({"limits": {"cpu": "4", "memory": "1Gi"}}),
                vec![one.clone(), one],
                json!({"limits": {"cpu": "4", "memory": "1Gi"}, "requests": {"cpu": "2", "memory": "1Gi"}}),
            ),
            (
                json!({"limits": {"cpu": "4"}}),
                vec![json!({})],
                json!({"limits": {"cpu": "4"}, "requests": {"cpu": "4"}}),
            ),
            (
                json!({"requests": {"memory": "1Gi"}}),
                vec![huge],
                json!({"limits": {"hugepages-2Mi": "4Mi"}, "requests": {"hugepages-2Mi": "4Mi", "memory": "1Gi"}}),
            ),
        ];
        for (resources, containers, wanted) in table {
            let mut spec = spec(resources.clone(), &containers);
            defaults(&mut spec);
            assert_eq!(spec["resources"], wanted, "{resources}");
            defaults(&mut spec);
            assert_eq!(spec["resources"], wanted, "twice changes nothing");
        }
    }

    #[test]
    fn a_pod_has_what_its_containers_ask_for() {
        let one = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}});
        let table = [
            (json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}), ""),
            (
                json!({"requests": {"cpu": "1"}}),
                "s.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2",
            ),
            (
                json!({"limits": {"cpu": "1"}}),
                "s.resources.containers[0][cpu].limits: Invalid value: \"2\": must be less than or equal to pod limits of 1, s.resources.containers[1][cpu].limits: Invalid value: \"2\": must be less than or equal to pod limits of 1",
            ),
            (
                json!({"limits": {"ephemeral-storage": "1Gi"}}),
                "s.resources.limits[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ),
            (
                json!({"requests": {"cpu": "3"}, "limits": {"cpu": "2"}}),
                "s.resources.requests: Invalid value: \"3\": must be less than or equal to cpu limit of 2",
            ),
            (
                json!({"limits": {"cpu": "2", "hugepages-2Mi": "3Mi"}}),
                "s.resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            ),
            (
                json!({"claims": []}),
                "s.resources.claims: Forbidden: claims may not be set for Resources at pod-level",
            ),
        ];
        for (resources, words) in table {
            let mut faults = Faults::default();
            validate(&spec(resources.clone(), &[one.clone(), one.clone()]), "s", &mut faults);
            let causes = faults.into_causes().into_iter();
            let told: Vec<String> =
                causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
            assert_eq!(told.join(", "), words, "{resources}");
        }
    }

    #[test]
    fn quality_follows_requests_and_limits() {
        let same = json!({"cpu": "1", "memory": "1Gi"});
        let full = json!({"requests": same, "limits": {"cpu": "1000m", "memory": "1024Mi"}});
        let some = json!({"requests": {"cpu": "1"}});
        let table = [
            (json!(null), json!({}), "BestEffort"),
            (json!(null), some.clone(), "Burstable"),
            (json!(null), full.clone(), "Guaranteed"),
            (full.clone(), some.clone(), "Guaranteed"),
            (some, full.clone(), "Burstable"),
            (json!({}), full, "BestEffort"),
        ];
        for (resources, container, quality) in table {
            assert_eq!(quality_of_service(&spec(resources.clone(), &[container])), quality, "{resources}");
        }
    }
}

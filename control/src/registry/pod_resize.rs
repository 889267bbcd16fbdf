//! Changes of what the containers of a running pod may use: of processors and memory alone, in containers that are as
//! they were otherwise, and without moving the pod into another class of service.

use super::faults::Faults;
use super::{fields, pod_resources, resources};
use serde_json::{Map, Value, json};

const GROUPS: [&str; 2] = ["containers", "initContainers"];
const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";
/// What a resize is about.
const RESIZED: [&str; 2] = ["resources", "resizePolicy"];

/// Takes the resources from the new pod into the old one, `result`.
pub(super) fn resize(new: &Value, result: &mut Value, faults: &mut Faults) {
    if let Some(why) = never(result) {
        return faults.forbidden("", why);
    }
    let Some(spec) = result.get_mut("spec") else { return };
    let before = faults.count();
    let wanted = new.get("spec").unwrap_or(&Value::Null);
    GROUPS.iter().for_each(|group| same_containers(group, wanted, spec, faults));
    if faults.count() > before {
        return;
    }
    let old = spec.clone();
    for group in GROUPS {
        let all = fields::list(wanted, &format!("/{group}")).to_vec();
        for (container, new) in fields::each(spec, group).zip(&all) {
            RESIZED.iter().for_each(|field| fields::copy(container, new, field));
        }
    }
    if pod_resources::quality_of_service(spec) != pod_resources::quality_of_service(&old) {
        let quality = pod_resources::quality_of_service(&old);
        faults.invalid("spec", &json!(quality), "Pod QOS Class may not change as a result of resizing");
    }
    for group in ["initContainers", "containers"] {
        let all = fields::list(&old, &format!("/{group}")).iter();
        for (index, (old, new)) in all.zip(fields::list(spec, &format!("/{group}"))).enumerate() {
            container(old, new, group, &format!("spec.{group}[{index}].resources"), faults);
        }
    }
}

/// Pods that nobody resizes.
fn never(pod: &Value) -> Option<&'static str> {
    let whole = |which: &str| fields::pairs(pod, &format!("/spec/resources/{which}")).next().is_some();
    if whole("requests") || whole("limits") {
        return Some("pods with pod-level resources cannot be resized");
    }
    if pod.pointer(MIRROR).is_some() {
        return Some("static pods cannot be resized");
    }
    (fields::text(pod, "/spec/os/name") == "windows").then_some("windows pods cannot be resized")
}

fn same_containers(group: &str, new: &Value, old: &Value, faults: &mut Faults) {
    let names = |spec: &Value| -> Vec<String> {
        let all = fields::list(spec, &format!("/{group}")).iter();
        all.map(|container| fields::text(container, "/name").to_owned()).collect()
    };
    let (new, old) = (names(new), names(old));
    if new.len() != old.len() {
        return faults
            .forbidden(format!("spec.{group}"), &format!("{group} may not be added or removed on resize"));
    }
    for (index, _) in new.iter().zip(&old).enumerate().filter(|(_, (new, old))| new != old) {
        let detail = format!("{group} may not be renamed or reordered on resize");
        faults.forbidden(format!("spec.{group}[{index}].name"), &detail);
    }
}

fn container(old: &Value, new: &Value, group: &str, path: &str, faults: &mut Faults) {
    resources::validate(new.get("resources"), path, faults);
    let amounts = |container: &Value, which: &str| -> Map<String, Value> {
        let amounts = container.pointer(&format!("/resources/{which}"));
        amounts.and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let lasting = group == "containers" || fields::text(old, "/restartPolicy") == "Always";
    for which in ["requests", "limits"].into_iter().filter(|_| lasting) {
        let (old, new) = (amounts(old, which), amounts(new, which));
        if old.keys().any(|name| !new.contains_key(name)) {
            let detail = format!("resource {which} cannot be removed");
            faults.forbidden(format!("{path}.{which}"), &detail);
        }
    }
    let fixed = |container: &Value| {
        let amounts = |which| {
            let all = amounts(container, which).into_iter();
            let kept = all.filter(|(name, _)| !lasting || !matches!(name.as_str(), "cpu" | "memory"));
            kept.map(|(name, amount)| (name, resources::parse(&amount))).collect::<Vec<_>>()
        };
        let claims = container.pointer("/resources/claims").cloned();
        (amounts("requests"), amounts("limits"), claims, container.get("resizePolicy").cloned())
    };
    if fixed(old) != fixed(new) {
        let detail = match (group, lasting) {
            ("containers", _) => "only cpu and memory resources are mutable",
            (_, true) => "only cpu and memory resources for sidecar containers are mutable",
            (_, false) => "resources for non-sidecar init containers are immutable",
        };
        faults.forbidden("spec", detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(old: Value, new: Value) -> (Value, Vec<String>) {
        let (mut result, mut faults) = (json!({"spec": old}), Faults::default());
        resize(&json!({"spec": new}), &mut result, &mut faults);
        let causes = faults.into_causes().into_iter();
        (result, causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect())
    }

    fn spec(name: &str, resources: Value) -> Value {
        json!({"containers": [{"name": name, "image": "i:1", "resources": resources}]})
    }

    #[test]
    fn a_resize_changes_resources_alone() {
        let old = spec("c", json!({"limits": {"cpu": "2"}}));
        let mut new = spec("c", json!({"limits": {"cpu": "1"}}));
        new["containers"][0]["image"] = "other".into();
        let (result, faults) = told(old, new);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(result["spec"]["containers"][0]["resources"]["limits"]["cpu"], "1");
        assert_eq!(result["spec"]["containers"][0]["image"], "i:1");
    }

    #[test]
    fn what_a_resize_cannot_do() {
        let limits = |limits: Value| spec("c", json!({"limits": limits}));
        let with = |mut spec: Value, field: &str, value: Value| {
            spec[field] = value;
            spec
        };
        let early = |cpu: &str| json!([{"name": "i", "resources": {"requests": {"cpu": cpu}}}]);
        for (old, new, words) in [
            (
                limits(json!({"cpu": "1", "memory": "1Mi"})),
                limits(json!({"cpu": "1"})),
                "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
            ),
            (
                limits(json!({"cpu": "1", "ephemeral-storage": "1Gi"})),
                limits(json!({"cpu": "1", "ephemeral-storage": "2Gi"})),
                "spec: Forbidden: only cpu and memory resources are mutable",
            ),
            (
                limits(json!({"cpu": "1"})),
                spec("d", json!({"limits": {"cpu": "1"}})),
                "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
            ),
            (
                limits(json!({"cpu": "1"})),
                json!({"containers": []}),
                "spec.containers: Forbidden: containers may not be added or removed on resize",
            ),
            (
                with(limits(json!({"cpu": "1"})), "initContainers", early("1")),
                with(limits(json!({"cpu": "1"})), "initContainers", early("2")),
                "spec: Forbidden: resources for non-sidecar init containers are immutable",
            ),
            (
                with(limits(json!({"cpu": "1"})), "resources", json!({"limits": {"cpu": "1"}})),
                limits(json!({"cpu": "2"})),
                ": Forbidden: pods with pod-level resources cannot be resized",
            ),
            (
                limits(json!({"cpu": "1"})),
                spec("c", json!({})),
                "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
            ),
        ] {
            let (_, found) = told(old, new);
            assert!(found.contains(&words.to_owned()), "{words}: {found:?}");
        }
    }
}

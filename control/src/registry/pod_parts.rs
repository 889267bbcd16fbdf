//! Changes of a running pod through paths of their own: ephemeral containers to look into it, resources to resize it.

use super::faults::Faults;
use super::{containers, fields, pod_spec, resources, volumes};
use serde_json::Value;

/// Takes the part from the new pod into the old one, `result`.
pub(super) fn on_part(part: &str, new: &Value, result: &mut Value, faults: &mut Faults) {
    match part {
        "ephemeralcontainers" => ephemeral_containers(new, result, faults),
        "resize" => resize(new, result, faults),
        _ => {}
    }
}

/// They are only ever added: those that are there stay as they are.
fn ephemeral_containers(new: &Value, result: &mut Value, faults: &mut Faults) {
    let after = fields::list(new, "/spec/ephemeralContainers").to_vec();
    let before = fields::list(result, "/spec/ephemeralContainers").to_vec();
    for old in &before {
        let name = fields::text(old, "/name");
        match after.iter().find(|container| fields::text(container, "/name") == name) {
            Some(same) if same == old => {}
            Some(_) => faults.forbidden(
                "spec.ephemeralContainers",
                &format!("existing ephemeral containers \"{name}\" may not be changed\n"),
            ),
            None => faults.forbidden(
                "spec.ephemeralContainers",
                &format!("existing ephemeral containers \"{name}\" may not be removed\n"),
            ),
        }
    }
    let mut after = after;
    let host_network = fields::flag(result, "/spec/hostNetwork");
    after.iter_mut().for_each(|container| containers::defaults(container, host_network));
    fields::set_in(result, "spec", "ephemeralContainers", after.into());
    let Some(spec) = result.get("spec") else { return };
    let known = |name: &str| {
        let all = fields::list(spec, "/containers").iter().chain(fields::list(spec, "/initContainers"));
        all.into_iter().any(|container| fields::text(container, "/name") == name)
    };
    for (index, container) in fields::list(spec, "/ephemeralContainers").iter().enumerate() {
        let target = fields::text(container, "/targetContainerName");
        if !target.is_empty() && !known(target) {
            let field = format!("spec.ephemeralContainers[{index}].targetContainerName");
            faults.not_found(field, &target.into());
        }
    }
    let mounted = volumes::validate(spec, "spec", faults);
    containers::validate_all(spec, "spec", &mounted, faults);
}

/// Requests and limits of containers and sidecars change, nothing else does.
fn resize(new: &Value, result: &mut Value, faults: &mut Faults) {
    let Some(spec) = result.get_mut("spec") else { return };
    let quality = pod_spec::quality_of_service(spec);
    for list in ["initContainers", "containers"] {
        let wanted = fields::list(new, &format!("/spec/{list}")).to_vec();
        for (index, container) in fields::each(spec, list).enumerate() {
            let goes_on = list == "containers" || container.get("restartPolicy") == Some(&"Always".into());
            let same = wanted.iter().find(|other| other.get("name") == container.get("name"));
            let resources = same.and_then(|same| same.get("resources")).filter(|_| goes_on);
            if let Some(resources) = resources {
                let path = format!("spec.{list}[{index}].resources");
                resources::validate(Some(resources), &path, faults);
                fields::set(container, "resources", resources.clone());
            }
        }
    }
    if pod_spec::quality_of_service(spec) != quality {
        faults.invalid("spec", &quality.into(), "Pod QOS Class may not change as a result of resizing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ephemeral_containers_are_only_added() {
        let debugger = json!({"name": "d", "image": "i:1"});
        let pod = |ephemeral: Value| json!({"spec": {"containers": [{"name": "c", "image": "i:1"}], "ephemeralContainers": ephemeral}});
        let (mut result, mut faults) = (pod(json!([])), Faults::default());
        on_part("ephemeralcontainers", &pod(json!([debugger])), &mut result, &mut faults);
        assert_eq!(result["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"], "File");
        let causes = faults.into_causes();
        assert!(causes.iter().all(|cause| cause.field.starts_with("spec.containers")), "{causes:?}");
        let mut faults = Faults::default();
        on_part("ephemeralcontainers", &pod(json!([])), &mut result, &mut faults);
        assert_eq!(faults.into_causes()[0].reason, "FieldValueForbidden");
    }

    #[test]
    fn a_resize_changes_resources_alone() {
        let mut result = json!({"spec": {"containers": [{"name": "c", "image": "i:1", "resources": {"limits": {"cpu": "2"}}}]}});
        let new = json!({"spec": {"containers": [{"name": "c", "image": "other", "resources": {"limits": {"cpu": "1"}}}]}});
        let mut faults = Faults::default();
        on_part("resize", &new, &mut result, &mut faults);
        assert!(faults.is_empty());
        assert_eq!(result["spec"]["containers"][0]["resources"]["limits"]["cpu"], "1");
        assert_eq!(result["spec"]["containers"][0]["image"], "i:1");
    }

    #[test]
    fn sidecars_are_resized_and_init_containers_are_not() {
        let pod = |cpu: &str| {
            let with = |name: &str, rest: Value| {
                let mut container = json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
                container.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
                container
            };
            json!({"spec": {"initContainers": [with("i", json!({})), with("s", json!({"restartPolicy": "Always"}))],
                "containers": [with("c", json!({}))]}})
        };
        let (mut result, mut faults) = (pod("1"), Faults::default());
        on_part("resize", &pod("2"), &mut result, &mut faults);
        assert!(faults.is_empty());
        let cpu = |place: &str| result.pointer(&format!("/spec/{place}/resources/requests/cpu")).cloned();
        let all = ["initContainers/0", "initContainers/1", "containers/0"].map(cpu);
        assert_eq!(all, [Some(json!("1")), Some(json!("2")), Some(json!("2"))]);
    }
}

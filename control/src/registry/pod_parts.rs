//! Changes of a running pod through paths of their own: ephemeral containers to look into it, and what it may use
//! ([`pod_resize`]).

use super::faults::Faults;
use super::{containers, fields, pod_resize, volumes};
use serde_json::Value;

/// Takes the part from the new pod into the old one, `result`.
pub(super) fn on_part(part: &str, new: &Value, result: &mut Value, faults: &mut Faults) {
    match part {
        "ephemeralcontainers" => ephemeral_containers(new, result, faults),
        "resize" => pod_resize::resize(new, result, faults),
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
}

//! Claims of devices that a pod names and its containers take up, whole or one request of them.

use super::faults::Faults;
use super::{fields, validation};
use knarr_api::names;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Every fault of the claims of a pod.
pub(super) fn of_pod(spec: &Value, path: &str, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, claim) in fields::list(spec, "/resourceClaims").iter().enumerate() {
        let path = format!("{path}.resourceClaims[{index}]");
        match fields::text(claim, "/name") {
            "" => faults.required(format!("{path}.name"), ""),
            name if seen.insert(name) => validation::dns_label(&format!("{path}.name"), name, faults),
            name => faults.duplicate(format!("{path}.name"), &json!(name)),
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let given: Vec<&str> = sources.into_iter().filter(|field| claim.get(field).is_some()).collect();
        let detail = match given.len() {
            0 => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            1 => "",
            _ => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
        };
        if !detail.is_empty() {
            faults.invalid_shown(path.as_str(), &shown(claim), detail);
        }
        for field in given {
            let name = fields::text(claim, &format!("/{field}"));
            validation::named(&format!("{path}.{field}"), name, names::dns1123_subdomain, faults);
        }
    }
}

/// The inner form of a claim, as Kubernetes shows it.
fn shown(claim: &Value) -> String {
    let part = |field: &str| claim.get(field).unwrap_or(&Value::Null).to_string();
    format!(
        r#"{{"Name":{},"ResourceClaimName":{},"ResourceClaimTemplateName":{}}}"#,
        json!(fields::text(claim, "/name")),
        part("resourceClaimName"),
        part("resourceClaimTemplateName"),
    )
}

/// Every fault of the claims that a container takes up.
pub(super) fn of_container(container: &Value, spec: &Value, path: &str, faults: &mut Faults) {
    let known: BTreeSet<&str> = fields::list(spec, "/resourceClaims")
        .iter()
        .map(|claim| fields::text(claim, "/name"))
        .filter(|name| !name.is_empty())
        .collect();
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (index, claim) in fields::list(container, "/resources/claims").iter().enumerate() {
        let path = format!("{path}[{index}]");
        let (name, request) = (fields::text(claim, "/name"), fields::text(claim, "/request"));
        if name.is_empty() {
            faults.required(path, "");
            continue;
        }
        let whole = seen.contains(&(name, ""));
        if whole || (request.is_empty() && seen.iter().any(|(other, _)| *other == name)) {
            faults.duplicate(path.as_str(), &json!(name));
        } else if !request.is_empty() {
            validation::dns_label(&format!("{path}.request"), request, faults);
            if seen.contains(&(name, request)) {
                faults.duplicate(path.as_str(), &json!(format!("{name}/{request}")));
            }
        }
        if !whole {
            seen.insert((name, request));
        }
        if !known.contains(name) {
            let all: Vec<&str> = known.iter().copied().collect();
            let which =
                if all.is_empty() { " which is empty".to_owned() } else { format!(": {}", all.join(", ")) };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{which}");
            faults.not_found_but(path, &json!(name), &detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_named_once_and_known() {
        let told = |of_pod: Value, of_container: Value| -> Vec<String> {
            let spec = json!({"resourceClaims": of_pod});
            let container = json!({"resources": {"claims": of_container}});
            let mut faults = Faults::default();
            super::of_pod(&spec, "spec", &mut faults);
            super::of_container(&container, &spec, "c", &mut faults);
            let causes = faults.into_causes().into_iter();
            causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
        };
        let gpu = json!([{"name": "gpu", "resourceClaimName": "a"}]);
        assert!(told(gpu.clone(), json!([{"name": "gpu"}])).is_empty());
        assert!(
            told(gpu.clone(), json!([{"name": "gpu", "request": "a"}, {"name": "gpu", "request": "b"}]))
                .is_empty()
        );
        for (of_pod, of_container, words) in [
            (
                json!([]),
                json!([{"name": "gpu"}]),
                r#"c[0]: Not found: "gpu": must be one of the names in pod.spec.resourceClaims which is empty"#,
            ),
            (
                gpu.clone(),
                json!([{"name": "cpu"}]),
                r#"c[0]: Not found: "cpu": must be one of the names in pod.spec.resourceClaims: gpu"#,
            ),
            (
                gpu.clone(),
                json!([{"name": "gpu"}, {"name": "gpu", "request": "a"}]),
                r#"c[1]: Duplicate value: "gpu""#,
            ),
            (
                gpu.clone(),
                json!([{"name": "gpu", "request": "a"}, {"name": "gpu"}]),
                r#"c[1]: Duplicate value: "gpu""#,
            ),
            (
                gpu.clone(),
                json!([{"name": "gpu", "request": "a"}, {"name": "gpu", "request": "a"}]),
                r#"c[1]: Duplicate value: "gpu/a""#,
            ),
            (
                json!([{"name": "gpu"}]),
                json!([]),
                r#"spec.resourceClaims[0]: Invalid value: {"Name":"gpu","ResourceClaimName":null,"ResourceClaimTemplateName":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"#,
            ),
            (json!([gpu[0], gpu[0]]), json!([]), r#"spec.resourceClaims[1].name: Duplicate value: "gpu""#),
        ] {
            assert_eq!(told(of_pod, of_container), [words]);
        }
    }
}

//! What a claim is filled with: `dataSource`, and `dataSourceRef`, which came later and knows more. Each says the other
//! where only one is given.

use super::faults::Faults;
use super::{fields, validation};
use knarr_api::names;
use serde_json::{Value, json};

const CLAIM: &str = "PersistentVolumeClaim";
const LOCAL: [&str; 3] = ["apiGroup", "kind", "name"];

/// What a new claim says in one field it says in both. An old source of a kind that nobody ever filled a claim with is
/// dropped, as ever.
pub(super) fn complete(spec: &mut Value) {
    let Some(fields) = spec.as_object_mut() else { return };
    let group = |source: &Value| fields::text(source, "/apiGroup").to_owned();
    let known = |source: &Value| match (group(source).as_str(), fields::text(source, "/kind")) {
        ("", kind) => kind == CLAIM,
        (group, kind) => group == "snapshot.storage.k8s.io" && kind == "VolumeSnapshot",
    };
    let newer = fields.get("dataSourceRef").filter(|source| !source.is_null()).cloned();
    if newer.is_none() && fields.get("dataSource").is_some_and(|source| !known(source)) {
        fields.remove("dataSource");
    }
    let older = fields.get("dataSource").filter(|source| !source.is_null()).cloned();
    match (older, newer) {
        (Some(older), None) => {
            fields.insert("dataSourceRef".to_owned(), local(&older));
        }
        (None, Some(newer)) if fields::text(&newer, "/namespace").is_empty() => {
            fields.insert("dataSource".to_owned(), local(&newer));
        }
        _ => {}
    }
}

/// A source in the same namespace.
fn local(source: &Value) -> Value {
    let part = |field: &&str| Some(((*field).to_owned(), source.get(*field)?.clone()));
    Value::Object(LOCAL.iter().filter_map(part).collect())
}

/// Every fault of the sources of a claim's specification.
pub(super) fn validate(spec: &Value, path: &str, faults: &mut Faults) {
    let source = |field: &str| spec.get(field).filter(|source| !source.is_null());
    let (older, newer) = (source("dataSource"), source("dataSourceRef"));
    for (field, source) in [("dataSource", older), ("dataSourceRef", newer)] {
        source.into_iter().for_each(|source| one(source, &format!("{path}.{field}"), faults));
    }
    let (Some(older), Some(newer)) = (older, newer) else { return };
    let detail = if !fields::text(newer, "/namespace").is_empty() {
        "may not be specified when dataSourceRef.namespace is specified"
    } else if local(older) != local(newer) {
        "must match dataSourceRef"
    } else {
        return;
    };
    // The value that Kubernetes shows is the path of the field.
    faults.invalid_shown(path, "{}", detail);
}

fn one(source: &Value, path: &str, faults: &mut Faults) {
    let text = |field: &str| fields::text(source, &format!("/{field}"));
    for field in ["name", "kind"].into_iter().filter(|field| text(field).is_empty()) {
        faults.required(format!("{path}.{field}"), "");
    }
    let group = text("apiGroup");
    if group.is_empty() && text("kind") != CLAIM {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        faults.invalid(path, &json!(text("kind")), detail);
    }
    validation::optional_name(&format!("{path}.apiGroup"), group, names::dns1123_subdomain, faults);
    validation::optional_name(&format!("{path}.namespace"), text("namespace"), names::dns1123_label, faults);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_says_the_other() {
        let made = |spec: Value| {
            let mut spec = spec;
            complete(&mut spec);
            spec
        };
        let claim = json!({"kind": CLAIM, "name": "c"});
        let both = json!({"dataSource": claim, "dataSourceRef": claim});
        assert_eq!(made(json!({"dataSource": claim})), both);
        assert_eq!(made(json!({"dataSourceRef": claim})), both);
        let other = json!({"apiGroup": "x.y", "kind": "Odd", "name": "o"});
        assert_eq!(made(json!({"dataSource": other})), json!({}));
        assert_eq!(
            made(json!({"dataSourceRef": other})),
            json!({"dataSource": other, "dataSourceRef": other})
        );
        let far = json!({"dataSourceRef": {"kind": CLAIM, "name": "c", "namespace": "n"}});
        assert_eq!(made(far.clone()), far);
    }

    #[test]
    fn sources_are_whole_and_agree() {
        let told = |spec: Value| -> Vec<String> {
            let mut faults = Faults::default();
            validate(&spec, "spec", &mut faults);
            let causes = faults.into_causes().into_iter();
            causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
        };
        let claim = json!({"kind": CLAIM, "name": "c"});
        assert!(told(json!({"dataSource": claim, "dataSourceRef": claim})).is_empty());
        for (spec, words) in [
            (json!({"dataSource": {"kind": CLAIM}}), "spec.dataSource.name: Required value"),
            (
                json!({"dataSourceRef": {"kind": "Odd", "name": "o"}}),
                r#"spec.dataSourceRef: Invalid value: "Odd": must be 'PersistentVolumeClaim' when referencing the default apiGroup"#,
            ),
            (
                json!({"dataSource": claim, "dataSourceRef": {"kind": CLAIM, "name": "d"}}),
                "spec: Invalid value: {}: must match dataSourceRef",
            ),
            (
                json!({"dataSource": claim, "dataSourceRef": {"kind": CLAIM, "name": "c", "namespace": "n"}}),
                "spec: Invalid value: {}: may not be specified when dataSourceRef.namespace is specified",
            ),
        ] {
            assert_eq!(told(spec), [words]);
        }
        let far = json!({"dataSourceRef": {"kind": CLAIM, "name": "c", "namespace": "A"}});
        assert!(told(far)[0].starts_with(r#"spec.dataSourceRef.namespace: Invalid value: "A": a lowercase"#));
    }
}

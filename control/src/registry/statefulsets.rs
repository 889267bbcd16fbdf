//! Stateful sets: pods with names, disks and an order of their own.

use super::columns::{self, age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{
    Resource, faults::Faults, fields, persistentvolumeclaims, pod_template, status_rules, validation,
    warnings,
};
use serde_json::{Value, json};

pub(super) fn row() -> Resource {
    let mut columns = vec![
        name(),
        text("Ready", "Pods that are ready, of those wanted.", |object| {
            let ready = fields::int(object, "/status/readyReplicas").unwrap_or(0);
            format!("{ready}/{}", fields::int(object, "/spec/replicas").unwrap_or(0))
        }),
        age(),
    ];
    columns.extend(columns::workload(false));
    Row::namespaced("apps", "v1", "StatefulSet", "statefulsets")
        .short(&["sts"])
        .category("all")
        .status()
        .scale()
        .columns(columns)
        .rules(Rules {
            has_generation: true,
            defaults,
            on_create,
            validate,
            validate_status_update: status_rules::of_stateful_set,
            validate_update,
            name: knarr_api::names::dns1123_label,
            warnings: warn,
            ..Rules::NONE
        })
        .done()
}

fn on_create(object: &mut Value) {
    fields::set(object, "status", json!({"availableReplicas": 0, "replicas": 0}));
}

fn defaults(object: &mut Value) {
    let Some(spec) = fields::child(object, "spec") else { return };
    fields::fill_text(spec, "podManagementPolicy", "OrderedReady");
    fields::fill(spec, "replicas", 1);
    fields::fill(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = fields::child(spec, "updateStrategy") {
        fields::fill_text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = fields::child(strategy, "rollingUpdate")
        {
            fields::fill(rolling, "partition", 0);
        }
    }
    if let Some(policy) = fields::child(spec, "persistentVolumeClaimRetentionPolicy") {
        fields::fill_text(policy, "whenDeleted", "Retain");
        fields::fill_text(policy, "whenScaled", "Retain");
    }
    for claim in fields::each(spec, "volumeClaimTemplates") {
        fields::fill_text(claim, "apiVersion", "v1");
        fields::fill_text(claim, "kind", "PersistentVolumeClaim");
        fields::fill(claim, "status", json!({"phase": "Pending"}));
        super::persistentvolumeclaims::defaults(claim);
    }
    pod_template::defaults(spec);
}

fn validate(object: &Value, faults: &mut Faults) {
    let service = fields::text(object, "/spec/serviceName");
    validation::optional_name("spec.serviceName", service, knarr_api::names::dns1123_label, faults);
    policies(object, faults);
    for field in ["replicas", "minReadySeconds", "ordinals.start"] {
        validation::not_negative(object, &format!("spec.{field}"), faults);
    }
    for (index, claim) in fields::list(object, "/spec/volumeClaimTemplates").iter().enumerate() {
        persistentvolumeclaims::validate_spec(
            claim,
            &format!("spec.volumeClaimTemplates[{index}].spec"),
            faults,
        );
    }
    validation::selector_matches_template(object, "statefulset", faults);
    pod_template::validate_lasting(&with_claims(object), "spec.template", "StatefulSet", faults);
}

/// How pods come, are replaced, and what becomes of their claims.
fn policies(object: &Value, faults: &mut Faults) {
    let management = fields::text(object, "/spec/podManagementPolicy");
    if !matches!(management, "OrderedReady" | "Parallel") {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        faults.invalid("spec.podManagementPolicy", &json!(management), detail);
    }
    let kind = fields::text(object, "/spec/updateStrategy/type");
    let rolling = object.pointer("/spec/updateStrategy/rollingUpdate");
    match (kind, rolling) {
        ("RollingUpdate", _) => {
            let path = "spec.updateStrategy.rollingUpdate";
            validation::not_negative(object, &format!("{path}.partition"), faults);
            validation::int_or_part(object, &format!("{path}.maxUnavailable"), faults);
        }
        ("OnDelete", Some(rolling)) => {
            let part = |field: &str| rolling.get(field).unwrap_or(&Value::Null);
            let value = json!({"Partition": part("partition"), "MaxUnavailable": part("maxUnavailable")});
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            faults.invalid("spec.updateStrategy.rollingUpdate", &value, detail);
        }
        ("OnDelete", None) => {}
        (other, _) => faults.invalid(
            "spec.updateStrategy",
            &json!({"Type": other, "RollingUpdate": null}),
            "must be 'RollingUpdate' or 'OnDelete'",
        ),
    }
    for field in ["whenDeleted", "whenScaled"] {
        let path = format!("spec.persistentVolumeClaimRetentionPolicy.{field}");
        let policy = validation::at(object, &path).and_then(Value::as_str).unwrap_or_default();
        validation::optional_choice(&path, policy, &["Retain", "Delete"], faults);
    }
}

/// Containers may mount the claims of the set as if they were volumes of the template.
fn with_claims(object: &Value) -> Value {
    let mut object = object.clone();
    let claims = fields::list(&object, "/spec/volumeClaimTemplates").iter();
    let named: Vec<Value> = claims
        .map(|claim| fields::text(claim, "/metadata/name"))
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    if let Some(spec) = object.pointer_mut("/spec/template/spec") {
        let names: Vec<&Value> = named.iter().map(|volume| &volume["name"]).collect();
        let mut volumes = fields::list(spec, "/volumes").to_vec();
        volumes.retain(|volume| !names.contains(&&volume["name"]));
        volumes.extend(named);
        fields::set(spec, "volumes", volumes.into());
    }
    object
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    const FREE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |object: &Value| {
        let mut spec = object.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
        spec.retain(|field, _| !FREE.contains(&field.as_str()));
        spec
    };
    if fixed(new) != fixed(old) {
        faults.forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

fn warn(object: &Value) -> Vec<String> {
    let mut found = warnings::of_workload(object);
    if fields::int(object, "/spec/revisionHistoryLimit").is_some_and(|limit| limit < 0) {
        let words = "a negative value retains all historical revisions; a value >= 0 is recommended";
        found.push(format!("spec.revisionHistoryLimit: {words}"));
    }
    found
}

//! Policies are told what is wrong with their expressions, for Kubernetes' own kinds and for custom ones.

use super::*;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

fn policy(name: &str, rule: &Value, spec: Value) -> ValidatingAdmissionPolicy {
    let mut object = json!({"metadata": {"name": name}, "spec": spec});
    object["spec"]["matchConstraints"] = json!({"resourceRules": [rule]});
    serde_json::from_value(object).unwrap()
}

fn rule(group: &str, version: &str, resources: &[&str]) -> Value {
    json!({"apiGroups": [group], "apiVersions": [version], "operations": ["CREATE"], "resources": resources})
}

/// The warnings of a policy, each with its place.
async fn told(policies: &Api<ValidatingAdmissionPolicy>, policy: &ValidatingAdmissionPolicy) -> Vec<String> {
    policies.create(&PostParams::default(), policy).await.unwrap();
    let checked = |policy: &ValidatingAdmissionPolicy| {
        let status = policy.status.as_ref();
        status.is_some_and(|status| status.observed_generation == policy.metadata.generation)
    };
    let policy = until(policies.clone(), &policy.name_any(), checked).await;
    let checking = policy.status.unwrap().type_checking.unwrap();
    let warnings = checking.expression_warnings.unwrap_or_default();
    warnings.into_iter().map(|one| format!("{}: {}", one.field_ref, one.warning)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_told_what_is_wrong_with_their_types() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let (client, policies) = (plane.client(), Api::all(plane.client()));
    let apps = rule("apps", "v1", &["deployments", "replicasets"]);
    let sound = json!({
        "variables": [{"name": "count", "expression": "object.spec.replicas"}],
        "validations": [{"expression": "variables.count > 1 && request.userInfo.username != ''",
            "messageExpression": "'at least ' + string(variables.count)"}]});
    assert_eq!(told(&policies, &policy("sound", &apps, sound)).await, Vec::<String>::new());
    let wrong = json!({
        "variables": [{"name": "count", "expression": "object.spec.replicas"}],
        "validations": [{"expression": "true"}, {"expression": "variables.count > '1'"}]});
    let fault = "ERROR: <input>:1:17: found no matching overload for '_>_' applied to '(int, string)'\n | variables.count > '1'\n | ................^\n";
    let both = format!(
        "spec.validations[1].expression: apps/v1, Kind=Deployment: {fault}apps/v1, Kind=ReplicaSet: {fault}"
    );
    assert_eq!(told(&policies, &policy("wrong", &apps, wrong)).await, [both]);
    let anything = rule("*", "*", &["*"]);
    let free = json!({"validations": [{"expression": "object.no.such.field == 1"}]});
    assert_eq!(told(&policies, &policy("free", &anything, free)).await, Vec::<String>::new());
    define(&client).await;
    let boats = rule("sea.example.com", "v1", &["boats"]);
    let validations = json!([{"expression": "object.spec.crew <= 'ten'"},
        {"expression": "object.metadata.name != ''", "messageExpression": "object.spec.sail"}]);
    let warnings = told(&policies, &policy("boats", &boats, json!({"validations": validations}))).await;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0]
            .contains("sea.example.com/v1, Kind=Boat: ERROR: <input>:1:18: found no matching overload")
    );
    assert!(
        warnings[1].starts_with("spec.validations[1].messageExpression: ")
            && warnings[1].contains("undefined field 'sail'")
    );
    plane.shutdown().await.unwrap();
}

async fn define(client: &Client) {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"crew": {"type": "integer"}}}}});
    let version =
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let definition = json!({"metadata": {"name": "boats.sea.example.com"}, "spec": {"group": "sea.example.com",
        "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"}, "versions": [version]}});
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
    let established = |definition: &CustomResourceDefinition| {
        let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|one| one.type_ == "Established" && one.status == "True")
    };
    until(definitions, "boats.sea.example.com", established).await;
}

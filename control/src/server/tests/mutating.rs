//! MutatingAdmissionPolicy: parts of objects and operations in CEL, parameters, failures, the second look, and what such
//! policies may not say.

use super::*;

const ADMISSION: &str = "/apis/admissionregistration.k8s.io";

fn policy(resources: &str, mutations: Value) -> Value {
    let rule = json!({"apiGroups": ["", "apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resources]});
    json!({"matchConstraints": {"resourceRules": [rule]}, "mutations": mutations, "reinvocationPolicy": "Never"})
}

fn part(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn operations(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

/// Puts a policy in force.
fn enforce(lab: &Lab, name: &str, spec: &Value, binding: &Value) {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    let created = lab.post(&format!("{ADMISSION}/v1/mutatingadmissionpolicies"), &object);
    assert_eq!(created.code, 201, "{created:?}");
    let mut binding = json!({"metadata": {"name": name}, "spec": binding});
    binding["spec"]["policyName"] = name.into();
    let created = lab.post(&format!("{ADMISSION}/v1/mutatingadmissionpolicybindings"), &binding);
    assert_eq!(created.code, 201, "{created:?}");
}

#[test]
fn a_policy_adds_a_part_of_an_object() {
    let lab = lab();
    let sidecar = "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'mesh',
        image: 'mesh:' + namespaceObject.metadata.name, restartPolicy: 'Always'}]}}";
    let mut spec = policy(
        "pods",
        json!([
            part(sidecar),
            part("Object{metadata: Object.metadata{annotations: {'seen': variables.count}}}")
        ]),
    );
    spec["variables"] =
        json!([{"name": "count", "expression": "string(size(object.spec.?initContainers.orValue([])))"}]);
    spec["matchConditions"] = json!([{"name": "once", "expression": "!object.spec.?initContainers.orValue([]).exists(c, c.name == 'mesh')"}]);
    enforce(&lab, "mesh", &spec, &json!({}));
    let mut given = pod("p");
    given["spec"]["initContainers"] = json!([{"name": "first", "image": "i:2"}]);
    let created = lab.post(PODS, &given);
    assert_eq!(created.code, 201, "{created:?}");
    let names: Vec<&Value> =
        created.at("/spec/initContainers").as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["first", "mesh"]);
    assert_eq!(created.text("/spec/initContainers/1/image"), "mesh:default");
    assert_eq!(created.text("/spec/initContainers/1/imagePullPolicy"), "IfNotPresent", "defaults follow");
    assert_eq!(
        created.text("/metadata/annotations/seen"),
        "2",
        "each mutation sees what the one before left"
    );
    assert_eq!(
        lab.post(CONFIG_MAPS, &json!({"metadata": {"name": "m"}})).at("/metadata/annotations"),
        &Value::Null
    );
}

#[test]
fn a_policy_makes_a_json_patch_with_parameters() {
    let lab = lab();
    let source = "[JSONPatch{op: 'test', path: '/metadata/name', value: 'checked'},
        JSONPatch{op: 'add', path: '/metadata/labels', value: {}},
        JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/env'), value: params.data.env}]";
    let mut spec = policy("configmaps", json!([operations(source)]));
    spec["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    spec["matchConditions"] =
        json!([{"name": "not-itself", "expression": "object.metadata.name != 'settings'"}]);
    let reference = json!({"paramRef": {"name": "settings", "parameterNotFoundAction": "Deny"}});
    lab.post(CONFIG_MAPS, &json!({"metadata": {"name": "settings"}, "data": {"env": "test"}}));
    enforce(&lab, "env", &spec, &reference);
    let created = lab.post(CONFIG_MAPS, &json!({"metadata": {"name": "checked"}}));
    assert_eq!(created.at("/metadata/labels"), &json!({"example.com/env": "test"}), "{created:?}");
    let other = lab.post(CONFIG_MAPS, &json!({"metadata": {"name": "other"}}));
    assert_eq!((other.code, other.at("/metadata/labels")), (201, &Value::Null), "its test does not hold");
    let elsewhere = "/api/v1/namespaces/kube-system/configmaps";
    let refused = lab.post(elsewhere, &json!({"metadata": {"name": "checked"}})).refusal();
    let expected = "policy 'env' with binding 'env' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert_eq!(refused, (403, expected.into()));
}

#[test]
fn failures_refuse_or_are_ignored() {
    let lab = lab();
    for (expression, why) in [
        (
            "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c', args: ['x']}]}}",
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args",
        ),
        (
            "Object{spec: Object.spec{bogus: 1}}",
            "error applying patch: failed to convert patch object to typed object: .spec.bogus: field not declared in schema",
        ),
        (
            "Object{spec: Object.status{hostname: 'x'}}",
            r#"type mismatch: unexpected type name "Object.status", expected "Object.spec", which matches field name path from root Object type"#,
        ),
    ] {
        enforce(&lab, "broken", &policy("pods", json!([part(expression)])), &json!({}));
        let refused = lab.post(PODS, &pod("p"));
        let expected = format!("policy 'broken' with binding 'broken' denied request: {why}");
        assert_eq!(refused.refusal(), (403, expected.clone()));
        assert_eq!(
            (refused.text("/reason"), refused.text("/details/causes/0/message")),
            ("Invalid".into(), expected)
        );
        lab.delete(&format!("{ADMISSION}/v1/mutatingadmissionpolicies/broken"), &Value::Null);
        lab.delete(&format!("{ADMISSION}/v1/mutatingadmissionpolicybindings/broken"), &Value::Null);
    }
    let mut spec = policy("pods", json!([part("Object{spec: Object.spec{hostname: object.missing}}")]));
    spec["failurePolicy"] = "Ignore".into();
    enforce(&lab, "lenient", &spec, &json!({}));
    assert_eq!(lab.post(PODS, &pod("p")).code, 201);
}

#[test]
fn a_policy_that_asks_for_it_looks_twice() {
    let lab = lab();
    let seen = "Object{metadata: Object.metadata{annotations: {'seen': string(size(object.data))}}}";
    let mut first = policy("configmaps", json!([part(seen)]));
    first["reinvocationPolicy"] = "IfNeeded".into();
    enforce(&lab, "a-first", &first, &json!({}));
    let more = policy("configmaps", json!([part("Object{data: {'more': 'x'}}")]));
    enforce(
        &lab,
        "b-second",
        &more,
        &json!({"matchResources": {"objectSelector": {"matchLabels": {"add": "yes"}}}}),
    );
    let map =
        |labels: Value| json!({"metadata": {"generateName": "m-", "labels": labels}, "data": {"a": "1"}});
    assert_eq!(lab.post(CONFIG_MAPS, &map(json!({}))).text("/metadata/annotations/seen"), "1");
    let twice = lab.post(CONFIG_MAPS, &map(json!({"add": "yes"})));
    assert_eq!(
        (twice.text("/metadata/annotations/seen"), twice.text("/data/more")),
        ("2".into(), "x".into())
    );
}

#[test]
fn all_versions_show_the_same_policies() {
    let lab = lab();
    enforce(&lab, "p", &policy("pods", json!([part("Object{}")])), &json!({}));
    for version in ["v1alpha1", "v1beta1", "v1"] {
        let found = lab.get(&format!("{ADMISSION}/{version}/mutatingadmissionpolicies/p"));
        assert_eq!(found.text("/apiVersion"), format!("admissionregistration.k8s.io/{version}"));
        assert_eq!(
            (found.text("/spec/failurePolicy"), found.at("/metadata/generation")),
            ("Fail".into(), &json!(1))
        );
        let bindings = lab.get(&format!("{ADMISSION}/{version}/mutatingadmissionpolicybindings"));
        assert_eq!(bindings.names(), ["p"]);
        assert_eq!(lab.get(&format!("/openapi/v3{ADMISSION}/{version}")).code, 200);
    }
}

#[test]
fn what_policies_may_not_say() {
    let lab = lab();
    let post = |kind: &str, spec: Value| {
        lab.post(&format!("{ADMISSION}/v1/{kind}"), &json!({"metadata": {"name": "p"}, "spec": spec}))
            .refusal()
    };
    let (code, said) = post("mutatingadmissionpolicies", json!({}));
    assert_eq!(code, 422);
    for fault in [
        "spec.matchConstraints: Required value",
        "spec.mutations: Required value: mutations must contain at least one item",
        "spec.reinvocationPolicy: Required value",
    ] {
        assert!(said.contains(fault), "{said}");
    }
    let wrong = json!([{"patchType": "JSONPatch", "applyConfiguration": {"expression": "Object{}"}}, {"patchType": "Merge"}, part("Object{")]);
    let mut spec = policy("pods", wrong);
    spec["matchConstraints"]["resourceRules"][0]["operations"] = json!(["DELETE"]);
    let (_, said) = post("mutatingadmissionpolicies", spec);
    for fault in [
        r#"spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE""#,
        "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
        r#"spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch"#,
        r#"spec.mutations[1].patchType: Unsupported value: "Merge": supported values: "ApplyConfiguration", "JSONPatch""#,
        r#"spec.mutations[2].applyConfiguration.expression: Invalid value: "Object{": compilation failed"#,
    ] {
        assert!(said.contains(fault), "{fault}\n{said}");
    }
    let reference = json!({"name": "x", "selector": {}});
    let (_, said) = post("validatingadmissionpolicybindings", json!({"paramRef": reference}));
    for fault in [
        "spec.policyName: Required value",
        "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
        "spec.paramRef.parameterNotFoundAction: Required value",
        "spec.validationActions: Required value: at least one validation action is required",
    ] {
        assert!(said.contains(fault), "{fault}\n{said}");
    }
}

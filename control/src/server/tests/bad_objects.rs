//! Objects that Kubernetes refuses, and its words, as a table.

use super::*;

fn refusals(lab: &Lab, path: &str, name: &str, cases: Vec<(Value, &str)>) {
    for (spec, words) in cases {
        let answer =
            lab.post(&format!("{path}?dryRun=All"), &json!({"metadata": {"name": name}, "spec": spec}));
        let said = answer.body["message"].as_str().unwrap_or_default();
        assert_eq!(answer.code >= 400, !words.is_empty(), "{spec}: {said}");
        assert!(said.contains(words), "{spec}: {said}");
    }
}

#[test]
fn pods() {
    let lab = lab();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    assert_eq!(lab.post(accounts, &json!({"metadata": {"name": "default"}})).code, 201);
    let pod = |extra: Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "i:1"}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        spec
    };
    let container = |extra: Value| {
        let mut spec = pod(json!({}));
        spec["containers"][0].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        spec
    };
    let cases = vec![
        (pod(json!({})), ""),
        (
            container(json!({"restartPolicy": "Always"})),
            "containers[0].restartPolicy: Forbidden: may not be set for non-init",
        ),
        (
            container(
                json!({"securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"add": ["CAP_SYS_ADMIN"]}}}),
            ),
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        ),
        (pod(json!({"os": {}})), "spec.os.name: Required value"),
        (
            pod(json!({"os": {"name": "beos"}})),
            "spec.os: Unsupported value: \"beos\": supported values: \"linux\", \"windows\"",
        ),
        (
            pod(json!({"securityContext": {"seLinuxChangePolicy": "Odd"}})),
            "spec.securityContext.seLinuxChangePolicy: Unsupported value: \"Odd\": supported values: \"MountOption\", \"Recursive\"",
        ),
        (
            pod(json!({"nodeName": "n", "schedulingGates": [{"name": "a"}]})),
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ),
    ];
    refusals(&lab, PODS, "x", cases);
}

#[test]
fn definitions_of_resources() {
    let lab = lab();
    let definition = |names: Value, columns: Value| {
        let mut all = json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"});
        all.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
        let schema = json!({"openAPIV3Schema": {"type": "object"}});
        let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema,
            "additionalPrinterColumns": columns});
        json!({"group": "example.com", "names": all, "scope": "Namespaced", "versions": [version]})
    };
    let named = |names: Value| definition(names, json!([]));
    let column = |column: Value| definition(json!({}), json!([column]));
    let cases = vec![
        (named(json!({})), ""),
        (
            named(json!({"listKind": "Foo"})),
            "spec.names.listKind: Invalid value: \"Foo\": kind and listKind may not be the same",
        ),
        (
            named(json!({"kind": "foo_"})),
            "spec.names.kind: Invalid value: \"foo_\": may have mixed case, but should otherwise match: a DNS-1035 label must",
        ),
        (
            named(json!({"singular": "Foo"})),
            "spec.names.singular: Invalid value: \"Foo\": a DNS-1035 label must",
        ),
        (
            named(json!({"shortNames": ["f", "F"]})),
            "spec.names.shortNames[1]: Invalid value: \"F\": a DNS-1035 label must",
        ),
        (column(json!({"name": "a", "type": "string", "jsonPath": ".a"})), ""),
        (
            column(json!({"name": "a", "type": "odd", "jsonPath": ".a"})),
            "spec.additionalPrinterColumns[0].type: Invalid value: \"odd\": must be one of boolean,date,integer,number,string",
        ),
        (
            column(json!({"name": "a", "type": "string", "format": "odd", "jsonPath": ".a"})),
            "spec.additionalPrinterColumns[0].format: Invalid value: \"odd\": must be one of byte,date,date-time,double",
        ),
        (
            column(json!({"name": "a", "type": "string"})),
            "spec.additionalPrinterColumns[0].JSONPath: Required value",
        ),
    ];
    refusals(&lab, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "foos.example.com", cases);
}

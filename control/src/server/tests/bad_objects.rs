//! Objects that Kubernetes refuses, and its words, as a table.

use super::*;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

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
    let claim = || json!({"persistentVolumeClaim": {"claimName": "c"}});
    let device = |device: Value, source: Value| {
        let mut spec = container(json!({"volumeDevices": [device]}));
        spec["volumes"] = json!([source]);
        spec["volumes"][0]["name"] = "v".into();
        spec
    };
    let both = || {
        let mut spec = device(json!({"name": "v", "devicePath": "/dev/x"}), claim());
        spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/m"}]);
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
            container(json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"},
                {"resourceName": "cpu", "restartPolicy": "NotRequired"}]})),
            "spec.containers[0].resizePolicy[1]: Duplicate value: \"cpu\"",
        ),
        (
            container(json!({"resizePolicy": [{"resourceName": "gpu", "restartPolicy": "Maybe"}]})),
            "spec.containers[0].resizePolicy: Unsupported value: \"gpu\": supported values: \"cpu\", \"memory\", spec.containers[0].resizePolicy: Unsupported value: \"Maybe\": supported values: \"NotRequired\", \"RestartContainer\"",
        ),
        (
            container(json!({"resources": {"claims": [{"name": "gpu"}]}})),
            "spec.containers[0].resources.claims[0]: Not found: \"gpu\": must be one of the names in pod.spec.resourceClaims which is empty",
        ),
        (
            device(json!({"name": "v", "devicePath": "/dev/x"}), json!({"emptyDir": {}})),
            "volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
        ),
        (
            device(json!({"name": "v", "devicePath": "/dev/../x"}), claim()),
            "volumeDevices[0].devicePath: Invalid value: \"/dev/../x\": can not contain backsteps ('..')",
        ),
        (
            device(json!({"name": "w", "devicePath": "/dev/x"}), claim()),
            "volumeDevices[0].name: Not found: \"w\"",
        ),
        (device(json!({"name": "v", "devicePath": "/dev/x"}), claim()), ""),
        (both(), "volumeMounts[0].name: Invalid value: \"v\": must not already exist in volumeDevices"),
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
    refusals(&lab, DEFINITIONS, "foos.example.com", cases);
}

#[test]
fn versions_of_definitions() {
    let lab = lab();
    let definition = |more: Value| {
        let names = json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"});
        let spec =
            json!({"type": "object", "properties": {"n": {"type": "integer"}, "o": {"type": "object"}}});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
        let mut version = json!({"name": "v1", "served": true, "storage": true, "schema": schema});
        version.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"group": "example.com", "names": names, "scope": "Namespaced", "versions": [version]})
    };
    let scale = |paths: Value| definition(json!({"subresources": {"scale": paths}}));
    let field = |path: &str| definition(json!({"selectableFields": [{"jsonPath": path}]}));
    let schema = |schema: Value| definition(json!({"schema": {"openAPIV3Schema": schema}}));
    let preserving = {
        let mut spec = definition(json!({}));
        spec["preserveUnknownFields"] = true.into();
        spec
    };
    let rule = |rule: &str| {
        schema(
            json!({"type": "object", "properties": {"n": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": rule}]}),
        )
    };
    let cases = vec![
        (scale(json!({"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"})), ""),
        (
            scale(json!({"specReplicasPath": ".n", "statusReplicasPath": "status.n"})),
            "spec.subresources.scale.specReplicasPath: Invalid value: \".n\": should be a json path under .spec, spec.subresources.scale.statusReplicasPath: Invalid value: \"status.n\": must be a simple json path starting with .",
        ),
        (
            scale(json!({"specReplicasPath": ".spec.n"})),
            "spec.subresources.scale.statusReplicasPath: Required value",
        ),
        (field(".spec.n"), ""),
        (
            field(".spec.m"),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.m\": is an invalid path: does not refer to a valid field",
        ),
        (field(".spec.o"), "must point to a field of type string, boolean or integer."),
        (
            definition(json!({"deprecationWarning": "old"})),
            "spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions",
        ),
        (definition(json!({"name": "V1"})), "spec.versions[0].name: Invalid value: \"V1\": a DNS-1035 label"),
        (
            preserving,
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true",
        ),
        (
            schema(json!({"type": "object", "properties": {"a": {"$ref": "#/b", "type": "string"}}})),
            "spec.validation.openAPIV3Schema.properties[a].$ref: Forbidden: $ref is not supported",
        ),
        (
            schema(json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "a("}}})),
            "properties[a].pattern: Invalid value: \"a(\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `a(`",
        ),
        (
            schema(json!({"type": "object", "properties": {"kind": {"type": "string", "default": "Foo"}}})),
            "properties[kind].default: Forbidden: must not be set in top-level kind",
        ),
        (
            schema(json!({"type": "object", "additionalProperties": {"type": "string"}})),
            "spec.validation.openAPIV3Schema.additionalProperties: Forbidden: must not be used at the root",
        ),
        (rule("self.n > 0 && self.metadata.name != ''"), ""),
        (rule("self.metadata.labels.size() > 0"), "undefined field 'labels'"),
        (rule("self.n > 0 && duration('1x') > duration('1s')"), "invalid duration argument"),
    ];
    refusals(&lab, DEFINITIONS, "foos.example.com", cases);
    let mut protected = definition(json!({}));
    protected["group"] = "example.k8s.io".into();
    let told = "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
    refusals(&lab, DEFINITIONS, "foos.example.k8s.io", vec![(protected, told)]);
}

//! Custom resources with rules in CEL and selectable fields, as clients meet them.

use super::*;

pub(super) fn definition(conversion: &str, versions: usize) -> Value {
    let rules = json!([{"rule": "self.replicas <= 5", "message": "at most five"}, {"rule": "!has(oldSelf.color) || self.color == oldSelf.color", "message": "the color stays"}]);
    let spec = json!({"type": "object", "x-kubernetes-validations": rules, "properties": {"replicas": {"type": "integer"}, "color": {"type": "string"}}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": {"type": "object",
        "properties": {"ready": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= 0"}]}}}}}});
    let version = |index: usize| {
        json!({"name": format!("v{index}"), "served": true, "storage": index == 1, "schema": schema,
        "subresources": {"status": {}}, "selectableFields": [{"jsonPath": ".spec.color"}]})
    };
    let versions: Vec<Value> = (1..=versions).map(version).collect();
    json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced", "versions": versions,
        "names": {"plural": "things", "singular": "thing", "kind": "Thing"}, "conversion": {"strategy": conversion}}})
}

#[test]
fn rules_and_selectors_of_custom_resources() {
    let lab = lab();
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let refused = lab.post(definitions, &definition("Webhook", 2)).refusal();
    assert!(refused.1.contains("spec.conversion.webhookClientConfig: Required value"), "{refused:?}");
    assert!(refused.1.contains("spec.conversion.conversionReviewVersions: Required value"), "{refused:?}");
    let mut broken = definition("None", 1);
    broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
        json!([{"rule": "self.("}]);
    let refused = lab.post(definitions, &broken).refusal();
    assert!(
        refused.1.contains("x-kubernetes-validations[0].rule") && refused.1.contains("compilation failed")
    );
    let created = lab.post(definitions, &definition("None", 1));
    assert_eq!(created.code, 201, "{created:?}");
    for row in crate::registry::custom::rows(&definition("None", 1)) {
        lab.server.table.insert(row);
    }
    let things = "/apis/example.com/v1/namespaces/default/things";
    let thing = |name: &str, replicas: i64, color: &str| {
        json!({"apiVersion": "example.com/v1", "kind": "Thing",
        "metadata": {"name": name}, "spec": {"replicas": replicas, "color": color}})
    };
    let refused = lab.post(things, &thing("a", 6, "red")).refusal();
    assert_eq!(
        refused,
        (422, r#"Thing.example.com "a" is invalid: spec: Invalid value: "object": at most five"#.into())
    );
    assert_eq!(lab.post(things, &thing("a", 5, "red")).code, 201);
    assert_eq!(lab.post(things, &thing("b", 1, "blue")).code, 201);
    let refused = lab.put(&format!("{things}/a"), &thing("a", 4, "red")).refusal();
    let told = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update";
    assert!(refused.0 == 422 && refused.1.ends_with(told), "{refused:?}");
    let merge = json!({"spec": {"color": "green"}});
    let refused = lab.patch(&format!("{things}/a"), "merge", &merge).refusal();
    assert!(refused.1.ends_with("the color stays"), "{refused:?}");
    let status = json!({"status": {"ready": -1}});
    let refused = lab.patch(&format!("{things}/a/status"), "merge", &status).refusal();
    assert!(refused.1.contains("status.ready"), "{refused:?}");
    assert_eq!(lab.get(&format!("{things}?fieldSelector=spec.color%3Dblue")).names(), ["b"]);
    let refused = lab.get(&format!("{things}?fieldSelector=spec.replicas%3D1")).refusal();
    assert!(refused.1.contains("field label not supported: spec.replicas"), "{refused:?}");
}

const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";
const NEW_THINGS: &str = "/apis/example.com/v2/namespaces/default/things";

/// Serves the definition as its controller would.
fn serve(lab: &Lab, definition: &Value) {
    let rows = crate::registry::custom::rows(definition);
    rows.into_iter().for_each(|row| lab.server.table.insert(row));
}

/// Two versions: v1 has `spec.color`, v2 `spec.paint`.
fn two_versions(stored: &str, conversion: Value) -> Value {
    let version = |name: &str, field: &str| {
        let spec = json!({"type": "object", "properties": {field: {"type": "string"}, "size": {"type": "integer", "default": 1}}});
        json!({"name": name, "served": true, "storage": name == stored,
            "selectableFields": [{"jsonPath": format!(".spec.{field}")}],
            "subresources": {"scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}})
    };
    json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "versions": [version("v1", "color"), version("v2", "paint")], "conversion": conversion,
        "names": {"plural": "things", "singular": "thing", "kind": "Thing"}}})
}

fn thing(version: &str, name: &str, field: &str, color: &str) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Thing", "metadata": {"name": name}, "spec": {field: color}})
}

/// A webhook that renames the field; it refuses to convert what is black.
fn renaming(lab: &Lab) -> Value {
    let client = super::policies::webhook(lab, |request| {
        let wanted = request["desiredAPIVersion"].as_str().unwrap_or_default();
        let (old, new) = if wanted.ends_with("v2") { ("color", "paint") } else { ("paint", "color") };
        let convert = |object: &Value| {
            let mut object = object.clone();
            object["apiVersion"] = wanted.into();
            object["metadata"]["annotations"] = json!({"converted": "yes"});
            let color = object["spec"].as_object_mut().and_then(|spec| spec.remove(old));
            object["spec"][new] = color.unwrap_or_default();
            object
        };
        let objects = request["objects"].as_array().cloned().unwrap_or_default();
        if objects.iter().any(|object| object["spec"][old] == "black") {
            return json!({"result": {"status": "Failed", "message": "black has no name"}});
        }
        json!({"result": {"status": "Success"}, "convertedObjects": objects.iter().map(convert).collect::<Vec<_>>()})
    });
    json!({"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}})
}

#[test]
fn a_webhook_converts_what_is_read_and_what_is_stored() {
    let lab = lab();
    let definition = two_versions("v1", renaming(&lab));
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let created = lab.post(definitions, &definition);
    assert_eq!(created.code, 201, "{created:?}");
    serve(&lab, &definition);
    // Written in the other version, stored in v1, answered as it was written.
    let created = lab.post(NEW_THINGS, &thing("v2", "a", "paint", "red"));
    assert_eq!((created.code, created.text("/spec/paint")), (201, "red".into()), "{created:?}");
    let entry = lab.runtime.block_on(lab.server.store.get("example.com/things/default/a")).unwrap().unwrap();
    assert_eq!(
        (&entry.object()["apiVersion"], &entry.object()["spec"]["color"]),
        (&json!("example.com/v1"), &json!("red"))
    );
    assert_eq!(lab.post(THINGS, &thing("v1", "b", "color", "blue")).code, 201);
    let listed = lab.get(NEW_THINGS);
    assert_eq!(listed.text("/items/1/spec/paint"), "blue");
    assert_eq!(listed.text("/items/1/metadata/annotations/converted"), "yes");
    assert_eq!(lab.get(&format!("{NEW_THINGS}?fieldSelector=spec.paint%3Dblue")).names(), ["b"]);
    // A change in one version is seen in the other.
    let patched = lab.patch(&format!("{NEW_THINGS}/b"), "merge", &json!({"spec": {"paint": "green"}}));
    assert_eq!((patched.code, patched.text("/spec/paint")), (200, "green".into()), "{patched:?}");
    assert_eq!(lab.get(&format!("{THINGS}/b")).text("/spec/color"), "green");
    let watched = lab.get(&format!("{NEW_THINGS}?watch=1&resourceVersion=0&timeoutSeconds=1"));
    let lines = watched.body.as_str().unwrap();
    assert!(lines.contains(r#""paint":"green""#) && !lines.contains(r#""color":"#), "{lines}");
    // What cannot be converted is an error where it is asked for, and nowhere else.
    assert_eq!(lab.post(THINGS, &thing("v1", "c", "color", "black")).code, 201);
    let refused = lab.get(&format!("{NEW_THINGS}/c")).refusal();
    let expected = "Internal error occurred: conversion webhook for example.com/v1, Kind=Thing failed: black has no name";
    assert_eq!(refused, (500, expected.into()));
    assert_eq!(lab.get(THINGS).names(), ["a", "b", "c"]);
}

#[test]
fn objects_of_the_version_stored_before_are_served_in_every_version() {
    let lab = lab();
    let none = || json!({"strategy": "None"});
    serve(&lab, &two_versions("v1", none()));
    let created = lab.post(THINGS, &thing("v1", "old", "color", "red"));
    assert_eq!(created.code, 201, "{created:?}");
    serve(&lab, &two_versions("v2", none()));
    assert_eq!(lab.get(&format!("{NEW_THINGS}/old")).text("/apiVersion"), "example.com/v2");
    assert_eq!(lab.get(NEW_THINGS).text("/items/0/apiVersion"), "example.com/v2");
    assert_eq!(lab.get(&format!("{THINGS}/old")).text("/apiVersion"), "example.com/v1");
    // A default that is newer than the object.
    let mut definition = two_versions("v2", none());
    definition["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["speed"] =
        json!({"type": "integer", "default": 7});
    serve(&lab, &definition);
    assert_eq!(lab.get(&format!("{NEW_THINGS}/old")).at("/spec/speed"), 7);
    let scaled = lab.patch(&format!("{NEW_THINGS}/old/scale"), "merge", &json!({"spec": {"replicas": 4}}));
    assert_eq!((scaled.code, scaled.at("/spec/replicas")), (200, &json!(4)), "{scaled:?}");
    assert_eq!(lab.get(&format!("{NEW_THINGS}/old")).at("/spec/size"), 4);
}

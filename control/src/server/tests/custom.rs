//! Custom resources with rules in CEL and selectable fields, as clients meet them.

use super::*;

fn definition(conversion: &str, versions: usize) -> Value {
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
    assert!(refused.1.contains(r#"spec.conversion.strategy: Unsupported value: "Webhook""#), "{refused:?}");
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

#[test]
fn health_and_metrics_tell() {
    let lab = lab();
    let text = |path: &str| lab.get(path).body.as_str().unwrap_or_default().to_owned();
    assert_eq!((text("/livez/ping"), text("/healthz")), ("ok".into(), "ok".into()));
    assert!(
        text("/readyz?verbose").starts_with("[+]ping ok\n")
            && text("/readyz?verbose").ends_with("readyz check passed\n")
    );
    assert_eq!(lab.get("/livez/nothing").code, 404);
    lab.get(CONFIG_MAPS);
    let metrics = text("/metrics");
    let line = r#"apiserver_request_total{code="200",group="",resource="configmaps",subresource="",verb="LIST",version="v1"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    assert!(metrics.contains("process_resident_memory_bytes"));
}

//! Deletion: at once, by grace, by finalizers, whole collections, evictions, namespaces.

use super::*;

#[test]
fn a_plain_object_goes_at_once() {
    let lab = lab();
    lab.config_map("a", "1");
    let uid = lab.get(&format!("{CONFIG_MAPS}/a")).text("/metadata/uid");
    let refused = lab.delete(&format!("{CONFIG_MAPS}/a"), &json!({"preconditions": {"uid": "other"}}));
    assert_eq!(refused.code, 409);
    assert!(
        refused.text("/message").contains("the UID in the precondition (other) does not match"),
        "{refused:?}"
    );
    let gone = lab.delete(&format!("{CONFIG_MAPS}/a"), &json!({"preconditions": {"uid": uid}}));
    assert_eq!(gone.code, 200);
    assert_eq!(gone.at("/details"), &json!({"name": "a", "kind": "configmaps", "uid": uid}));
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}/a")).code, 404);
    assert_eq!(lab.delete(&format!("{CONFIG_MAPS}/a"), &Value::Null).code, 404);
}

#[test]
fn a_pod_on_a_node_has_its_grace_and_one_without_has_none() {
    let lab = lab();
    lab.post(PODS, &pod("waiting"));
    assert_eq!(lab.delete(&format!("{PODS}/waiting"), &Value::Null).code, 200);
    assert_eq!(lab.get(&format!("{PODS}/waiting")).code, 404);
    let mut running = pod("running");
    running["spec"]["nodeName"] = "n".into();
    lab.post(PODS, &running);
    let path = format!("{PODS}/running");
    let marked = lab.delete(&path, &Value::Null);
    assert_eq!(
        (marked.code, marked.at("/metadata/deletionGracePeriodSeconds")),
        (200, &json!(30)),
        "{marked:?}"
    );
    assert!(!lab.get(&path).text("/metadata/deletionTimestamp").is_empty());
    let status = lab.patch(&format!("{path}/status"), "merge", &json!({"status": {"phase": "Succeeded"}}));
    assert_eq!((status.code, lab.get(&path).code), (200, 200), "the kubelet goes on reporting");
    assert_eq!(lab.delete(&path, &json!({"gracePeriodSeconds": 0})).code, 200);
    assert_eq!(lab.get(&path).code, 404);
}

#[test]
fn finalizers_hold_an_object_until_the_last_is_gone() {
    let lab = lab();
    lab.post(CONFIG_MAPS, &json!({"metadata": {"name": "a", "finalizers": ["x.io/a", "x.io/b"]}}));
    let path = format!("{CONFIG_MAPS}/a");
    let marked = lab.delete(&path, &Value::Null);
    assert!(!marked.text("/metadata/deletionTimestamp").is_empty());
    let added =
        lab.patch(&path, "merge", &json!({"metadata": {"finalizers": ["x.io/a", "x.io/b", "x.io/c"]}}));
    assert_eq!(added.code, 422);
    assert_eq!(lab.patch(&path, "merge", &json!({"metadata": {"finalizers": ["x.io/b"]}})).code, 200);
    assert_eq!(lab.get(&path).at("/metadata/finalizers"), &json!(["x.io/b"]));
    assert_eq!(lab.patch(&path, "merge", &json!({"metadata": {"finalizers": null}})).code, 200);
    assert_eq!(lab.get(&path).code, 404);
}

#[test]
fn propagation_is_left_to_the_garbage_collector_as_a_finalizer() {
    let lab = lab();
    for (name, policy, finalizer) in [("a", "Foreground", "foregroundDeletion"), ("b", "Orphan", "orphan")] {
        lab.config_map(name, "1");
        lab.delete(&format!("{CONFIG_MAPS}/{name}"), &json!({"propagationPolicy": policy}));
        assert_eq!(lab.get(&format!("{CONFIG_MAPS}/{name}")).at("/metadata/finalizers"), &json!([finalizer]));
    }
    lab.config_map("c", "1");
    assert_eq!(lab.delete(&format!("{CONFIG_MAPS}/c"), &json!({"propagationPolicy": "Sideways"})).code, 422);
    assert_eq!(lab.delete(&format!("{CONFIG_MAPS}/c?propagationPolicy=Background"), &Value::Null).code, 200);
}

#[test]
fn a_collection_is_deleted_as_it_would_be_listed() {
    let lab = lab();
    for (name, value) in [("a", "1"), ("b", "2"), ("c", "2")] {
        lab.config_map(name, value);
    }
    let gone = lab.delete(&format!("{CONFIG_MAPS}?labelSelector=value%3D2"), &Value::Null);
    assert_eq!(gone.names(), ["b", "c"]);
    assert_eq!(lab.get(CONFIG_MAPS).names(), ["a"]);
}

#[test]
fn a_namespace_dies_in_two_steps() {
    let lab = lab();
    lab.post("/api/v1/namespaces", &json!({"metadata": {"name": "victim"}}));
    let marked = lab.delete("/api/v1/namespaces/victim", &Value::Null);
    assert_eq!(marked.text("/status/phase"), "Terminating", "{marked:?}");
    let refused = lab.post("/api/v1/namespaces/victim/configmaps", &json!({"metadata": {"name": "y"}}));
    let expected = r#"configmaps "y" is forbidden: unable to create new content in namespace victim because it is being terminated"#;
    assert_eq!(refused.refusal(), (403, expected.into()));
    assert_eq!(refused.at("/details/causes/0/reason"), "NamespaceTerminating");
    let finalized = lab.put(
        "/api/v1/namespaces/victim/finalize",
        &json!({"metadata": {"name": "victim"}, "spec": {"finalizers": []}}),
    );
    assert_eq!(finalized.code, 200, "{finalized:?}");
    assert_eq!(lab.get("/api/v1/namespaces/victim").code, 404);
}

#[test]
fn evictions_respect_disruption_budgets() {
    let lab = lab();
    let mut running = pod("p");
    running["spec"]["nodeName"] = "n".into();
    lab.post(PODS, &running);
    lab.patch(&format!("{PODS}/p/status"), "merge", &json!({"status": {"phase": "Running"}}));
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}}});
    if lab.post(budgets, &budget).code == 404 {
        // Without the kind there is no budget to respect.
        return;
    }
    let eviction = json!({"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}});
    let refused = lab.post(&format!("{PODS}/p/eviction"), &eviction);
    assert_eq!(
        refused.refusal(),
        (429, "Cannot evict pod as it would violate the pod's disruption budget.".into())
    );
    lab.delete(&format!("{budgets}/b"), &Value::Null);
    assert_eq!(lab.post(&format!("{PODS}/p/eviction"), &eviction).code, 201);
    assert_eq!(lab.get(&format!("{PODS}/p")).code, 404);
}

#[test]
fn pods_of_jobs_and_replication_controllers_stay_unless_the_client_says_otherwise() {
    let lab = lab();
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let job = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    for (path, spec, warns) in [
        ("/apis/batch/v1/namespaces/default/jobs", json!({"template": job}), true),
        ("/api/v1/namespaces/default/replicationcontrollers", json!({"template": template}), false),
    ] {
        for (policy, finalizers) in
            [(json!({}), Some(json!(["orphan"]))), (json!({"propagationPolicy": "Background"}), None)]
        {
            assert_eq!(lab.post(path, &json!({"metadata": {"name": "x"}, "spec": spec})).code, 201);
            let gone = lab.delete(&format!("{path}/x"), &policy);
            assert_eq!(gone.code, 200, "{gone:?}");
            assert_eq!(gone.headers.contains_key(http::header::WARNING), warns && finalizers.is_some());
            let left = lab.get(&format!("{path}/x"));
            assert_eq!(left.body.pointer("/metadata/finalizers"), finalizers.as_ref());
            if finalizers.is_some() {
                let freed =
                    lab.patch(&format!("{path}/x"), "merge", &json!({"metadata": {"finalizers": null}}));
                assert_eq!(freed.code, 200, "{freed:?}");
            }
        }
    }
}

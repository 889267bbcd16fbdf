//! Creating, reading and changing objects: what comes back, and what is refused in which words.

use super::*;

#[test]
fn an_object_gets_its_identity_on_create() {
    let lab = lab();
    let created = lab.post(CONFIG_MAPS, &json!({"metadata": {"generateName": "x-"}, "data": {"a": "1"}}));
    assert_eq!(created.code, 201);
    let name = created.text("/metadata/name");
    assert!(name.starts_with("x-") && name.len() == 7, "{name}");
    for field in ["uid", "creationTimestamp", "resourceVersion", "namespace"] {
        assert!(!created.text(&format!("/metadata/{field}")).is_empty(), "{field}");
    }
    assert_eq!((created.text("/kind"), created.text("/apiVersion")), ("ConfigMap".into(), "v1".into()));
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}/{name}")).body, created.body);
}

#[test]
fn refusals_have_the_words_that_clients_look_for() {
    let lab = lab();
    lab.config_map("a", "1");
    let named = |name: &str| json!({"metadata": {"name": name}});
    let cases = [
        (lab.get(&format!("{CONFIG_MAPS}/nope")), 404, r#"configmaps "nope" not found"#),
        (
            lab.get("/apis/apps/v1/namespaces/default/nope"),
            404,
            "the server could not find the requested resource",
        ),
        (lab.post(CONFIG_MAPS, &named("a")), 409, r#"configmaps "a" already exists"#),
        (lab.post("/api/v1/namespaces/none/configmaps", &named("a")), 404, r#"namespaces "none" not found"#),
        (
            lab.post(CONFIG_MAPS, &json!({"metadata": {}})),
            422,
            r#"ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required"#,
        ),
        (
            lab.post(CONFIG_MAPS, &json!({"metadata": {"name": "b", "namespace": "other"}})),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            lab.put(&format!("{CONFIG_MAPS}/a"), &named("b")),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            lab.put(&format!("{CONFIG_MAPS}/a"), &json!({"metadata": {"name": "a", "resourceVersion": "1"}})),
            409,
            r#"Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#,
        ),
        (
            lab.delete("/api/v1/namespaces/default", &Value::Null),
            403,
            r#"namespaces "default" is forbidden: this namespace may not be deleted"#,
        ),
    ];
    for (response, code, message) in cases {
        assert_eq!(response.refusal(), (code, message.to_owned()));
    }
}

#[test]
fn bodies_that_are_no_objects_are_refused() {
    let lab = lab();
    let send = |content_type: &str, body: &[u8]| {
        lab.read(lab.send(User::server(), "POST", CONFIG_MAPS, content_type, body.to_vec())).code
    };
    let deep = "[".repeat(100_000);
    for (content_type, body, code) in [
        ("application/json", &b"{"[..], 400),
        ("application/json", b"[]", 400),
        ("application/json", b"", 400),
        ("application/json", deep.as_bytes(), 400),
        ("application/yaml", b"a: [", 400),
        ("application/vnd.kubernetes.protobuf", b"k8s\0\xff\xff\xff", 400),
        ("text/plain", b"{}", 415),
        ("application/json", br#"{"kind":"Pod","apiVersion":"v1"}"#, 400),
        ("application/json", br#"{"kind":"ConfigMap","apiVersion":"v2"}"#, 400),
        ("application/json", br#"{"metadata":{"name":"a"},"data":{"a":1}}"#, 400),
        ("application/json", &vec![b' '; 4 << 20], 413),
        ("application/yaml", b"metadata: {name: yaml}\ndata: {a: b}", 201),
    ] {
        assert_eq!(send(content_type, body), code, "{content_type} {:?}", &body[..body.len().min(40)]);
    }
}

#[test]
fn fields_with_several_values_in_yaml_are_judged_as_the_client_asks() {
    let lab = lab();
    let body = |name: &str| {
        let start = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        format!("{start}data:\n  a: x\n  a: z\n").into_bytes()
    };
    let warning = r#"299 - "line 6: key \"a\" already set in map""#;
    let apply = |name: &str, more: &str| {
        let path = format!("{CONFIG_MAPS}/{name}?fieldManager=m{more}");
        lab.read(lab.send(User::server(), "PATCH", &path, "application/apply-patch+yaml", body(name)))
    };
    let create = |name: &str, more: &str| {
        let path = format!("{CONFIG_MAPS}?{more}");
        lab.read(lab.send(User::server(), "POST", &path, "application/yaml", body(name)))
    };
    for made in [apply("a", ""), create("b", "")] {
        assert_eq!((made.code, made.at("/data/a")), (201, &json!("z")), "{made:?}");
        assert_eq!(made.headers[header::WARNING].to_str().unwrap(), warning);
    }
    let said = "yaml: unmarshal errors:\n  line 6: key \"a\" already set in map";
    for (refused, words) in [
        (
            apply("c", "&fieldValidation=Strict"),
            "error strict decoding YAML: error converting YAML to JSON: ",
        ),
        (create("c", "fieldValidation=Strict"), "strict decoding error: "),
    ] {
        assert_eq!(refused.code, 400);
        assert!(refused.text("/message").ends_with(&format!("{words}{said}")), "{refused:?}");
    }
    for silent in [apply("d", "&fieldValidation=Ignore"), create("e", "fieldValidation=Ignore")] {
        assert_eq!((silent.code, silent.headers.get(header::WARNING)), (201, None));
    }
}

#[test]
fn unknown_fields_are_judged_as_the_client_asks() {
    let lab = lab();
    let object = |name: &str| json!({"metadata": {"name": name}, "foo": 1});
    let strict = lab.post(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), &object("a"));
    assert_eq!(strict.code, 400);
    assert!(strict.text("/message").contains(r#"strict decoding error: unknown field "foo""#), "{strict:?}");
    let warned = lab.post(CONFIG_MAPS, &object("b"));
    assert_eq!(
        (warned.code, warned.headers[header::WARNING].to_str().unwrap()),
        (201, r#"299 - "unknown field \"foo\"""#)
    );
    assert_eq!(warned.at("/foo"), &Value::Null);
    assert!(
        lab.post(&format!("{CONFIG_MAPS}?fieldValidation=Ignore"), &object("c"))
            .headers
            .get(header::WARNING)
            .is_none()
    );
}

#[test]
fn every_patch_type_changes_the_object() {
    let lab = lab();
    assert_eq!(lab.post(PODS, &pod("p")).code, 201);
    let path = format!("{PODS}/p");
    let strategic =
        json!({"spec": {"containers": [{"name": "c", "image": "i:2"}]}, "metadata": {"labels": {"x": "y"}}});
    assert_eq!(lab.patch(&path, "strategic-merge", &strategic).at("/spec/containers/0/image"), "i:2");
    assert_eq!(
        lab.patch(&path, "merge", &json!({"metadata": {"labels": {"x": null}}})).at("/metadata/labels"),
        &json!({"app": "p"})
    );
    let operations = json!([{"op": "replace", "path": "/metadata/labels/app", "value": "q"}]);
    assert_eq!(lab.patch(&path, "json", &operations).at("/metadata/labels/app"), "q");
    assert_eq!(lab.patch(&path, "json", &json!([{"op": "remove", "path": "/none"}])).code, 422);
    assert_eq!(lab.patch(&path, "json", &json!({"a": 1})).code, 400);
    assert_eq!(lab.patch(&path, "unknown", &json!({})).code, 415);
    assert_eq!(lab.patch(&path, "merge", &json!({"metadata": {"name": "other"}})).code, 400);
    assert_eq!(lab.patch(&path, "merge", &json!({"metadata": {"resourceVersion": "1"}})).code, 409);
    assert_eq!(lab.patch(&path, "merge", &json!({"metadata": {"uid": "other"}})).code, 422);
}

#[test]
fn a_write_that_changes_nothing_makes_no_revision() {
    let lab = lab();
    let revision = lab.config_map("a", "1");
    let object = lab.get(&format!("{CONFIG_MAPS}/a")).body;
    assert_eq!(lab.put(&format!("{CONFIG_MAPS}/a"), &object).text("/metadata/resourceVersion"), revision);
    let patched = lab.patch(&format!("{CONFIG_MAPS}/a"), "merge", &json!({"data": {"a": "1"}}));
    assert_eq!(patched.text("/metadata/resourceVersion"), revision);
}

#[test]
fn a_dry_run_answers_and_leaves_nothing() {
    let lab = lab();
    let before = lab.server.store.revision();
    let dry = lab.post(&format!("{CONFIG_MAPS}?dryRun=All"), &json!({"metadata": {"name": "a"}}));
    assert_eq!((dry.code, dry.text("/metadata/name")), (201, "a".into()));
    lab.config_map("b", "1");
    let patched = lab.patch(&format!("{CONFIG_MAPS}/b?dryRun=All"), "merge", &json!({"data": {"a": "2"}}));
    assert_eq!(patched.at("/data/a"), "2");
    assert_eq!(lab.delete(&format!("{CONFIG_MAPS}/b?dryRun=All"), &Value::Null).code, 200);
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}/b")).at("/data/a"), "1");
    assert_eq!(lab.server.store.revision(), before + 1);
    assert_eq!(
        lab.post(&format!("{CONFIG_MAPS}?dryRun=Some"), &json!({"metadata": {"name": "a"}})).code,
        422
    );
}

#[test]
fn status_and_spec_are_written_apart() {
    let lab = lab();
    lab.post(PODS, &pod("p"));
    let path = format!("{PODS}/p");
    let status = json!({"status": {"phase": "Running"}, "metadata": {"labels": {"app": "changed"}}});
    let patched = lab.patch(&format!("{path}/status"), "merge", &status);
    assert_eq!(patched.at("/status/phase"), "Running");
    let plain = lab.patch(&path, "merge", &json!({"status": {"phase": "Failed"}}));
    assert_eq!((plain.code, plain.at("/status/phase").as_str()), (200, Some("Running")));
    assert_eq!(plain.at("/spec/containers/0/image"), "i:1");
}

#[test]
fn a_pod_is_bound_through_its_subresource() {
    let lab = lab();
    lab.post(PODS, &pod("p"));
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let bound = lab.post(&format!("{PODS}/p/binding"), &binding);
    assert_eq!((bound.code, bound.text("/status")), (201, "Success".into()), "{bound:?}");
    assert_eq!(lab.get(&format!("{PODS}/p")).at("/spec/nodeName"), "n");
    assert_eq!(lab.post(&format!("{PODS}/p/binding"), &binding).code, 409);
    assert_eq!(lab.get(&format!("{PODS}?fieldSelector=spec.nodeName%3Dn")).names(), ["p"]);
}

#[test]
fn replicas_are_scaled_through_their_subresource() {
    let lab = lab();
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let created = lab.post(path, &deployment);
    assert_eq!(created.code, 201, "{created:?}");
    let scaled = lab.patch(&format!("{path}/web/scale"), "merge", &json!({"spec": {"replicas": 3}}));
    assert_eq!((scaled.text("/kind"), scaled.at("/spec/replicas")), ("Scale".into(), &json!(3)));
    assert_eq!(scaled.text("/status/selector"), "a=b");
    assert_eq!(lab.get(&format!("{path}/web")).at("/spec/replicas"), 3);
    assert_eq!(lab.get(&format!("{path}/web")).at("/metadata/generation"), 2);
    assert_eq!(
        lab.patch(&format!("{path}/web/scale"), "merge", &json!({"spec": {"replicas": -1}})).code,
        422
    );
}

#[test]
fn concurrent_writers_lose_nothing() {
    let lab = lab();
    lab.config_map("a", "1");
    let patch = |index: usize| {
        let request =
            Request::patch(format!("{CONFIG_MAPS}/a")).header("content-type", "application/merge-patch+json");
        let body = json!({"data": {format!("k{index}"): "v"}}).to_string();
        let mut request = request.body(Full::new(Bytes::from(body))).unwrap();
        request.extensions_mut().insert(TransportUser(User::server()));
        lab.server.clone().handle(request)
    };
    lab.runtime.block_on(async {
        let answers = futures_util::future::join_all((0..20).map(patch)).await;
        assert!(answers.iter().all(|answer| answer.status() == 200));
    });
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}/a")).at("/data").as_object().unwrap().len(), 21);
}

#[test]
fn only_health_and_version_are_open_to_all() {
    let lab = lab();
    let anonymous = |path: &str| lab.read(lab.send(User::anonymous(), "GET", path, "", Vec::new()));
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        assert_eq!(anonymous(path).code, 200, "{path}");
    }
    let (code, message) = anonymous("/api").refusal();
    assert_eq!((code, &*message), (403, r#"forbidden: User "system:anonymous" cannot get path "/api""#));
    let (code, message) = anonymous("/api/v1/nodes").refusal();
    let expected = r#"nodes is forbidden: User "system:anonymous" cannot list resource "nodes" in API group "" at the cluster scope"#;
    assert_eq!((code, &*message), (403, expected));
}

#[test]
fn services_get_addresses_that_nobody_else_has() {
    let lab = lab();
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, address: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": [{"port": 80}], "type": "NodePort"}});
    let first = lab.post(path, &service("a", ""));
    assert_eq!(first.code, 201, "{first:?}");
    let address = first.text("/spec/clusterIP");
    assert!(address.starts_with("10.96."), "{address}");
    let taken = lab.post(path, &service("b", &address));
    assert_eq!(taken.code, 422);
    assert!(taken.text("/message").contains("provided IP is already allocated"), "{taken:?}");
    let update = json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}], "type": "NodePort", "selector": {"x": "y"}}});
    let updated = lab.put(&format!("{path}/a"), &update);
    assert_eq!(updated.text("/spec/clusterIP"), address);
    assert_eq!(updated.at("/spec/ports/0/nodePort"), first.at("/spec/ports/0/nodePort"));
    lab.delete(&format!("{path}/a"), &Value::Null);
    assert_eq!(lab.post(path, &service("b", &address)).code, 201);
}

/// The port on which nodes answer a load balancer comes with the policy, stays, and goes with it.
#[test]
fn a_balanced_service_has_a_health_port_as_long_as_it_needs_one() {
    let lab = lab();
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, kind: &str, policy: Value| json!({"metadata": {"name": name}, "spec": {"type": kind, "externalTrafficPolicy": policy, "ports": [{"port": 80}]}});
    let first = lab.post(path, &service("a", "LoadBalancer", json!("Local")));
    let port = first.at("/spec/healthCheckNodePort").clone();
    assert!((30_000..32_768).contains(&port.as_u64().unwrap()), "{first:?}");
    let mut wants = service("b", "LoadBalancer", json!("Local"));
    wants["spec"]["healthCheckNodePort"] = port.clone();
    let taken = lab.post(path, &wants);
    assert!(taken.text("/message").contains("provided port is already allocated"), "{taken:?}");
    let same = lab.put(&format!("{path}/a"), &service("a", "LoadBalancer", json!("Local")));
    assert_eq!(same.at("/spec/healthCheckNodePort"), &port);
    let without = lab.put(&format!("{path}/a"), &service("a", "LoadBalancer", json!("Cluster")));
    assert_eq!((without.code, without.at("/spec/healthCheckNodePort")), (200, &Value::Null), "{without:?}");
    assert_eq!(lab.post(path, &wants).code, 201, "it is free again");
    let plain = lab.put(&format!("{path}/b"), &service("b", "ClusterIP", Value::Null));
    assert_eq!((plain.code, plain.at("/spec/healthCheckNodePort")), (200, &Value::Null), "{plain:?}");
}

#[test]
fn apply_owns_a_status_only_through_its_path() {
    let lab = lab();
    let pods = "/api/v1/namespaces/default/pods/a";
    let apply = |below: &str, manager: &str, part: &str, value: Value| {
        let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, part: value});
        let path = format!("{pods}{below}?fieldManager={manager}");
        lab.call("PATCH", &path, "application/apply-patch+yaml", &object)
    };
    let spec = json!({"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": -1});
    let created = apply("", "one", "spec", spec);
    assert_eq!(created.code, 201, "{created:?}");
    let status = json!({"conditions": [{"type": "Mine", "status": "True"}]});
    assert_eq!(apply("", "two", "status", status.clone()).at("/status/conditions"), &Value::Null);
    let told = apply("/status", "two", "status", status);
    assert_eq!((told.code, told.text("/status/conditions/0/type")), (200, "Mine".to_owned()), "{told:?}");
    let patch = json!({"spec": {"terminationGracePeriodSeconds": -1}});
    let patched = lab.patch(pods, "merge", &patch);
    assert_eq!(patched.at("/spec/terminationGracePeriodSeconds"), &json!(1), "{patched:?}");
}

#[test]
fn apply_creates_merges_owns_and_conflicts() {
    let lab = lab();
    let apply = |manager: &str, query: &str, data: Value| {
        let object =
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": data});
        let path = format!("{CONFIG_MAPS}/a?fieldManager={manager}{query}");
        lab.call("PATCH", &path, "application/apply-patch+yaml", &object)
    };
    let created = apply("one", "", json!({"x": "1", "y": "1"}));
    assert_eq!(created.code, 201, "{created:?}");
    assert_eq!(created.at("/metadata/managedFields/0/fieldsV1"), &json!({"f:data": {"f:x": {}, "f:y": {}}}));
    let again = apply("one", "", json!({"x": "1", "y": "1"}));
    assert_eq!(
        (again.code, again.text("/metadata/resourceVersion")),
        (200, created.text("/metadata/resourceVersion"))
    );
    let conflict = apply("two", "", json!({"x": "2"}));
    assert_eq!(
        conflict.refusal(),
        (409, r#"Apply failed with 1 conflict: conflict with "one": .data.x"#.into())
    );
    assert_eq!(apply("two", "&force=true", json!({"x": "2"})).at("/data"), &json!({"x": "2", "y": "1"}));
    assert_eq!(apply("one", "", json!({})).at("/data"), &json!({"x": "2"}));
    lab.patch(&format!("{CONFIG_MAPS}/a?fieldManager=three"), "merge", &json!({"data": {"z": "3"}}));
    let owners = lab.get(&format!("{CONFIG_MAPS}/a"));
    let owners: Vec<_> = owners
        .at("/metadata/managedFields")
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["manager"].clone())
        .collect();
    assert_eq!(owners, ["two", "one", "three"], "an empty map is something to own");
    let nameless = json!({"kind": "ConfigMap", "apiVersion": "v1"});
    assert_eq!(
        lab.call("PATCH", &format!("{CONFIG_MAPS}/a"), "application/apply-patch+yaml", &nameless).code,
        422
    );
}

#[test]
fn an_answer_is_one_line() {
    let lab = lab();
    for (method, path) in [
        ("GET", "/api/v1/namespaces/default"),
        ("GET", "/api/v1/namespaces/none"),
        ("GET", "/api/v1/namespaces"),
        ("GET", "/api"),
        ("POST", "/api/v1/namespaces"),
        ("GET", "/nothing"),
    ] {
        let (_, body) = lab.send(User::server(), method, path, "application/json", Vec::new()).into_parts();
        let bytes = lab.runtime.block_on(body.collect()).unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.find('\n'), Some(text.len() - 1), "{path}: {text:?}");
    }
}

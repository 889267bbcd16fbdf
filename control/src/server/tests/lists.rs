//! Lists: selectors, pages, revisions, shapes.

use super::*;

#[test]
fn pages_show_one_revision() {
    let lab = lab();
    for name in ["a", "b", "c", "d", "e"] {
        lab.config_map(name, "1");
    }
    let first = lab.get(&format!("{CONFIG_MAPS}?limit=2"));
    assert_eq!(
        (first.names(), first.at("/metadata/remainingItemCount")),
        (vec!["a".into(), "b".into()], &json!(3))
    );
    lab.delete(&format!("{CONFIG_MAPS}/c"), &Value::Null);
    lab.config_map("bb", "1");
    let token = first.text("/metadata/continue");
    let second = lab.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"));
    assert_eq!(second.names(), ["c", "d"]);
    assert_eq!(second.text("/metadata/resourceVersion"), first.text("/metadata/resourceVersion"));
    let token = second.text("/metadata/continue");
    let last = lab.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"));
    assert_eq!((last.names(), last.at("/metadata/continue")), (vec!["e".into()], &Value::Null));
    lab.runtime.block_on(lab.server.store.compact(lab.server.store.revision())).unwrap();
    let expired = lab.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"));
    assert_eq!((expired.code, expired.text("/reason")), (410, "Expired".into()));
    let inconsistent = expired.text("/metadata/continue");
    lab.config_map("f", "1");
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}?continue={inconsistent}")).names(), ["e", "f"]);
    let words = "invalid continue token: continue key is not valid: illegal base64 data at input byte ";
    for (token, at) in [("%21", 0), ("bogus", 4), ("ab.d", 2)] {
        let refused = lab.get(&format!("{CONFIG_MAPS}?continue={token}")).refusal();
        assert_eq!(refused, (400, format!("{words}{at}")), "{token}");
    }
}

#[test]
fn selectors_pick_objects() {
    let lab = lab();
    for (name, value) in [("a", "1"), ("b", "2"), ("c", "2")] {
        lab.config_map(name, value);
    }
    let cases: [(&str, &[&str]); 5] = [
        ("labelSelector=value%3D2", &["b", "c"]),
        ("labelSelector=value+notin+%282%29", &["a"]),
        ("fieldSelector=metadata.name%3Db", &["b"]),
        ("fieldSelector=metadata.name%21%3Db,metadata.namespace%3Ddefault", &["a", "c"]),
        ("labelSelector=value%3D2&limit=1", &["b"]),
    ];
    for (query, names) in cases {
        assert_eq!(lab.get(&format!("{CONFIG_MAPS}?{query}")).names(), names, "{query}");
    }
    let refused = lab.get(&format!("{CONFIG_MAPS}?fieldSelector=spec.foo%3Db")).refusal();
    assert_eq!(
        refused,
        (
            400,
            r#""spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace""#.into()
        )
    );
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}?labelSelector=a%3D%3D%3D")).code, 400);
}

#[test]
fn a_list_is_of_the_revision_that_is_asked_for() {
    let lab = lab();
    let first = lab.config_map("a", "1");
    lab.config_map("b", "1");
    let exact = lab.get(&format!("{CONFIG_MAPS}?resourceVersion={first}&resourceVersionMatch=Exact"));
    assert_eq!(exact.names(), ["a"]);
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}?resourceVersion={first}")).names(), ["a", "b"]);
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}?resourceVersion=0")).names(), ["a", "b"]);
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}?resourceVersion=x")).code, 400);
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}?resourceVersionMatch=Exact")).code, 422);
    lab.runtime.block_on(lab.server.store.compact(lab.server.store.revision())).unwrap();
    let gone = lab.get(&format!("{CONFIG_MAPS}?resourceVersion={first}&resourceVersionMatch=Exact"));
    assert_eq!(gone.refusal(), (410, "The resourceVersion for the provided list is too old.".into()));
    let future = lab.get(&format!("{CONFIG_MAPS}?resourceVersion=99999")).refusal();
    assert_eq!(future.0, 504);
    assert!(future.1.starts_with("Timeout: Too large resource version: 99999, current: "), "{future:?}");
}

#[test]
fn a_list_spans_namespaces_or_shows_one() {
    let lab = lab();
    lab.post("/api/v1/namespaces", &json!({"metadata": {"name": "other"}}));
    lab.config_map("a", "1");
    lab.post("/api/v1/namespaces/other/configmaps", &json!({"metadata": {"name": "b"}}));
    // The one between them is how the cluster shows itself to whoever joins.
    assert_eq!(
        lab.get("/api/v1/configmaps").names(),
        ["a", "cluster-info", "extension-apiserver-authentication", "b"]
    );
    assert_eq!(lab.get("/api/v1/namespaces/other/configmaps").names(), ["b"]);
    assert_eq!(lab.get("/api/v1/namespaces/othe/configmaps").names(), Vec::<String>::new());
    assert_eq!(lab.get("/api/v1/namespaces/other/namespaces").code, 404);
}

#[test]
fn long_lists_come_whole_though_in_pieces() {
    let lab = lab();
    let value = "x".repeat(30_000);
    for index in 0..10 {
        let object = json!({"metadata": {"name": format!("c{index}")}, "data": {"a": value}});
        assert_eq!(lab.post(CONFIG_MAPS, &object).code, 201);
    }
    let list = lab.get(CONFIG_MAPS);
    assert_eq!((list.names().len(), list.text("/kind")), (10, "ConfigMapList".into()));
}

fn shaped(lab: &Lab, path: &str, accept: &str) -> Response {
    let request = Request::get(path).header("accept", accept);
    let mut request = request.body(Full::new(Bytes::new())).unwrap();
    request.extensions_mut().insert(TransportUser(User::server()));
    lab.read(lab.runtime.block_on(lab.server.clone().handle(request)))
}

#[test]
fn tables_and_metadata_are_made_on_demand() {
    let lab = lab();
    lab.config_map("a", "1");
    let table = shaped(&lab, CONFIG_MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
    assert_eq!((table.text("/kind"), table.text("/apiVersion")), ("Table".into(), "meta.k8s.io/v1".into()));
    assert_eq!(table.at("/columnDefinitions/1/name"), "Data");
    assert_eq!(table.at("/rows/0/cells/0"), "a");
    assert_eq!(table.at("/rows/0/object/kind"), "PartialObjectMetadata");
    let one = shaped(
        &lab,
        &format!("{CONFIG_MAPS}/a?includeObject=None"),
        "application/json;as=Table;v=v1;g=meta.k8s.io",
    );
    assert_eq!(one.at("/rows/0/object"), &Value::Null);
    let metadata =
        shaped(&lab, CONFIG_MAPS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    assert_eq!(
        (metadata.text("/kind"), metadata.at("/items/0/data")),
        ("PartialObjectMetadataList".into(), &Value::Null)
    );
    assert_eq!(shaped(&lab, CONFIG_MAPS, "text/html").code, 406);
    let yaml = shaped(&lab, &format!("{CONFIG_MAPS}/a"), "application/yaml");
    assert!(yaml.body.as_str().unwrap().contains("kind: ConfigMap"), "{yaml:?}");
}

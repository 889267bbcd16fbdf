//! Server-side apply against cases whose results are Kubernetes' documented ones.

use super::*;
use crate::patch::Ownership;
use proptest::prelude::*;
use serde_json::json;

/// Lists: `containers` and `ports` keyed, `set` a set, `args` atomic; `selector` an atomic map.
struct Small;

impl PatchSchema for Small {
    fn field(&self, name: &str) -> Option<PatchField> {
        let ownership = match name {
            "containers" => Ownership::Map(vec![("name".into(), None)]),
            "ports" => Ownership::Map(vec![("port".into(), None), ("protocol".into(), Some(json!("TCP")))]),
            "set" => Ownership::Set,
            "args" | "selector" => Ownership::Atomic,
            _ => Ownership::Default,
        };
        Some(PatchField { ownership, child: Some(Arc::new(Small)), ..PatchField::default() })
    }
}

fn schema() -> Option<Arc<dyn PatchSchema>> {
    Some(Arc::new(Small))
}

fn writer(manager: &str) -> Writer {
    Writer { manager: manager.into(), api_version: "v1".into(), subresource: String::new(), time: "T".into() }
}

fn applied(live: &Value, manager: &str, config: Value) -> Value {
    apply(live, &config, &writer(manager), false, schema()).unwrap()
}

fn updated(live: &Value, manager: &str, change: impl Fn(&mut Value)) -> Value {
    let mut new = live.clone();
    change(&mut new);
    record(live, &mut new, &writer(manager), schema());
    new
}

fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries
        .iter()
        .find(|entry| entry["manager"] == manager)
        .map(|entry| entry["fieldsV1"].clone())
        .unwrap_or_default()
}

#[test]
fn what_is_applied_is_owned() {
    let object = applied(
        &Value::Null,
        "a",
        json!({"kind": "X", "apiVersion": "v1", "metadata": {"name": "n", "labels": {"l": "1"}},
        "spec": {"replicas": 1, "containers": [{"name": "c", "image": "i", "ports": [{"port": 80}]}], "args": ["x"], "set": ["s"]}}),
    );
    assert_eq!(
        fields(&object, "a"),
        json!({"f:metadata": {"f:labels": {"f:l": {}}}, "f:spec": {"f:replicas": {}, "f:args": {}, "f:set": {"v:\"s\"": {}},
            "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {},
                "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}}}})
    );
}

#[test]
fn what_is_no_longer_applied_goes_unless_another_owns_it() {
    let first = applied(
        &Value::Null,
        "a",
        json!({"data": {"x": "1", "y": "2"}, "containers": [{"name": "c"}, {"name": "d"}]}),
    );
    let second = applied(&first, "b", json!({"data": {"y": "2"}}));
    let third = applied(&second, "a", json!({"data": {"z": "3"}, "containers": [{"name": "d"}]}));
    assert_eq!(third["data"], json!({"y": "2", "z": "3"}));
    assert_eq!(third["containers"], json!([{"name": "d"}]));
    assert_eq!(fields(&third, "b"), json!({"f:data": {"f:y": {}}}));
    let fourth = applied(&third, "a", json!({}));
    assert_eq!(fourth["data"], json!({"y": "2"}));
    assert!(fourth.get("containers").is_none());
    assert_eq!(fields(&fourth, "a"), Value::Null);
}

#[test]
fn changing_what_another_owns_is_a_conflict_or_forced() {
    let first = applied(
        &Value::Null,
        "a",
        json!({"spec": {"replicas": 1, "containers": [{"name": "c", "image": "i"}]}}),
    );
    let config = json!({"spec": {"replicas": 2, "containers": [{"name": "c", "image": "j"}]}});
    let conflict = apply(&first, &config, &writer("b"), false, schema()).unwrap_err();
    assert_eq!(
        conflict.message,
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.containers[name=\"c\"].image\n- .spec.replicas"
    );
    assert_eq!((conflict.causes[0].reason.as_str(), conflict.causes.len()), ("FieldManagerConflict", 2));
    let forced = apply(&first, &config, &writer("b"), true, schema()).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(
        fields(&forced, "a"),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}}}}})
    );
    let single = apply(&first, &json!({"spec": {"replicas": 2}}), &writer("b"), false, schema()).unwrap_err();
    assert_eq!(single.message, r#"Apply failed with 1 conflict: conflict with "a": .spec.replicas"#);
}

#[test]
fn what_kubectl_applied_itself_it_may_apply_by_the_server() {
    let sent =
        json!({"apiVersion": "v1", "metadata": {"labels": {"l": "1"}}, "spec": {"replicas": 1, "x": 1}});
    let live = updated(&json!({"metadata": {}}), "kubectl-client-side-apply", |object| {
        object["metadata"]["labels"] = sent["metadata"]["labels"].clone();
        object["metadata"]["annotations"] = json!({LAST_APPLIED: sent.to_string()});
        object["spec"] = sent["spec"].clone();
    });
    let wanted = json!({"metadata": {"labels": {"l": "2"}}, "spec": {"replicas": 1, "x": 2}});
    let other = apply(&live, &wanted, &writer("other"), false, schema()).unwrap_err();
    assert_eq!(other.causes.len(), 2, "{}", other.message);
    let over = applied(&live, "kubectl", wanted.clone());
    assert_eq!((&over["metadata"]["labels"], &over["spec"]["x"]), (&json!({"l": "2"}), &json!(2)));
    let left = fields(&over, "kubectl-client-side-apply");
    assert_eq!(left["f:spec"], json!({".": {}, "f:replicas": {}}), "what is changed leaves its owner");
    let changed = updated(&live, "else", |object| object["spec"]["x"] = json!(3));
    let held = apply(&changed, &wanted, &writer("kubectl"), false, schema()).unwrap_err();
    assert_eq!(held.message, r#"Apply failed with 1 conflict: conflict with "else" using v1: .spec.x"#);
    let later = Writer { api_version: "v2".into(), ..writer("kubectl") };
    assert!(apply(&live, &wanted, &later, false, schema()).is_err(), "of another version");
}

#[test]
fn agreeing_on_a_value_is_no_conflict() {
    let first = applied(&Value::Null, "a", json!({"spec": {"replicas": 1}}));
    let second = applied(&first, "b", json!({"spec": {"replicas": 1}}));
    assert_eq!(fields(&second, "a"), fields(&second, "b"));
}

#[test]
fn updates_take_ownership_and_conflict_with_later_applies() {
    let first = applied(&Value::Null, "a", json!({"spec": {"replicas": 1, "x": 1}}));
    let scaled = updated(&first, "scaler", |object| object["spec"]["replicas"] = json!(5));
    assert_eq!(fields(&scaled, "scaler"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(fields(&scaled, "a"), json!({"f:spec": {"f:x": {}}}));
    let again =
        apply(&scaled, &json!({"spec": {"replicas": 1, "x": 1}}), &writer("a"), false, schema()).unwrap_err();
    assert_eq!(
        again.message,
        r#"Apply failed with 1 conflict: conflict with "scaler" using v1: .spec.replicas"#
    );
    let without = applied(&scaled, "a", json!({"spec": {"x": 1}}));
    assert_eq!(without["spec"]["replicas"], 5);
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let config = json!({"spec": {"replicas": 1, "containers": [{"name": "c"}]}});
    let first = applied(&Value::Null, "a", config.clone());
    let later = Writer { time: "LATER".into(), ..writer("a") };
    assert_eq!(apply(&first, &config, &later, false, schema()).unwrap(), first);
}

#[test]
fn what_nobody_applied_yet_is_somebodys() {
    let live = json!({"metadata": {"name": "n"}, "spec": {"replicas": 1, "containers": [{"name": "c"}]}});
    let refused = apply(&live, &json!({"spec": {"replicas": 2}}), &writer("a"), false, schema()).unwrap_err();
    assert_eq!(
        refused.message,
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .spec.replicas"#
    );
    let forced = apply(&live, &json!({"spec": {"replicas": 2}}), &writer("a"), true, schema()).unwrap();
    let left = json!({"f:spec": {".": {}, "f:containers": {".": {}, "k:{\"name\":\"c\"}": {".": {}, "f:name": {}}}}});
    assert_eq!(fields(&forced, "before-first-apply"), left);
}

#[test]
fn what_has_become_one_field_is_owned_as_one() {
    let mut live =
        applied(&Value::Null, "a", json!({"spec": {"selector": {"x": "1"}, "args": ["y"], "set": ["z"]}}));
    let before =
        json!({"f:spec": {"f:selector": {"f:x": {}}, "f:args": {"v:\"y\"": {}}, "f:set": {"v:\"z\"": {}}}});
    live["metadata"]["managedFields"][0]["fieldsV1"] = before;
    let config = json!({"spec": {"selector": {"x": "1"}, "args": ["y"], "set": ["z"]}});
    let again = applied(&live, "a", config.clone());
    assert_eq!(again["spec"], config["spec"], "nothing is taken out of what is applied");
    let now = json!({"f:spec": {"f:selector": {}, "f:args": {}, "f:set": {"v:\"z\"": {}}}});
    assert_eq!(fields(&again, "a"), now);
}

#[test]
fn updates_own_what_they_bring_with_all_that_is_around_it() {
    let first = updated(&json!({"metadata": {}}), "a", |object| object["labels"] = json!({"x": "1"}));
    assert_eq!(fields(&first, "a"), json!({"f:labels": {".": {}, "f:x": {}}}));
    let second = updated(&first, "b", |object| object["labels"]["y"] = json!("2"));
    assert_eq!(fields(&second, "b"), json!({"f:labels": {"f:y": {}}}));
    let third = updated(&second, "c", |object| drop(object.as_object_mut().unwrap().remove("labels")));
    assert!(third["metadata"].get("managedFields").is_none());
}

#[test]
fn elements_that_are_one_are_ambiguous() {
    let config = json!({"spec": {"containers": [{"name": "c", "ports": [{"port": 80}, {"port": 80}]}], "set": ["a", "a"]}});
    assert_eq!(
        ambiguities(&config, schema()),
        [
            r#".spec.containers[name="c"].ports: duplicate entries for key [port=80,protocol="TCP"]"#,
            r#".spec.set: duplicate entries for key [="a"]"#,
        ]
    );
}

fn config() -> impl Strategy<Value = Value> {
    let data = proptest::collection::btree_map("[a-c]", 0..3u8, 0..3);
    let list = proptest::collection::btree_map("[a-c]", 0..3u8, 0..3);
    (data, list).prop_map(|(data, list)| {
        let items: Vec<Value> =
            list.into_iter().map(|(name, image)| json!({"name": name, "image": image})).collect();
        json!({"data": data, "containers": items})
    })
}

proptest! {
    /// Whatever was before, a forced apply leaves exactly what is applied by someone: everything wanted is there.
    #[test]
    fn a_forced_apply_wins_and_is_stable(configs in proptest::collection::vec((0..3usize, config()), 1..8)) {
        let mut live = Value::Null;
        for (who, config) in &configs {
            let by = writer(["a", "b", "c"][*who]);
            live = apply(&live, config, &by, true, schema()).unwrap();
            for (key, value) in config["data"].as_object().unwrap() {
                prop_assert_eq!(&live["data"][key], value);
            }
            let again = apply(&live, config, &by, true, schema()).unwrap();
            prop_assert_eq!(&again, &live);
        }
        // When everyone has let go, nothing is left.
        for who in ["a", "b", "c"] {
            live = apply(&live, &json!({}), &writer(who), true, schema()).unwrap();
        }
        let leftovers = walk::fields_of(&owned_part(&live), &root(schema()));
        prop_assert!(live.get("data").is_none_or(|data| data == &json!({})), "{} {:?}", live, leftovers);
    }
}

//! Strategic merge against cases whose results are Kubernetes' documented ones.

use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;

/// A pod spec in small: containers by name, their env by name and ports by containerPort, finalizers as a set.
#[derive(Clone, Copy)]
struct Small;

impl PatchSchema for Small {
    fn field(&self, name: &str) -> Option<PatchField> {
        let keyed = |key: &str| PatchField {
            merge: true,
            merge_key: Some(key.into()),
            child: Some(Arc::new(Small)),
            ..PatchField::default()
        };
        match name {
            "containers" | "env" | "volumes" => Some(keyed("name")),
            "ports" => Some(keyed("containerPort")),
            "finalizers" => Some(PatchField { merge: true, ..PatchField::default() }),
            "strategy" | "spec" | "resources" => {
                Some(PatchField { child: Some(Arc::new(Small)), ..PatchField::default() })
            }
            "selector" => Some(PatchField { replace: true, ..PatchField::default() }),
            _ => None,
        }
    }
}

fn check(object: Value, patch: Value, expected: Value) {
    assert_eq!(apply(&object, &patch, Some(&Small)).unwrap(), expected, "patch {patch}");
}

#[test]
fn lists_with_a_merge_key_are_merged() {
    check(
        json!({"containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}, {"name": "b"}]}),
        json!({"containers": [{"name": "a", "image": "y", "env": [{"name": "F", "value": "2"}]}, {"name": "c"}]}),
        json!({"containers": [
            {"name": "a", "image": "y", "env": [{"name": "F", "value": "2"}, {"name": "E", "value": "1"}]},
            {"name": "c"}, {"name": "b"}]}),
    );
}

#[test]
fn directives_of_list_elements() {
    let object = json!({"containers": [{"name": "a", "x": 1}, {"name": "b"}]});
    check(
        object.clone(),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b"}]}),
    );
    check(
        object.clone(),
        json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}),
        json!({"containers": [{"name": "z"}]}),
    );
    check(
        object.clone(),
        json!({"containers": [{"name": "z", "x": 1}, {"name": "a"}, {"name": "z", "x": 2}, {"$patch": "replace"}]}),
        json!({"containers": [{"name": "z", "x": 1}, {"name": "a"}, {"name": "z", "x": 2}]}),
    );
    check(object, json!({"containers": [{"$patch": "replace"}]}), json!({"containers": []}));
}

#[test]
fn directives_of_maps() {
    check(
        json!({"spec": {"a": 1, "b": 2}}),
        json!({"spec": {"$patch": "replace", "c": 3}}),
        json!({"spec": {"c": 3}}),
    );
    check(json!({"spec": {"a": 1}}), json!({"spec": {"$patch": "delete"}}), json!({"spec": {}}));
    check(
        json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}),
        json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
        json!({"strategy": {"type": "Recreate"}}),
    );
    check(json!({"selector": {"a": "b"}}), json!({"selector": {"c": "d"}}), json!({"selector": {"c": "d"}}));
}

#[test]
fn nulls_remove_and_are_never_stored() {
    check(json!({"spec": {"a": 1, "b": 2}}), json!({"spec": {"a": null}}), json!({"spec": {"b": 2}}));
    check(
        json!({}),
        json!({"spec": {"a": null, "x": {"$patch": "replace", "y": 1}}}),
        json!({"spec": {"x": {"y": 1}}}),
    );
}

#[test]
fn scalars_are_united_and_removed_one_by_one() {
    let object = json!({"finalizers": ["a", "b"]});
    check(object.clone(), json!({"finalizers": ["b", "c"]}), json!({"finalizers": ["a", "b", "c"]}));
    check(
        object,
        json!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}),
        json!({"finalizers": ["c", "b"]}),
    );
}

#[test]
fn the_wanted_order_is_kept_around_elements_of_others() {
    check(
        json!({"containers": [{"name": "sidecar"}, {"name": "a"}, {"name": "b"}]}),
        json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "new"}], "containers": [{"name": "new"}]}),
        json!({"containers": [{"name": "sidecar"}, {"name": "b"}, {"name": "a"}, {"name": "new"}]}),
    );
}

#[test]
fn new_elements_come_before_those_that_the_patch_does_not_name() {
    check(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "new"}]}),
        json!({"containers": [{"name": "new"}, {"name": "a"}, {"name": "b"}]}),
    );
    check(json!({"finalizers": ["a"]}), json!({"finalizers": ["b"]}), json!({"finalizers": ["b", "a"]}));
}

#[test]
fn a_list_without_strategy_is_replaced() {
    check(json!({"args": ["a", "b"]}), json!({"args": ["c"]}), json!({"args": ["c"]}));
}

#[test]
fn malformed_patches_name_the_fault() {
    let cases = [
        (json!({"containers": [{"image": "x"}]}), "does not contain declared merge key: name"),
        (json!({"spec": {"$patch": "twist"}}), "unknown patch type: twist"),
        (json!({"containers": [{"$patch": "delete"}]}), "delete patch type with no merge key defined"),
        (json!({"strategy": {"$retainKeys": ["a"], "b": 1}}), "missing in its $retainKeys"),
    ];
    for (patch, message) in cases {
        let error = apply(&json!({"containers": [{"name": "a"}]}), &patch, Some(&Small)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

fn holds_directive(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| key.starts_with('$') || holds_directive(value)),
        Value::Array(list) => list.iter().any(holds_directive),
        _ => false,
    }
}

fn container() -> impl Strategy<Value = Value> {
    ("[a-d]", proptest::option::of("[x-z]"), proptest::option::of(Just("delete"))).prop_map(
        |(name, image, directive)| {
            let mut container = json!({"name": name});
            if let Some(image) = image {
                container["image"] = json!(image);
            }
            if let Some(directive) = directive {
                container["$patch"] = json!(directive);
            }
            container
        },
    )
}

proptest! {
    #[test]
    fn no_directive_survives_and_twice_is_once(
        old in proptest::collection::vec(container(), 0..4),
        patch in proptest::collection::vec(container(), 0..4),
    ) {
        let clean = |mut item: Value| { item.as_object_mut().unwrap().remove("$patch"); item };
        let mut seen = std::collections::HashSet::new();
        let old: Vec<Value> = old.into_iter().map(clean).filter(|item| seen.insert(item["name"].to_string())).collect();
        let mut seen = std::collections::HashSet::new();
        let patch: Vec<Value> = patch.into_iter().filter(|item| seen.insert(item["name"].to_string())).collect();
        let (object, patch) = (json!({"containers": old}), json!({"containers": patch}));
        let once = apply(&object, &patch, Some(&Small)).unwrap();
        prop_assert!(!holds_directive(&once));
        prop_assert_eq!(apply(&once, &patch, Some(&Small)).unwrap(), once);
    }
}

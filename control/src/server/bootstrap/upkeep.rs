//! What a cluster of an earlier version lacks in its first roles and bindings is added at every start, as Kubernetes
//! does it. Nothing is taken away, and what says that it takes care of itself is left alone.

use serde_json::{Value, json};

/// `false` by this name keeps an object from being completed.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Marks a role or binding as one that is kept complete.
pub(super) fn kept(mut object: Value) -> Value {
    object["metadata"]["annotations"] = json!({AUTOUPDATE: "true"});
    object
}

/// Adds to `found` what `wanted` has beyond it: rules, subjects, labels. The rules of an aggregated role come from
/// those that it takes up.
pub(super) fn complete(found: &mut Value, wanted: &Value) {
    let annotations = found.pointer("/metadata/annotations").unwrap_or(&Value::Null);
    if annotations.get(AUTOUPDATE).is_some_and(|keep| keep == "false") {
        return;
    }
    for map in ["labels", "annotations"] {
        add_keys(&mut found["metadata"], &wanted["metadata"], map);
    }
    let aggregated = wanted.get("aggregationRule").is_some();
    if !aggregated {
        add_items(found, wanted, "rules");
    } else if found.get("aggregationRule").is_none() {
        found["aggregationRule"] = wanted["aggregationRule"].clone();
    }
    if found.get("roleRef") == wanted.get("roleRef") {
        add_items(found, wanted, "subjects");
    }
}

fn add_keys(found: &mut Value, wanted: &Value, map: &str) {
    for (key, value) in wanted.get(map).and_then(Value::as_object).into_iter().flatten() {
        if found[map].get(key).is_none() {
            found[map][key.as_str()] = value.clone();
        }
    }
}

fn add_items(found: &mut Value, wanted: &Value, list: &str) {
    let Some(items) = wanted.get(list).and_then(Value::as_array) else { return };
    let mut all = found.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    let before = all.len();
    for item in items {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
    if all.len() > before {
        found[list] = all.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_and_what_was_added_stays() {
        let (get, list) = (json!({"verbs": ["get"]}), json!({"verbs": ["list"]}));
        let wanted =
            kept(json!({"metadata": {"labels": {"a": "b"}}, "rules": [get, list], "subjects": ["s"]}));
        let mine = json!({"verbs": ["delete"]});
        let mut found = json!({"metadata": {"labels": {"c": "d"}}, "rules": [mine, get]});
        complete(&mut found, &wanted);
        assert_eq!(found["rules"], json!([mine, get, list]));
        assert_eq!(found["subjects"], json!(["s"]));
        assert_eq!(found["metadata"]["labels"], json!({"a": "b", "c": "d"}));
        let whole = found.clone();
        complete(&mut found, &wanted);
        assert_eq!(found, whole);
    }

    #[test]
    fn what_says_so_is_left_alone() {
        let wanted = kept(json!({"metadata": {}, "rules": [{"verbs": ["get"]}]}));
        let mut found = json!({"metadata": {"annotations": {AUTOUPDATE: "false"}}, "rules": []});
        let before = found.clone();
        complete(&mut found, &wanted);
        assert_eq!(found, before);
    }

    #[test]
    fn the_rules_of_an_aggregated_role_are_not_ours() {
        let wanted =
            kept(json!({"metadata": {}, "rules": [{"verbs": ["get"]}], "aggregationRule": {"a": 1}}));
        let mut found = json!({"metadata": {}, "rules": []});
        complete(&mut found, &wanted);
        assert_eq!((&found["rules"], &found["aggregationRule"]), (&json!([]), &json!({"a": 1})));
    }
}

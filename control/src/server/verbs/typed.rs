//! Values of the wrong type in an apply configuration, in the words of the library that merges them in Kubernetes:
//! `.spec.replicas: expected numeric (int or float), got string`. It prints values as Go does.

use super::super::go_json;
use crate::schema::types::{self, ObjectType, Type};
use crate::schema::{Fact, fact, go_types};
use serde_json::Value;

/// Every fault of a configuration; none of a kind that no published type describes.
pub(super) fn faults(group: &str, version: &str, kind: &str, config: &Value) -> Vec<String> {
    let mut walk = Walk { path: String::new(), faults: Vec::new() };
    if let Some(root) = types::of_kind(group, version, kind) {
        walk.fields(config, &root);
    }
    walk.faults.sort();
    walk.faults.dedup();
    walk.faults
}

/// One pass over a configuration.
struct Walk {
    path: String,
    faults: Vec<String>,
}

impl Walk {
    fn fault(&mut self, what: &str) {
        self.faults.push(format!("{}: {what}", self.path));
    }

    /// Goes on one step below.
    fn below(&mut self, step: &str, look: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        look(self);
        self.path.truncate(length);
    }

    fn fields(&mut self, value: &Value, kind: &ObjectType) {
        let Some(map) = value.as_object() else { return self.fault(&unexpected("map", value)) };
        for (name, value) in map {
            // Those that are not known are told elsewhere.
            let Some(field) = kind.field(name) else { continue };
            let known = fact(&kind.name, name);
            self.below(&format!(".{name}"), |walk| walk.value(value, &field.kind, known));
        }
    }

    fn value(&mut self, value: &Value, kind: &Type, known: Option<Fact>) {
        if value.is_null() {
            return;
        }
        match kind {
            Type::Text | Type::Bytes | Type::Time | Type::MicroTime if !value.is_string() => {
                let shown = go_json::syntax(value);
                self.fault(&format!("expected string, got &value.valueUnstructured{{Value:{shown}}}"));
            }
            Type::Int32 | Type::Int64 | Type::Number if !value.is_number() => {
                self.fault(&format!("expected numeric (int or float), got {}", go_types::of_value(value)));
            }
            Type::Bool if !value.is_boolean() => self.fault(&unexpected("boolean", value)),
            Type::Quantity | Type::IntOrString if value.is_array() || value.is_object() => {
                self.fault(&unexpected("any scalar", value));
            }
            Type::List(item) => self.list(value, item, known),
            Type::Map(item) => match value.as_object() {
                Some(map) => {
                    for (name, value) in map {
                        self.below(&format!(".{name}"), |walk| walk.value(value, item, None));
                    }
                }
                None => self.fault(&unexpected("map", value)),
            },
            Type::Object(name) => {
                if let Some(kind) = types::named(name) {
                    self.fields(value, &kind);
                }
            }
            _ => {}
        }
    }

    fn list(&mut self, value: &Value, item: &Type, known: Option<Fact>) {
        let Some(items) = value.as_array() else { return self.fault(&unexpected("list", value)) };
        let keys: Vec<&str> = match known {
            Some(fact) if fact.list_type == "map" => fact.map_keys.split(',').collect(),
            _ => Vec::new(),
        };
        for (index, one) in items.iter().enumerate() {
            match key(one, &keys) {
                Ok(None) => self.below(&format!("[{index}]"), |walk| walk.value(one, item, None)),
                Ok(Some(key)) => self.below(&format!("[{key}]"), |walk| walk.value(one, item, None)),
                // Without a key nothing can be said of what is in it.
                Err(why) => return self.fault(&format!("element {index}: associative list with keys {why}")),
            }
        }
    }
}

/// `containerPort=80,protocol="TCP"`; nothing in a list without keys.
fn key(item: &Value, keys: &[&str]) -> Result<Option<String>, String> {
    if keys.is_empty() {
        return Ok(None);
    }
    if item.is_null() {
        return Err("may not have a null element".to_owned());
    }
    let Some(map) = item.as_object() else { return Err("may not have non-map elements".to_owned()) };
    let part = |key: &&str| match map.get(*key) {
        Some(value) => Ok(format!("{key}={value}")),
        None if *key == "protocol" => Ok(format!("{key}=\"TCP\"")),
        None => Err(format!("has an element that omits key field {key:?} (and doesn't have default value)")),
    };
    keys.iter().map(part).collect::<Result<Vec<_>, _>>().map(|parts| Some(parts.join(",")))
}

fn unexpected(wanted: &str, value: &Value) -> String {
    format!("expected {wanted}, got &{{{}}}", go_json::printed(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wrong_types_are_told_with_their_places() {
        let container = json!({"name": "c", "env": [{"name": "PORT", "value": 587}, {"name": "ON", "value": true}],
            "ports": [{"containerPort": 80, "hostPort": "x"}], "args": [1], "tty": "yes"});
        let template = json!({"metadata": {"labels": {"a": [1, "b"]}}, "spec": {"containers": [container]}});
        let spec = json!({"replicas": "lots", "strategy": 5, "selector": null, "template": template});
        let config =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec});
        let of = ".spec.template.spec.containers[name=\"c\"]";
        let expected = [
            ".spec.replicas: expected numeric (int or float), got string".to_owned(),
            ".spec.strategy: expected map, got &{5}".to_owned(),
            ".spec.template.metadata.labels.a: expected string, got &value.valueUnstructured{Value:[]interface {}{1, \"b\"}}".to_owned(),
            format!("{of}.args[0]: expected string, got &value.valueUnstructured{{Value:1}}"),
            format!("{of}.env[name=\"ON\"].value: expected string, got &value.valueUnstructured{{Value:true}}"),
            format!("{of}.env[name=\"PORT\"].value: expected string, got &value.valueUnstructured{{Value:587}}"),
            format!("{of}.ports[containerPort=80,protocol=\"TCP\"].hostPort: expected numeric (int or float), got string"),
            format!("{of}.tty: expected boolean, got &{{yes}}"),
        ];
        assert_eq!(faults("apps", "v1", "Deployment", &config), expected);
    }

    #[test]
    fn elements_without_their_key() {
        let pod = |containers: Value| json!({"spec": {"containers": containers}});
        for (containers, why) in [
            (json!({}), "expected list, got &{map[]}"),
            (
                json!([{"image": "i"}]),
                "element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
            ),
            (json!(["c"]), "element 0: associative list with keys may not have non-map elements"),
        ] {
            assert_eq!(faults("", "v1", "Pod", &pod(containers)), [format!(".spec.containers: {why}")]);
        }
    }
}

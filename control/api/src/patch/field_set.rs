//! Sets of fields, as `metadata.managedFields` records who owns what (`fieldsV1`).
//!
//! A set is a tree. An element of a path is `f:NAME` for a field, `k:{...}` for an element of a keyed list, `v:VALUE`
//! for a scalar of a set. A node that is itself a member carries `.` beside its children, a leaf is `{}`.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A set of field paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the path that leads here is in the set itself.
    pub member: bool,
    /// By path element.
    pub children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// The set of nothing but the path that leads here.
    pub fn leaf() -> Self {
        Self { member: true, children: BTreeMap::new() }
    }

    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    /// Adds the paths of `set` below `element`.
    pub fn add(&mut self, element: String, set: Self) {
        if set.is_empty() {
            return;
        }
        match self.children.get_mut(&element) {
            Some(known) => *known = known.union(&set),
            None => {
                self.children.insert(element, set);
            }
        }
    }

    /// Reads `fieldsV1`; what is no object counts as a leaf.
    pub fn from_json(value: &Value) -> Self {
        let empty = Map::new();
        let fields = value.as_object().unwrap_or(&empty);
        let children = fields.iter().filter(|(element, _)| *element != ".");
        Self {
            member: fields.is_empty() || fields.contains_key("."),
            children: children.map(|(element, below)| (element.clone(), Self::from_json(below))).collect(),
        }
    }

    /// Writes `fieldsV1`.
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.children.is_empty() {
            fields.insert(".".to_owned(), json!({}));
        }
        for (element, below) in self.children.iter().filter(|(_, below)| !below.is_empty()) {
            fields.insert(element.clone(), below.to_json());
        }
        Value::Object(fields)
    }

    /// Paths of either.
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |own, others| own || others)
    }

    /// Paths of both.
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |own, others| own && others)
    }

    /// Paths of this one that are not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |own, others| own && !others)
    }

    fn combine(&self, other: &Self, keep: impl Fn(bool, bool) -> bool + Copy) -> Self {
        let nothing = Self::default();
        let elements =
            self.children.keys().chain(other.children.keys().filter(|key| !self.children.contains_key(*key)));
        let mut combined = Self { member: keep(self.member, other.member), children: BTreeMap::new() };
        for element in elements {
            let own = self.children.get(element).unwrap_or(&nothing);
            let others = other.children.get(element).unwrap_or(&nothing);
            let below = own.combine(others, keep);
            if !below.is_empty() {
                combined.children.insert(element.clone(), below);
            }
        }
        combined
    }

    /// Every path, as people write it: `.spec.containers[name="c"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect(String::new(), &mut paths);
        paths
    }

    fn collect(&self, path: String, paths: &mut Vec<String>) {
        for (element, below) in &self.children {
            below.collect(format!("{path}{}", readable(element)), paths);
        }
        if self.member {
            paths.push(path);
        }
    }
}

/// An element of a path, as people write it: `.spec`, `[name="c"]`.
pub(super) fn readable(element: &str) -> String {
    if let Some(name) = element.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(keys) =
        element.strip_prefix("k:").and_then(|keys| serde_json::from_str::<Map<String, Value>>(keys).ok())
    {
        let pairs: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
        return format!("[{}]", pairs.join(","));
    }
    match element.strip_prefix("v:") {
        Some(value) => format!("[={value}]"),
        None => format!("[{element}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_survive_their_encoding() {
        let fields = json!({"f:spec": {"f:replicas": {}, "f:list": {".": {}, "k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}}});
        let set = FieldSet::from_json(&fields);
        assert_eq!(set.to_json(), fields);
        assert_eq!(
            set.paths(),
            [r#".spec.list[name="c"].image"#, r#".spec.list[name="c"]"#, ".spec.list", ".spec.replicas"]
        );
    }

    #[test]
    fn algebra() {
        let one = FieldSet::from_json(&json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}}));
        let two = FieldSet::from_json(&json!({"f:b": {"f:c": {}, "f:d": {}}}));
        assert_eq!(one.union(&two).to_json(), json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}}));
        assert_eq!(one.intersection(&two).to_json(), json!({"f:b": {"f:c": {}}}));
        assert_eq!(one.difference(&two).to_json(), json!({"f:a": {}, "f:b": {}}));
        assert!(one.difference(&one).is_empty());
    }
}

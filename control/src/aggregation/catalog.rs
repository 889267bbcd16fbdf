//! What others serve, as discovery tells of it: a list of resources in the plain form becomes a part of the aggregated
//! one.

use super::{Aggregation, Remote};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A group version of another server.
#[derive(Debug, Clone)]
pub(crate) struct Foreign {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) group_priority: i64,
    pub(crate) version_priority: i64,
    /// An `APIResourceList`; absent where it never answered.
    pub(crate) listing: Option<Arc<Value>>,
    /// Whether it answered when it was asked last.
    pub(crate) is_fresh: bool,
}

impl Aggregation {
    /// Everything that others serve.
    pub(crate) fn catalog(&self) -> Vec<Foreign> {
        self.all().values().map(|remote| Foreign::of(remote)).collect()
    }
}

impl Foreign {
    fn of(remote: &Remote) -> Self {
        let told = remote.told();
        Self {
            group: remote.group.clone(),
            version: remote.version.clone(),
            group_priority: remote.group_priority,
            version_priority: remote.version_priority,
            listing: told.listing,
            is_fresh: told.is_fresh,
        }
    }

    /// Its entry in the aggregated form; old news where it did not answer last.
    pub(crate) fn aggregated(&self) -> Value {
        let resources = self.listing.as_deref().map_or(&[][..], entries);
        let mut told = json!({"version": self.version, "resources": self.converted(resources)});
        if told["resources"] == json!([])
            && let Some(told) = told.as_object_mut()
        {
            told.remove("resources");
        }
        told["freshness"] = if self.is_fresh { "Current" } else { "Stale" }.into();
        told
    }

    fn converted(&self, entries: &[Value]) -> Vec<Value> {
        let mut parents: Vec<Value> = Vec::new();
        let mut at: BTreeMap<&str, usize> = BTreeMap::new();
        let names = |entry: &'_ Value| entry["name"].as_str().unwrap_or_default().to_owned();
        for entry in entries.iter().filter(|entry| !names(entry).contains('/')) {
            at.insert(entry["name"].as_str().unwrap_or_default(), parents.len());
            parents.push(self.resource(entry));
        }
        for entry in entries {
            let Some((parent, name)) = entry["name"].as_str().and_then(|name| name.split_once('/')) else {
                continue;
            };
            let Some(parent) = at.get(parent).and_then(|at| parents.get_mut(*at)) else { continue };
            let part =
                json!({"subresource": name, "responseKind": self.kind(entry), "verbs": entry["verbs"]});
            match parent["subresources"].as_array_mut() {
                Some(parts) => parts.push(part),
                None => parent["subresources"] = json!([part]),
            }
        }
        parents
    }

    fn resource(&self, entry: &Value) -> Value {
        let scope = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut told = json!({
            "resource": entry["name"], "responseKind": self.kind(entry), "scope": scope,
            "singularResource": entry["singularName"].as_str().unwrap_or_default(), "verbs": entry["verbs"],
        });
        for field in ["shortNames", "categories"] {
            if entry[field].is_array() {
                told[field] = entry[field].clone();
            }
        }
        told
    }

    /// An entry that names no group or version is of the list's own.
    fn kind(&self, entry: &Value) -> Value {
        let or = |field: &str, own: &str| {
            entry[field].as_str().filter(|text| !text.is_empty()).unwrap_or(own).to_owned()
        };
        json!({"group": or("group", &self.group), "version": or("version", &self.version), "kind": entry["kind"]})
    }
}

fn entries(listing: &Value) -> &[Value] {
    listing["resources"].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
pub(crate) fn example() -> Foreign {
    let listing = json!({"kind": "APIResourceList", "groupVersion": "wardle.example.com/v1alpha1", "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"], "shortNames": ["fl"]},
        {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
    ]});
    Foreign {
        group: "wardle.example.com".to_owned(),
        version: "v1alpha1".to_owned(),
        group_priority: 2000,
        version_priority: 200,
        listing: Some(Arc::new(listing)),
        is_fresh: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_list_becomes_an_aggregated_one() {
        let kind = json!({"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"});
        let expected = json!({"version": "v1alpha1", "freshness": "Current", "resources": [{
            "resource": "flunders", "responseKind": kind, "scope": "Namespaced", "singularResource": "flunder",
            "verbs": ["get", "list"], "shortNames": ["fl"],
            "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["get"]}],
        }]});
        assert_eq!(example().aggregated(), expected);
        let silent = Foreign { listing: None, is_fresh: false, ..example() };
        assert_eq!(silent.aggregated(), json!({"version": "v1alpha1", "freshness": "Stale"}));
    }
}

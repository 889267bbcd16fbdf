//! A field that a subresource shows at another place, in another kind: `spec.replicas` of a Deployment is the
//! `spec.replicas` of its Scale. Who owns it is recorded with the object; whoever applies a Scale sees that record as if
//! it were the Scale's.

use super::managed::{self, Entry};
use crate::patch::field_set::FieldSet;
use serde_json::Value;

/// One field and the two places where it is to be found, each as names from the root.
#[derive(Debug, Clone)]
pub struct Window<'a> {
    /// In the object itself.
    pub place: Vec<&'a str>,
    /// In what the subresource shows.
    pub shown_at: Vec<&'a str>,
    /// apiVersion of what the subresource shows.
    pub shown_as: &'a str,
}

fn only(path: &[&str]) -> FieldSet {
    path.iter().rev().fold(FieldSet::leaf(), |below, name| {
        let mut set = FieldSet::default();
        set.add(format!("f:{name}"), below);
        set
    })
}

fn owns(entry: &Entry, path: &FieldSet) -> bool {
    !entry.fields.intersection(path).is_empty()
}

impl Window<'_> {
    /// Records the owners of the field of `object` in `shown`.
    pub fn show_owners(&self, object: &Value, shown: &mut Value) {
        let place = only(&self.place);
        let owners = managed::read(object).into_iter().filter(|entry| owns(entry, &place));
        let as_shown = |entry: Entry| Entry {
            api_version: self.shown_as.to_owned(),
            fields: only(&self.shown_at),
            ..entry
        };
        managed::write(shown, owners.map(as_shown).collect());
    }

    /// Makes the owners of the field in `shown` those of the field of `object`; every other field keeps its own.
    pub fn take_owners(&self, object: &mut Value, shown: &Value) {
        let api_version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        let (place, shown_at) = (only(&self.place), only(&self.shown_at));
        let mut entries = managed::read(object);
        for entry in &mut entries {
            entry.fields = entry.fields.difference(&place);
        }
        for owner in managed::read(shown).into_iter().filter(|entry| owns(entry, &shown_at)) {
            match entries.iter_mut().find(|entry| entry.is_of_same(&owner)) {
                Some(entry) => entry.fields = entry.fields.union(&place),
                None => {
                    let api_version = api_version.clone();
                    entries.push(Entry { api_version, fields: place.clone(), ..owner });
                }
            }
        }
        managed::write(object, entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn window() -> Window<'static> {
        Window { place: vec!["spec", "crew"], shown_at: vec!["spec", "replicas"], shown_as: "autoscaling/v1" }
    }

    fn entry(manager: &str, operation: &str, version: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": version, "time": "t",
            "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    #[test]
    fn one_field_changes_hands_and_the_others_stay() {
        let first = entry("kubectl", "Update", "x/v1", &json!({"f:spec": {"f:crew": {}, "f:name": {}}}));
        let mut ship = json!({"apiVersion": "x/v1", "metadata": {"managedFields": [first]}});
        let mut shown = json!({});
        window().show_owners(&ship, &mut shown);
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let seen = entry("kubectl", "Update", "autoscaling/v1", &replicas);
        assert_eq!(shown["metadata"]["managedFields"], json!([seen]));

        shown["metadata"]["managedFields"] = json!([entry("hpa", "Apply", "autoscaling/v1", &replicas)]);
        window().take_owners(&mut ship, &shown);
        let left = entry("kubectl", "Update", "x/v1", &json!({"f:spec": {"f:name": {}}}));
        let taken = entry("hpa", "Apply", "x/v1", &json!({"f:spec": {"f:crew": {}}}));
        assert_eq!(ship["metadata"]["managedFields"], json!([left, taken]));
        let known = ship.clone();
        window().take_owners(&mut ship, &shown);
        assert_eq!(ship, known, "once more changes nothing");
    }
}

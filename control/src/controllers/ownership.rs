//! Which controller an object belongs to: owner references, adoption of orphans that match, release of those that
//! no longer do.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};
use kube::Resource;
use std::collections::BTreeMap;

/// What an owner does about one object of the kind it controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is mine and matches.
    Owned,
    /// Nobody's, but it matches: take it.
    Adopt,
    /// Mine, but it no longer matches: let it go.
    Release,
    /// Somebody else's, or no match.
    Foreign,
}

/// Decides the claim of the owner `uid` with `selector` on an object; a dying one is never adopted.
pub(crate) fn claim(uid: &str, selector: &LabelSelector, object: &ObjectMeta) -> Claim {
    let matches = selects(selector, object.labels.as_ref());
    match controller_of(object) {
        Some(owner) if owner.uid == uid && matches => Claim::Owned,
        Some(owner) if owner.uid == uid => Claim::Release,
        Some(_) => Claim::Foreign,
        None if matches && object.deletion_timestamp.is_none() => Claim::Adopt,
        None => Claim::Foreign,
    }
}

/// The owner reference that says `controller: true`.
pub(crate) fn controller_of(object: &ObjectMeta) -> Option<&OwnerReference> {
    object.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// A reference that makes `owner` the controller of another object.
pub(crate) fn controlled_by<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether a selector matches labels. An empty selector matches everything (apps/v1 requires one, so it cannot
/// occur there).
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let empty = BTreeMap::new();
    let labels = labels.unwrap_or(&empty);
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = |value: &String| requirement.values.as_ref().is_some_and(|values| values.contains(value));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(owner: Option<&str>, label: &str, dying: bool) -> ObjectMeta {
        let owner = owner.map(|uid| {
            vec![OwnerReference { uid: uid.into(), controller: Some(true), ..OwnerReference::default() }]
        });
        let deletion_timestamp =
            dying.then(|| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now()));
        ObjectMeta {
            owner_references: owner,
            labels: Some([("app".to_owned(), label.to_owned())].into()),
            deletion_timestamp,
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn every_case_of_a_claim() {
        let selector = LabelSelector {
            match_labels: Some([("app".to_owned(), "web".to_owned())].into()),
            match_expressions: None,
        };
        let cases = [
            (object(Some("me"), "web", false), Claim::Owned),
            (object(Some("me"), "other", false), Claim::Release),
            (object(Some("them"), "web", false), Claim::Foreign),
            (object(None, "web", false), Claim::Adopt),
            (object(None, "web", true), Claim::Foreign),
            (object(None, "other", false), Claim::Foreign),
        ];
        for (object, expected) in cases {
            assert_eq!(claim("me", &selector, &object), expected, "{object:?}");
        }
    }

    #[test]
    fn expressions() {
        let labels = Some([("tier".to_owned(), "db".to_owned())].into());
        for (operator, values, expected) in [
            ("In", vec!["db"], true),
            ("In", vec!["web"], false),
            ("NotIn", vec!["db"], false),
            ("Exists", vec![], true),
            ("DoesNotExist", vec![], false),
            ("Sideways", vec![], false),
        ] {
            let requirement = LabelSelectorRequirement {
                key: "tier".into(),
                operator: operator.into(),
                values: Some(values.into_iter().map(str::to_owned).collect()),
            };
            let selector = LabelSelector { match_labels: None, match_expressions: Some(vec![requirement]) };
            assert_eq!(selects(&selector, labels.as_ref()), expected, "{operator}");
        }
    }
}

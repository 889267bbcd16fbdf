//! Discovery: which groups, versions and resources there are. Clients build everything else on it.
//!
//! Two forms exist. The plain one takes a request per group version; the aggregated one says all in two answers and
//! exists in two versions, of which older clients (kubectl up to 1.29) know only `v2beta1`.

use crate::registry::{Resource, Subresource, Table};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use documents::{
    Aggregated, AggregatedGroup, AggregatedResource, AggregatedSubresource, AggregatedVersion, Entry, Kind,
    Named, Version,
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

mod documents;

/// Groups in the order in which clients prefer them when a name is ambiguous; groups that are not listed (those of
/// custom resources) follow by name.
const GROUP_ORDER: [&str; 19] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
];

/// One group with its versions, the preferred one first, and the rows of each.
struct Group {
    name: String,
    versions: Vec<(String, Vec<Arc<Resource>>)>,
}

/// `GET /api`: the versions of the core group.
pub fn legacy_api(table: &Table) -> documents::Versions {
    let versions = groups(table)
        .into_iter()
        .filter(|group| group.name.is_empty())
        .flat_map(|group| group.versions)
        .map(|(version, _)| version)
        .collect();
    documents::Versions { kind: "APIVersions", versions, server_addresses: [] }
}

/// `v1`, `apps/v1`, ...: every group version, preferred ones first.
pub fn api_versions(table: &Table) -> Vec<String> {
    let versions = |group: Group| {
        let name = group.name;
        group.versions.into_iter().map(move |(version, _)| group_version(&name, &version))
    };
    groups(table).into_iter().flat_map(versions).collect()
}

/// `GET /apis`: every group but the core one.
pub fn group_list(table: &Table) -> documents::Groups {
    let listed = groups(table).iter().filter(|group| !group.name.is_empty()).map(group_entry).collect();
    documents::Groups { kind: "APIGroupList", api_version: "v1", groups: listed }
}

/// `GET /apis/GROUP`: one group.
pub fn group(table: &Table, name: &str) -> Option<documents::Group> {
    let found = groups(table).into_iter().find(|group| group.name == name)?;
    Some(documents::Group { kind: Some("APIGroup"), api_version: Some("v1"), ..group_entry(&found) })
}

fn group_entry(group: &Group) -> documents::Group {
    let entry = |(version, _): &(String, _)| Version {
        group_version: group_version(&group.name, version),
        version: version.clone(),
    };
    let versions: Vec<Version> = group.versions.iter().map(entry).collect();
    let preferred_version = versions.first().cloned();
    documents::Group { kind: None, api_version: None, name: group.name.clone(), versions, preferred_version }
}

/// `GET /api/v1`, `GET /apis/GROUP/VERSION`: the resources of one group version.
pub fn resource_list(table: &Table, group: &str, version: &str) -> Option<documents::Resources> {
    let rows = rows_of(table, group, version);
    if rows.is_empty() {
        return None;
    }
    let mut resources: Vec<Entry> = rows.iter().flat_map(|row| plain_entries(row)).collect();
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    Some(documents::Resources {
        kind: "APIResourceList",
        api_version: (!group.is_empty()).then_some("v1"),
        group_version: group_version(group, version),
        resources,
    })
}

fn plain_entries(row: &Resource) -> Vec<Entry> {
    let entry = Entry {
        name: row.plural.to_string(),
        singular_name: row.singular.to_string(),
        namespaced: row.namespaced,
        kind: row.kind.to_string(),
        verbs: row.verbs.clone(),
        short_names: row.short_names.clone(),
        categories: row.categories.clone(),
        storage_version_hash: storage_version_hash(row),
        ..Entry::default()
    };
    let subresources = row.subresources.iter().map(|subresource| plain_subresource(row, subresource));
    std::iter::once(entry).chain(subresources).collect()
}

fn plain_subresource(row: &Resource, subresource: &Subresource) -> Entry {
    let (group, version, kind) = body_of(row, subresource);
    let entry = Entry {
        name: format!("{}/{}", row.plural, subresource.name),
        namespaced: row.namespaced,
        kind: kind.to_owned(),
        verbs: subresource.verbs.clone(),
        ..Entry::default()
    };
    if (group, version) == (row.group.as_ref(), row.version.as_ref()) {
        return entry;
    }
    Entry { group: group.to_owned(), version: version.to_owned(), ..entry }
}

/// A mark of the version in which objects are kept; what is not kept has none.
fn storage_version_hash(row: &Resource) -> Option<String> {
    if !["create", "get"].iter().all(|verb| row.verbs.iter().any(|has| has == verb)) {
        return None;
    }
    let stored = match (&row.custom, &row.stored_as) {
        (Some(custom), _) => custom.stored.clone(),
        (None, Some(stored)) => format!("{}/{}", stored.row.0, stored.row.1),
        (None, None) => format!("{}/{}", row.group, row.version),
    };
    let hash = Sha256::digest(format!("{stored}/{}", row.kind));
    Some(STANDARD.encode(&hash[..8]))
}

/// `GET /api` (`core`) or `GET /apis` in the aggregated form, in version `v2` or `v2beta1`.
pub fn aggregated(table: &Table, version: &str, core: bool) -> Aggregated {
    let groups = groups(table).into_iter().filter(|group| group.name.is_empty() == core);
    Aggregated {
        kind: "APIGroupDiscoveryList",
        api_version: format!("apidiscovery.k8s.io/{version}"),
        metadata: Named::default(),
        items: groups.map(aggregated_group).collect(),
    }
}

fn aggregated_group(group: Group) -> AggregatedGroup {
    let version = |(version, rows): (String, Vec<Arc<Resource>>)| AggregatedVersion {
        version,
        resources: rows.iter().map(|row| aggregated_resource(row)).collect(),
        freshness: "Current",
    };
    let versions = group.versions.into_iter().map(version).collect();
    AggregatedGroup { metadata: Named { name: group.name }, versions }
}

fn aggregated_resource(row: &Resource) -> AggregatedResource {
    let subresource = |subresource: &Subresource| AggregatedSubresource {
        subresource: subresource.name.to_string(),
        response_kind: kind_entry(body_of(row, subresource)),
        verbs: subresource.verbs.clone(),
    };
    AggregatedResource {
        resource: row.plural.to_string(),
        response_kind: kind_entry((&row.group, &row.version, &row.kind)),
        scope: if row.namespaced { "Namespaced" } else { "Cluster" },
        singular_resource: row.singular.to_string(),
        verbs: row.verbs.clone(),
        short_names: row.short_names.clone(),
        categories: row.categories.clone(),
        subresources: row.subresources.iter().map(subresource).collect(),
    }
}

fn kind_entry((group, version, kind): (&str, &str, &str)) -> Kind {
    Kind { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
}

/// Group, version and kind of the body of a subresource.
fn body_of<'a>(row: &'a Resource, subresource: &'a Subresource) -> (&'a str, &'a str, &'a str) {
    match &subresource.body {
        Some((group, version, kind)) => (group, version, kind),
        None => (&row.group, &row.version, &row.kind),
    }
}

/// `v1`, `apps/v1`
fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn rows_of(table: &Table, group: &str, version: &str) -> Vec<Arc<Resource>> {
    table.all().into_iter().filter(|row| row.group == group && row.version == version).collect()
}

fn groups(table: &Table) -> Vec<Group> {
    let mut by_group: BTreeMap<String, BTreeMap<String, Vec<Arc<Resource>>>> = BTreeMap::new();
    for row in table.all() {
        let versions = by_group.entry(row.group.to_string()).or_default();
        versions.entry(row.version.to_string()).or_default().push(row);
    }
    let mut groups: Vec<Group> = by_group
        .into_iter()
        .map(|(name, versions)| {
            let mut versions: Vec<_> = versions.into_iter().collect();
            versions.sort_by_key(|(version, _)| std::cmp::Reverse(version_rank(version)));
            Group { name, versions }
        })
        .collect();
    groups.sort_by_key(|group| {
        GROUP_ORDER.iter().position(|listed| *listed == group.name).unwrap_or(GROUP_ORDER.len())
    });
    groups
}

/// Orders versions as Kubernetes does: stable before beta before alpha before anything else, higher numbers first.
pub(crate) fn version_rank(version: &str) -> (u8, u64, u64) {
    let number = |text: &str| text.parse::<u64>().ok();
    let parse = || {
        let rest = version.strip_prefix('v')?;
        if let Some((major, minor)) = rest.split_once("beta") {
            return Some((2, number(major)?, number(minor)?));
        }
        if let Some((major, minor)) = rest.split_once("alpha") {
            return Some((1, number(major)?, number(minor)?));
        }
        Some((3, number(rest)?, 0))
    };
    parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(document: impl serde::Serialize) -> Value {
        serde_json::to_value(document).unwrap()
    }

    #[test]
    fn plain_lists_name_resources_and_subresources() {
        let list = resource_list(&Table::builtin(), "", "v1").unwrap();
        let text = serde_json::to_string(&list).unwrap();
        assert!(text.starts_with(r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"#));
        let pods = r#"{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["create","delete","deletecollection","get","list","patch","update","watch"],"shortNames":["po"],"categories":["all"],"storageVersionHash":"xPOwRZ+Yhw8="}"#;
        assert!(text.contains(pods), "{text}");
        let list = told(list);
        let entry = |name: &str| {
            list["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap().clone()
        };
        assert_eq!(entry("pods/eviction")["group"], "policy");
        assert_eq!(entry("pods/status")["kind"], "Pod");
        assert_eq!(entry("pods/status").get("group"), None);
        assert_eq!(entry("componentstatuses").get("storageVersionHash"), None);
        assert!(resource_list(&Table::builtin(), "nowhere", "v1").is_none());
    }

    #[test]
    fn the_core_group_is_apart() {
        let table = Table::builtin();
        assert_eq!(told(legacy_api(&table))["versions"], json!(["v1"]));
        assert_eq!(aggregated(&table, "v2beta1", true).items.len(), 1);
        assert_eq!(aggregated(&table, "v2", false).api_version, "apidiscovery.k8s.io/v2");
        assert!(group_list(&table).groups.iter().all(|group| !group.name.is_empty()));
        let apps = r#"{"kind":"APIGroup","apiVersion":"v1","name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}}"#;
        assert_eq!(serde_json::to_string(&group(&table, "apps")).unwrap(), apps);
        assert_eq!(api_versions(&table)[..3], ["v1", "apiregistration.k8s.io/v1", "apps/v1"]);
    }

    #[test]
    fn versions_are_ordered_by_stability_and_number() {
        let mut versions = ["v1alpha1", "v2", "v1beta2", "v1", "v1beta1", "v10", "other"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "other"]);
    }
}

//! Discovery: which groups, versions and resources there are. Clients build everything else on it.
//!
//! Two forms exist. The plain one takes a request per group version; the aggregated one says all in two answers and
//! exists in two versions, of which older clients (kubectl up to 1.29) know only `v2beta1`.

use crate::aggregation::catalog::Foreign;
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

/// Groups and how much clients prefer them when a name is ambiguous, as Kubernetes has it.
const PRIORITIES: [(&str, i64); 22] = [
    ("", 18_000),
    // What says who serves what comes first of all named groups.
    ("apiregistration.k8s.io", 17_900),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("admissionregistration.k8s.io", 16_700),
    ("apiextensions.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("internal.apiserver.k8s.io", 16_000),
    ("metrics.k8s.io", 100),
];
/// Of groups of custom resources.
const CUSTOM: i64 = 1000;

/// How much a group of ours is preferred.
pub(crate) fn group_priority(group: &str) -> i64 {
    PRIORITIES.iter().find(|(name, _)| *name == group).map_or(CUSTOM, |(_, priority)| *priority)
}

/// How much a version of ours is preferred in its group.
pub(crate) fn version_priority(group: &str, version: &str) -> i64 {
    match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        _ if group_priority(group) == CUSTOM => 100,
        _ if version_rank(version).0 == 3 => 15,
        _ => 9,
    }
}

/// Everything that discovery tells of: our own rows, and what other servers serve, which comes in their place.
pub(crate) struct Served<'a> {
    pub(crate) table: &'a Table,
    pub(crate) foreign: Vec<Foreign>,
}

/// One group with its versions, the preferred one first.
struct Group {
    name: String,
    priority: i64,
    versions: Vec<ServedVersion>,
}

/// One version of a group, with its rows or whoever else serves it.
struct ServedVersion {
    name: String,
    rows: Vec<Arc<Resource>>,
    foreign: Option<Foreign>,
}

impl ServedVersion {
    fn rank(&self, group: &str) -> (i64, (u8, u64, u64)) {
        let own = || version_priority(group, &self.name);
        let priority = self.foreign.as_ref().map_or_else(own, |foreign| foreign.version_priority);
        (priority, version_rank(&self.name))
    }
}

/// `GET /api`: the versions of the core group.
pub(crate) fn legacy_api(served: &Served<'_>) -> documents::Versions {
    let versions = groups(served)
        .into_iter()
        .filter(|group| group.name.is_empty())
        .flat_map(|group| group.versions)
        .map(|version| version.name)
        .collect();
    documents::Versions { kind: "APIVersions", versions, server_addresses: [] }
}

/// `v1`, `apps/v1`, ...: every group version, preferred ones first.
pub(crate) fn api_versions(served: &Served<'_>) -> Vec<String> {
    let versions = |group: Group| {
        let name = group.name;
        group.versions.into_iter().map(move |version| group_version(&name, &version.name))
    };
    groups(served).into_iter().flat_map(versions).collect()
}

/// `GET /apis`: every group but the core one.
pub(crate) fn group_list(served: &Served<'_>) -> documents::Groups {
    let listed = groups(served).iter().filter(|group| !group.name.is_empty()).map(group_entry).collect();
    documents::Groups { kind: "APIGroupList", api_version: "v1", groups: listed }
}

/// `GET /apis/GROUP`: one group.
pub(crate) fn group(served: &Served<'_>, name: &str) -> Option<documents::Group> {
    let found = groups(served).into_iter().find(|group| group.name == name)?;
    Some(documents::Group { kind: Some("APIGroup"), api_version: Some("v1"), ..group_entry(&found) })
}

fn group_entry(group: &Group) -> documents::Group {
    let entry = |version: &ServedVersion| Version {
        group_version: group_version(&group.name, &version.name),
        version: version.name.clone(),
    };
    let versions: Vec<Version> = group.versions.iter().map(entry).collect();
    let preferred_version = versions.first().cloned();
    documents::Group { kind: None, api_version: None, name: group.name.clone(), versions, preferred_version }
}

/// `GET /api/v1`, `GET /apis/GROUP/VERSION`: the resources of one group version.
pub(crate) fn resource_list(table: &Table, group: &str, version: &str) -> Option<documents::Resources> {
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
pub(crate) fn aggregated(served: &Served<'_>, version: &str, core: bool) -> Aggregated {
    let groups = groups(served).into_iter().filter(|group| group.name.is_empty() == core);
    Aggregated {
        kind: "APIGroupDiscoveryList",
        api_version: format!("apidiscovery.k8s.io/{version}"),
        metadata: Named::default(),
        items: groups.map(aggregated_group).collect(),
    }
}

fn aggregated_group(group: Group) -> AggregatedGroup {
    let version = |version: ServedVersion| match &version.foreign {
        Some(foreign) => AggregatedVersion::Foreign(foreign.aggregated()),
        None => AggregatedVersion::Own {
            resources: version.rows.iter().map(|row| aggregated_resource(row)).collect(),
            version: version.name,
            freshness: "Current",
        },
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

fn groups(served: &Served<'_>) -> Vec<Group> {
    let mut by_group: BTreeMap<String, BTreeMap<String, ServedVersion>> = BTreeMap::new();
    let empty = |name: &str| ServedVersion { name: name.to_owned(), rows: Vec::new(), foreign: None };
    for row in served.table.all() {
        let versions = by_group.entry(row.group.to_string()).or_default();
        versions.entry(row.version.to_string()).or_insert_with(|| empty(&row.version)).rows.push(row);
    }
    for foreign in &served.foreign {
        let versions = by_group.entry(foreign.group.clone()).or_default();
        let version = versions.entry(foreign.version.clone()).or_insert_with(|| empty(&foreign.version));
        version.foreign = Some(foreign.clone());
    }
    let mut groups: Vec<Group> =
        by_group.into_iter().map(|(name, versions)| group_of(name, versions)).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.priority));
    groups
}

fn group_of(name: String, versions: BTreeMap<String, ServedVersion>) -> Group {
    let mut versions: Vec<ServedVersion> = versions.into_values().collect();
    versions.sort_by_key(|version| std::cmp::Reverse(version.rank(&name)));
    let own = |version: &ServedVersion| match &version.foreign {
        Some(foreign) => foreign.group_priority,
        None => group_priority(&name),
    };
    let priority = versions.iter().map(own).max().unwrap_or(CUSTOM);
    Group { name, priority, versions }
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
        let served = Served { table: &table, foreign: Vec::new() };
        assert_eq!(told(legacy_api(&served))["versions"], json!(["v1"]));
        assert_eq!(aggregated(&served, "v2beta1", true).items.len(), 1);
        assert_eq!(aggregated(&served, "v2", false).api_version, "apidiscovery.k8s.io/v2");
        assert!(group_list(&served).groups.iter().all(|group| !group.name.is_empty()));
        let apps = r#"{"kind":"APIGroup","apiVersion":"v1","name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}}"#;
        assert_eq!(serde_json::to_string(&group(&served, "apps")).unwrap(), apps);
        assert_eq!(api_versions(&served)[..3], ["v1", "apiregistration.k8s.io/v1", "apps/v1"]);
    }

    #[test]
    fn what_others_serve_stands_among_our_own() {
        let table = Table::builtin();
        let mut foreign = vec![crate::aggregation::catalog::example()];
        foreign.push(Foreign {
            group: "apps".into(),
            version: "v9".into(),
            version_priority: 20,
            ..foreign[0].clone()
        });
        let served = Served { table: &table, foreign };
        let apps = told(group(&served, "apps").unwrap());
        assert_eq!(apps["preferredVersion"]["version"], "v9");
        let names: Vec<String> = group_list(&served)
            .groups
            .into_iter()
            .map(|group| told(group)["name"].as_str().unwrap().to_owned())
            .collect();
        let at = |name: &str| names.iter().position(|found| found == name).unwrap();
        assert!(
            at("discovery.k8s.io") < at("wardle.example.com")
                && at("wardle.example.com") < at("metrics.k8s.io")
        );
        let all = told(aggregated(&served, "v2", false));
        assert_eq!(
            all["items"][at("wardle.example.com")]["versions"][0]["resources"][0]["resource"],
            "flunders"
        );
    }

    #[test]
    fn versions_are_ordered_by_stability_and_number() {
        let mut versions = ["v1alpha1", "v2", "v1beta2", "v1", "v1beta1", "v10", "other"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "other"]);
    }
}

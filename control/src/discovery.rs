//! Discovery: which groups, versions and resources there are. Clients build everything else on it.
//!
//! Two forms exist. The plain one takes a request per group version; the aggregated one says all in two answers and
//! exists in two versions, of which older clients (kubectl up to 1.29) know only `v2beta1`.

use crate::registry::{Resource, Subresource, Table};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

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
pub fn legacy_api(table: &Table) -> Value {
    let versions: Vec<String> = groups(table)
        .into_iter()
        .filter(|group| group.name.is_empty())
        .flat_map(|group| group.versions)
        .map(|(version, _)| version)
        .collect();
    json!({
        "kind": "APIVersions",
        "versions": versions,
        "serverAddressByClientCIDRs": [],
    })
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
pub fn group_list(table: &Table) -> Value {
    let listed: Vec<Value> =
        groups(table).iter().filter(|group| !group.name.is_empty()).map(group_entry).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": listed})
}

/// `GET /apis/GROUP`: one group.
pub fn group(table: &Table, name: &str) -> Option<Value> {
    let found = groups(table).into_iter().find(|group| group.name == name)?;
    let mut entry = group_entry(&found);
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Some(entry)
}

fn group_entry(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, _)| json!({"groupVersion": group_version(&group.name, version), "version": version}))
        .collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    json!({"name": group.name, "versions": versions, "preferredVersion": preferred})
}

/// `GET /api/v1`, `GET /apis/GROUP/VERSION`: the resources of one group version.
pub fn resource_list(table: &Table, group: &str, version: &str) -> Option<Value> {
    let rows = rows_of(table, group, version);
    if rows.is_empty() {
        return None;
    }
    let mut resources: Vec<Value> = rows.iter().flat_map(|row| plain_entries(row)).collect();
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(group, version),
        "resources": resources,
    }))
}

fn plain_entries(row: &Resource) -> Vec<Value> {
    let mut entry = json!({
        "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced, "kind": row.kind,
        "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        entry["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        entry["categories"] = json!(row.categories);
    }
    let subresources = row.subresources.iter().map(|subresource| {
        let (group, version, kind) = body_of(row, subresource);
        let mut entry = json!({
            "name": format!("{}/{}", row.plural, subresource.name), "singularName": "",
            "namespaced": row.namespaced, "kind": kind, "verbs": subresource.verbs,
        });
        if (group, version) != (row.group.as_ref(), row.version.as_ref()) {
            entry["group"] = group.into();
            entry["version"] = version.into();
        }
        entry
    });
    std::iter::once(entry).chain(subresources).collect()
}

/// `GET /api` (`core`) or `GET /apis` in the aggregated form, in version `v2` or `v2beta1`.
pub fn aggregated(table: &Table, version: &str, core: bool) -> Value {
    let items: Vec<Value> =
        groups(table).iter().filter(|group| group.name.is_empty() == core).map(aggregated_group).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_group(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, rows)| {
            let resources: Vec<Value> = rows.iter().map(|row| aggregated_resource(row)).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let name = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
    json!({"metadata": name, "versions": versions})
}

fn aggregated_resource(row: &Resource) -> Value {
    let mut entry = json!({
        "resource": row.plural,
        "responseKind": kind_entry(&row.group, &row.version, &row.kind),
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        entry["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        entry["categories"] = json!(row.categories);
    }
    if !row.subresources.is_empty() {
        let subresources = row.subresources.iter().map(|subresource| {
            let (group, version, kind) = body_of(row, subresource);
            json!({
                "subresource": subresource.name,
                "responseKind": kind_entry(group, version, kind),
                "verbs": subresource.verbs,
            })
        });
        entry["subresources"] = subresources.collect();
    }
    entry
}

fn kind_entry(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
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
fn version_rank(version: &str) -> (u8, u64, u64) {
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

    #[test]
    fn plain_lists_name_resources_and_subresources() {
        let list = resource_list(&Table::builtin(), "", "v1").unwrap();
        let entry = |name: &str| {
            list["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap().clone()
        };
        assert_eq!(entry("pods")["shortNames"], json!(["po"]));
        assert_eq!(entry("pods/eviction")["group"], "policy");
        assert_eq!(entry("pods/status")["kind"], "Pod");
        assert_eq!(entry("pods/status").get("group"), None);
        assert!(resource_list(&Table::builtin(), "nowhere", "v1").is_none());
    }

    #[test]
    fn the_core_group_is_apart() {
        let table = Table::builtin();
        assert_eq!(legacy_api(&table)["versions"], json!(["v1"]));
        assert_eq!(aggregated(&table, "v2beta1", true)["items"].as_array().map(Vec::len), Some(1));
        assert_eq!(aggregated(&table, "v2", false)["apiVersion"], "apidiscovery.k8s.io/v2");
        assert!(group_list(&table)["groups"].as_array().unwrap().iter().all(|group| group["name"] != ""));
        assert_eq!(api_versions(&table)[..3], ["v1", "apiregistration.k8s.io/v1", "apps/v1"]);
    }

    #[test]
    fn versions_are_ordered_by_stability_and_number() {
        let mut versions = ["v1alpha1", "v2", "v1beta2", "v1", "v1beta1", "v10", "other"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "other"]);
    }
}

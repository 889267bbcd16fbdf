//! The paths of a document: where a kind is served, with which verbs and parameters. Clients read three things from
//! them: which kind a path has, that it validates fields, that it has a dry run.

use super::definitions::definition_name;
use super::parameters::{self, DELETE, LIST, WRITE};
use crate::registry::{Resource, Subresource};
use crate::schema::kinds::{self, REFERENCE};
use serde_json::{Map, Value, json};

const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// The paths of a row and of its subresources.
pub(super) fn of(row: &Resource) -> Map<String, Value> {
    let mut all = Map::new();
    let paths = &mut all;
    let root = if row.group.is_empty() {
        format!("/api/{}", row.version)
    } else {
        format!("/apis/{}/{}", row.group, row.version)
    };
    let scope = if row.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}{scope}/{}", row.plural);
    let item = format!("{collection}/{{name}}");
    if row.namespaced && row.allows("list") {
        let everywhere = operation("list", row, &LIST, None, &format!("{}List", row.kind), "get");
        paths.insert(format!("{root}/{}", row.plural), json!({"get": everywhere}));
    }
    insert(paths, &collection, collection_operations(row), (row, false));
    insert(paths, &item, item_operations(row), (row, true));
    for subresource in &row.subresources {
        let path = format!("{item}/{}", subresource.name);
        insert(paths, &path, subresource_operations(row, subresource), (row, true));
    }
    all
}

fn insert(
    paths: &mut Map<String, Value>,
    path: &str,
    operations: Map<String, Value>,
    (row, named): (&Resource, bool),
) {
    if operations.is_empty() {
        return;
    }
    let mut entry = operations;
    let Resource { kind, namespaced, .. } = row;
    let mut all = Vec::new();
    all.extend(named.then(|| parameters::in_path("name", &format!("The name of the {kind}."))));
    all.extend(namespaced.then(|| parameters::in_path("namespace", "The namespace it is in.")));
    if !all.is_empty() {
        entry.insert("parameters".to_owned(), all.into());
    }
    paths.insert(path.to_owned(), Value::Object(entry));
}

fn collection_operations(row: &Resource) -> Map<String, Value> {
    let (kind, list) = (row.kind.as_ref(), format!("{}List", row.kind));
    let all = [
        ("list", "get", operation("list", row, &LIST, None, &list, "get")),
        ("create", "post", operation("post", row, &WRITE, Some(kind), kind, "post")),
        ("deletecollection", "delete", operation("deletecollection", row, &DELETE, None, kind, "delete")),
    ];
    allowed(row, all)
}

fn item_operations(row: &Resource) -> Map<String, Value> {
    let kind = row.kind.as_ref();
    let all = [
        ("get", "get", operation("get", row, &[], None, kind, "get")),
        ("update", "put", operation("put", row, &WRITE, Some(kind), kind, "put")),
        ("patch", "patch", operation("patch", row, &WRITE, Some(kind), kind, "patch")),
        ("delete", "delete", operation("delete", row, &DELETE, None, kind, "delete")),
    ];
    allowed(row, all)
}

fn allowed<const N: usize>(row: &Resource, all: [(&str, &str, Value); N]) -> Map<String, Value> {
    all.into_iter()
        .filter(|(verb, ..)| row.allows(verb))
        .map(|(_, method, value)| (method.to_owned(), value))
        .collect()
}

fn subresource_operations(row: &Resource, subresource: &Subresource) -> Map<String, Value> {
    let (group, version, kind) = match &subresource.body {
        Some((group, version, kind)) => (group.as_ref(), version.as_ref(), kind.as_ref()),
        None => (row.group.as_ref(), row.version.as_ref(), row.kind.as_ref()),
    };
    let described = kinds::find(group, version, kind).is_some();
    let operations = subresource.verbs.iter().filter_map(|verb| {
        let (method, action, body) = match verb.as_ref() {
            "get" => ("get", "get", None),
            "create" => ("post", "post", Some(kind)),
            "update" => ("put", "put", Some(kind)),
            "patch" => ("patch", "patch", Some(kind)),
            _ => return None,
        };
        let parameters: &[&str] = if method == "get" { &[] } else { &WRITE };
        if !described {
            return Some((method.to_owned(), connect(group, version, kind)));
        }
        Some((
            method.to_owned(),
            operation_of((group, version, kind), action, parameters, body, kind, method),
        ))
    });
    operations.collect()
}

/// A connection: no schema describes what goes through it.
fn connect(group: &str, version: &str, kind: &str) -> Value {
    json!({
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "connect",
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    })
}

fn operation(
    action: &str,
    row: &Resource,
    parameters: &[&str],
    body: Option<&str>,
    answer: &str,
    method: &str,
) -> Value {
    operation_of((&row.group, &row.version, &row.kind), action, parameters, body, answer, method)
}

fn operation_of(
    (group, version, kind): (&str, &str, &str),
    action: &str,
    parameters: &[&str],
    body: Option<&str>,
    answer: &str,
    method: &str,
) -> Value {
    // The list of a kind is described next to the kind, whatever the type of the kind is called.
    let list = if answer == kind { "" } else { "List" };
    let reference = |suffix: &str| json!({"$ref": format!("{REFERENCE}{}{suffix}", definition_name(group, version, kind))});
    let mut operation = json!({
        "responses": {"200": {
            "description": "OK",
            "content": {"application/json": {"schema": reference(list)}},
        }},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    });
    // An empty list would be lost by whoever writes down what was read.
    if !parameters.is_empty() {
        operation["parameters"] = parameters.iter().map(|name| parameters::in_query(name)).collect();
    }
    if body.is_some() {
        let types: &[&str] = match (method, kinds::find(group, version, kind)) {
            ("patch", Some(_)) => &PATCHES,
            // Custom resources have no merge keys: clients see here that they must send merge patches.
            ("patch", None) => &PATCHES[..3],
            _ => &["*/*"],
        };
        let schema = if method == "patch" { json!({"type": "object"}) } else { reference("") };
        let content: Map<String, Value> =
            types.iter().map(|kind| ((*kind).to_owned(), json!({"schema": schema}))).collect();
        operation["requestBody"] = json!({"content": content, "required": true});
    }
    operation
}

//! Which writes a webhook or a policy is about: rules of operations and resources, and selectors of namespaces and
//! objects. The same fields in all configurations.

use super::versions::{self, Lens};
use super::{Operation, Write};
use crate::registry::fields;
use crate::server::Server;
use knarr_api::{LabelSelector, Status};
use serde_json::Value;

impl Operation {
    /// As rules and reviews name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// Configurations of admission itself are beyond its reach: a broken one can always be repaired.
pub(super) fn is_exempt(write: Write<'_>) -> bool {
    write.resource.group == "admissionregistration.k8s.io"
        || matches!(&*write.resource.group, "authentication.k8s.io" | "authorization.k8s.io")
}

/// Whether `constraints` (a webhook, or the constraints of a policy) are about the write, and which version they name.
pub(super) async fn matches(
    server: &Server,
    write: Write<'_>,
    constraints: &Value,
    rules: &str,
    object: &Value,
) -> Result<Option<Lens>, Status> {
    let excluded = covering(server, write, constraints, "/excludeResourceRules").is_some();
    let Some(lens) = covering(server, write, constraints, rules).filter(|_| !excluded) else {
        return Ok(None);
    };
    let of_object = selects(constraints, "/objectSelector", object)
        || write.old.is_some_and(|old| selects(constraints, "/objectSelector", old));
    if !of_object {
        return Ok(None);
    }
    match namespace_object(server, write, object).await? {
        Some(namespace) if !selects(constraints, "/namespaceSelector", &namespace) => Ok(None),
        _ => Ok(Some(lens)),
    }
}

/// The version in which a rule names the write: the written one, or else another of the same resource.
fn covering(server: &Server, write: Write<'_>, constraints: &Value, rules: &str) -> Option<Lens> {
    let rules = fields::list(constraints, rules);
    let named = |write: Write<'_>| rules.iter().any(|rule| covers(rule, write));
    if named(write) {
        return Some(Lens::default());
    }
    if rules.is_empty() || fields::text(constraints, "/matchPolicy") == "Exact" {
        return None;
    }
    let mut others = versions::others(server, write).into_iter();
    let found = others.find(|other| named(Write { resource: other, ..write }))?;
    // What a subresource takes is the same in every version.
    Some(if write.kind.is_some() { Lens::default() } else { Lens::of(found) })
}

/// The namespace a write is in; of a write of a namespace, that namespace.
pub(super) async fn namespace_object(
    server: &Server,
    write: Write<'_>,
    object: &Value,
) -> Result<Option<Value>, Status> {
    if write.resource.group.is_empty() && write.resource.plural == "namespaces" {
        return Ok(Some(object.clone()));
    }
    if !write.resource.namespaced {
        return Ok(None);
    }
    server.object_at(&format!("core/namespaces/{}", write.namespace)).await
}

/// A selector that is absent or empty selects everything; an unreadable one nothing.
fn selects(constraints: &Value, pointer: &str, object: &Value) -> bool {
    match constraints.pointer(pointer) {
        None | Some(Value::Null) => true,
        Some(selector) => {
            LabelSelector::from_object(selector).is_ok_and(|selector| selector.matches_object(object))
        }
    }
}

fn covers(rule: &Value, write: Write<'_>) -> bool {
    let lists = |field: &str, matches: &dyn Fn(&str) -> bool| {
        fields::list(rule, field).iter().filter_map(Value::as_str).any(|value| value == "*" || matches(value))
    };
    let scope = match fields::text(rule, "/scope") {
        "Namespaced" => write.resource.namespaced,
        "Cluster" => !write.resource.namespaced,
        _ => true,
    };
    let names = fields::list(rule, "/resourceNames");
    scope
        && lists("/operations", &|operation| operation == write.operation.as_str())
        && lists("/apiGroups", &|group| group == write.resource.group)
        && lists("/apiVersions", &|version| version == write.resource.version)
        && fields::list(rule, "/resources").iter().filter_map(Value::as_str).any(|name| names_it(name, write))
        && (names.is_empty() || names.iter().any(|name| name == write.name))
}

/// `pods`, `pods/status`, `pods/*`, `*/status`, `*` (every resource, no subresource), `*/*`.
fn names_it(name: &str, write: Write<'_>) -> bool {
    let (resource, subresource) = name.split_once('/').unwrap_or((name, ""));
    (resource == "*" || resource == write.resource.plural)
        && (subresource == write.subresource || subresource == "*")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::User;
    use crate::registry::Table;
    use serde_json::json;

    #[test]
    fn rules_name_operations_and_resources() {
        let (table, user) = (Table::builtin(), User::server());
        let pods = table.find("", "v1", "pods").unwrap();
        let write = |subresource| Write {
            user: &user,
            operation: Operation::Create,
            resource: &pods,
            sent: None,
            subresource,
            kind: None,
            namespace: "n",
            name: "p",
            prefix: "",
            old: None,
            dry_run: false,
            options: None,
        };
        let rule = |resource: &str, scope: &str, operation: &str| json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": [operation], "resources": [resource], "scope": scope});
        for (resource, scope, operation, subresource, expected) in [
            ("pods", "*", "CREATE", "", true),
            ("pods", "Cluster", "CREATE", "", false),
            ("pods", "*", "UPDATE", "", false),
            ("pods", "*", "*", "status", false),
            ("pods/*", "*", "*", "status", true),
            ("*", "*", "*", "status", false),
            ("*/*", "*", "*", "", true),
            ("secrets", "*", "*", "", false),
        ] {
            assert_eq!(covers(&rule(resource, scope, operation), write(subresource)), expected, "{resource}");
        }
    }
}

//! Nobody gives away more than they hold: a role may only list what its writer may do (or needs the verb `escalate`),
//! a binding may only give a role whose rules its writer holds (or needs the verb `bind` on the role).

use super::{Operation, Write};
use crate::authn::{MASTERS, User};
use crate::authz::Attributes;
use crate::authz::rbac::rule_allows;
use crate::registry::fields;
use crate::server::Server;
use knarr_api::Status;
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) async fn check(server: &Server, write: Write<'_>, object: &Value) -> Result<(), Status> {
    let concerned = write.resource.group == GROUP && write.operation != Operation::Delete;
    if !concerned || write.user.is_in(MASTERS) || is_unchanged(write, object) {
        return Ok(());
    }
    let binding = matches!(&*write.resource.plural, "rolebindings" | "clusterrolebindings");
    let (verb, plural, name) = if binding {
        let role = &object["roleRef"];
        let plural = if role["kind"] == "Role" { "roles" } else { "clusterroles" };
        ("bind", plural, fields::text(role, "/name"))
    } else {
        ("escalate", &*write.resource.plural, write.name)
    };
    let asked = Attributes::Resource {
        verb,
        group: GROUP,
        resource: plural,
        subresource: "",
        namespace: write.namespace,
        name,
        fields: None,
    };
    if server.may(write.user, &asked).await {
        return Ok(());
    }
    let granted = if binding { rules_of(server, write, plural, name).await? } else { object.clone() };
    let held = server.rbac.rules(write.user, write.namespace).map_err(Status::internal)?;
    let missing = missing(&held, fields::list(&granted, "/rules"));
    let aggregated = granted.get("aggregationRule").is_some_and(|rule| !rule.is_null()) && !binding;
    if aggregated && !holds_everything(&held) {
        return Err(write.forbidden("must have cluster-admin privileges to use an aggregationRule"));
    }
    if missing.is_empty() { Ok(()) } else { Err(write.forbidden(&refusal(write.user, &missing))) }
}

/// A change of metadata alone gives nothing away.
fn is_unchanged(write: Write<'_>, object: &Value) -> bool {
    let parts = ["rules", "aggregationRule", "subjects", "roleRef"];
    write.old.is_some_and(|old| parts.iter().all(|part| old.get(*part) == object.get(*part)))
}

async fn rules_of(server: &Server, write: Write<'_>, plural: &str, name: &str) -> Result<Value, Status> {
    let place = if plural == "roles" { format!("{}/", write.namespace) } else { String::new() };
    let found = server.object_at(&format!("{GROUP}/{plural}/{place}{name}")).await?;
    found.ok_or_else(|| Status::not_found(GROUP, plural, name))
}

fn holds_everything(held: &[Value]) -> bool {
    let all = |rule: &Value, field: &str| fields::list(rule, field).iter().any(|value| value == "*");
    held.iter().any(|rule| all(rule, "/verbs") && all(rule, "/apiGroups") && all(rule, "/resources"))
}

fn texts<'a>(rule: &'a Value, field: &str) -> Vec<&'a str> {
    fields::list(rule, field).iter().filter_map(Value::as_str).collect()
}

/// What of `wanted` no rule of `held` covers, one line for each thing, as Go would print the rule.
fn missing(held: &[Value], wanted: &[Value]) -> Vec<String> {
    let mut lines: Vec<String> = wanted.iter().flat_map(|rule| missing_of(held, rule)).collect();
    lines.sort();
    lines.dedup();
    lines
}

fn missing_of(held: &[Value], rule: &Value) -> Vec<String> {
    let verbs = texts(rule, "/verbs");
    let open = |attributes: &dyn Fn(&str) -> bool| -> Vec<String> {
        verbs.iter().filter(|verb| !attributes(verb)).map(|verb| format!("{verb:?}")).collect()
    };
    let mut lines = Vec::new();
    for path in texts(rule, "/nonResourceURLs") {
        let covered = |verb: &str| held.iter().any(|own| rule_allows(own, &Attributes::Path { verb, path }));
        let left = open(&covered);
        if !left.is_empty() {
            lines.push(format!("{{NonResourceURLs:[{path:?}], Verbs:[{}]}}", left.join(" ")));
        }
    }
    let mut names = texts(rule, "/resourceNames");
    let any = names.is_empty();
    if any {
        names.push("");
    }
    for (group, full, name) in combinations(&texts(rule, "/apiGroups"), &texts(rule, "/resources"), &names) {
        let (resource, subresource) = full.split_once('/').unwrap_or((full, ""));
        let covered = |verb: &str| {
            let (namespace, fields) = ("", None);
            let wanted = Attributes::Resource { verb, group, resource, subresource, namespace, name, fields };
            held.iter().any(|own| rule_allows(own, &wanted))
        };
        let left = open(&covered);
        if left.is_empty() {
            continue;
        }
        let names = if any { String::new() } else { format!(", ResourceNames:[{name:?}]") };
        let verbs = left.join(" ");
        lines.push(format!("{{APIGroups:[{group:?}], Resources:[{full:?}]{names}, Verbs:[{verbs}]}}"));
    }
    lines
}

fn combinations<'a>(
    groups: &[&'a str],
    resources: &[&'a str],
    names: &[&'a str],
) -> Vec<(&'a str, &'a str, &'a str)> {
    let mut all = Vec::new();
    for group in groups {
        for resource in resources {
            all.extend(names.iter().map(|name| (*group, *resource, *name)));
        }
    }
    all
}

fn refusal(user: &User, missing: &[String]) -> String {
    let groups = user.groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(" ");
    format!(
        "user {:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        missing.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_held_is_listed() {
        let held = [json!({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]})];
        let rule = |value: Value| missing(&held, &[value]);
        assert!(rule(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]})).is_empty());
        assert!(
            rule(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["a"]}))
                .is_empty()
        );
        assert_eq!(
            rule(json!({"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "delete"]})),
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}"#,
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "delete"]}"#
            ]
        );
        assert_eq!(
            rule(json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]})),
            [r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#]
        );
        assert_eq!(rule(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})).len(), 1);
    }
}

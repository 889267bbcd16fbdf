//! Role-based access control: Role and ClusterRole objects say what may be done, bindings say who may do it and where.
//!
//! The rules are compiled from the store and compiled anew when one of the four kinds has changed, so a decision reads
//! no objects.

use super::Attributes;
use crate::authn::User;
use crate::store::{Compiled, Store, StoreError};
use knarr_api::meta;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Roles of namespaces and of the cluster, then the bindings of both.
const KINDS: [&str; 4] = [
    "rbac.authorization.k8s.io/roles/",
    "rbac.authorization.k8s.io/clusterroles/",
    "rbac.authorization.k8s.io/rolebindings/",
    "rbac.authorization.k8s.io/clusterrolebindings/",
];

/// What all bindings together allow.
pub(crate) struct Rbac {
    grants: Compiled<Vec<Grant>>,
}

/// One binding with the rules of its role.
#[derive(Debug)]
struct Grant {
    subjects: Vec<Value>,
    /// Where it holds; `None` for the whole cluster.
    namespace: Option<String>,
    rules: Vec<Value>,
}

impl Rbac {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { grants: Compiled::new(store, &KINDS) }
    }

    /// Whether some binding lets `user` do it. When the rules cannot be read nobody is let in.
    pub(crate) fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        match self.grants() {
            Ok(grants) => grants.iter().any(|grant| grant.allows(user, attributes)),
            Err(error) => {
                tracing::warn!("read the rules of access: {error}");
                false
            }
        }
    }

    /// Every rule that some binding gives `user` in `namespace` (the whole cluster where empty).
    pub(crate) fn rules(&self, user: &User, namespace: &str) -> Result<Vec<Value>, StoreError> {
        let grants = self.grants()?;
        let own = grants.iter().filter(|grant| grant.is_for(user, namespace));
        Ok(own.flat_map(|grant| grant.rules.iter().cloned()).collect())
    }

    fn grants(&self) -> Result<Arc<Vec<Grant>>, StoreError> {
        self.grants.get(|objects, _| grants(objects))
    }
}

/// Joins bindings with their roles; a binding whose role is missing grants nothing.
fn grants(objects: &[Vec<Value>]) -> Vec<Grant> {
    let [local_roles, cluster_roles, local_bindings, cluster_bindings] = objects else { return Vec::new() };
    let rules = |role: &Value| role["rules"].as_array().cloned().unwrap_or_default();
    let mut roles: HashMap<(String, String), Vec<Value>> = HashMap::new();
    for role in local_roles {
        roles.insert((meta::namespace(role).to_owned(), meta::name(role).to_owned()), rules(role));
    }
    for role in cluster_roles {
        roles.insert((String::new(), meta::name(role).to_owned()), rules(role));
    }
    let grant = |binding: &Value, namespace: Option<String>| {
        let role = &binding["roleRef"];
        let place =
            if role["kind"] == "Role" { namespace.clone().unwrap_or_default() } else { String::new() };
        let rules = roles.get(&(place, role["name"].as_str().unwrap_or_default().to_owned()))?.clone();
        let subjects = binding["subjects"].as_array().cloned().unwrap_or_default();
        Some(Grant { subjects, namespace, rules })
    };
    let in_namespaces =
        local_bindings.iter().filter_map(|binding| grant(binding, Some(meta::namespace(binding).to_owned())));
    let everywhere = cluster_bindings.iter().filter_map(|binding| grant(binding, None));
    in_namespaces.chain(everywhere).collect()
}

impl Grant {
    fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        self.holds_at(attributes)
            && self.subjects.iter().any(|subject| self.is_user(subject, user))
            && self.rules.iter().any(|rule| rule_allows(rule, attributes))
    }

    fn is_for(&self, user: &User, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
            && self.subjects.iter().any(|subject| self.is_user(subject, user))
    }

    fn holds_at(&self, attributes: &Attributes<'_>) -> bool {
        match (&self.namespace, attributes) {
            (None, _) => true,
            (Some(own), Attributes::Resource { namespace, .. }) => own == namespace,
            (Some(_), Attributes::Path { .. }) => false,
        }
    }

    fn is_user(&self, subject: &Value, user: &User) -> bool {
        let name = subject["name"].as_str().unwrap_or_default();
        match subject["kind"].as_str().unwrap_or_default() {
            "User" => user.name == name,
            "Group" => user.is_in(name),
            "ServiceAccount" => {
                let own = self.namespace.as_deref().unwrap_or_default();
                let namespace = subject["namespace"].as_str().unwrap_or(own);
                user.name == format!("system:serviceaccount:{namespace}:{name}")
            }
            _ => false,
        }
    }
}

/// Whether one rule of a role covers the request.
pub(crate) fn rule_allows(rule: &Value, attributes: &Attributes<'_>) -> bool {
    let lists = |field: &str, matches: &dyn Fn(&str) -> bool| {
        rule[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .any(|value| value == "*" || matches(value))
    };
    match *attributes {
        Attributes::Path { verb, path } => {
            let covers = |pattern: &str| match pattern.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => path == pattern,
            };
            lists("verbs", &|value| value == verb) && lists("nonResourceURLs", &covers)
        }
        Attributes::Resource { verb, group, resource, subresource, name, .. } => {
            let covers = |pattern: &str| match pattern.split_once('/') {
                Some((of, sub)) => sub == subresource && (of == resource || of == "*"),
                None => subresource.is_empty() && pattern == resource,
            };
            let names = rule["resourceNames"].as_array().is_some_and(|names| !names.is_empty());
            lists("verbs", &|value| value == verb)
                && lists("apiGroups", &|value| value == group)
                && lists("resources", &covers)
                && (!names || !name.is_empty() && lists("resourceNames", &|value| value == name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn on<'a>(
        verb: &'a str,
        resource: &'a str,
        subresource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> Attributes<'a> {
        Attributes::Resource { verb, group: "", resource, subresource, namespace, name, fields: None }
    }

    #[test]
    fn rules_cover_what_they_say() {
        let rule = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log", "*/scale"]});
        assert!(rule_allows(&rule, &on("get", "pods", "", "n", "p")));
        assert!(rule_allows(&rule, &on("get", "pods", "log", "n", "p")));
        assert!(rule_allows(&rule, &on("get", "anything", "scale", "n", "p")));
        assert!(!rule_allows(&rule, &on("get", "pods", "exec", "n", "p")));
        assert!(!rule_allows(&rule, &on("delete", "pods", "", "n", "p")));
        let named = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"]});
        assert!(rule_allows(&named, &on("get", "pods", "", "n", "a")));
        assert!(!rule_allows(&named, &on("get", "pods", "", "n", "b")));
        assert!(!rule_allows(&named, &on("list", "pods", "", "n", "")));
        let paths = json!({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/api/*"]});
        assert!(rule_allows(&paths, &Attributes::Path { verb: "get", path: "/api/v1" }));
        assert!(!rule_allows(&paths, &Attributes::Path { verb: "get", path: "/metrics/x" }));
    }

    #[test]
    fn bindings_hold_where_they_are() {
        let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        let objects = [
            vec![json!({"metadata": {"name": "r", "namespace": "n"}, "rules": rules})],
            vec![json!({"metadata": {"name": "c"}, "rules": rules})],
            vec![
                json!({"metadata": {"namespace": "n"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "bob"}]}),
                json!({"metadata": {"namespace": "n"}, "roleRef": {"kind": "ClusterRole", "name": "c"}, "subjects": [{"kind": "ServiceAccount", "name": "sa"}]}),
                json!({"metadata": {"namespace": "n"}, "roleRef": {"kind": "Role", "name": "gone"}, "subjects": [{"kind": "User", "name": "eve"}]}),
            ],
            vec![
                json!({"metadata": {}, "roleRef": {"kind": "ClusterRole", "name": "c"}, "subjects": [{"kind": "Group", "name": "ops"}]}),
            ],
        ];
        let grants = grants(&objects);
        let may = |user: &User, namespace: &str| {
            grants.iter().any(|grant| grant.allows(user, &on("get", "pods", "", namespace, "p")))
        };
        let (bob, eve) = (User::new("bob", &[]), User::new("eve", &[]));
        assert!(may(&bob, "n") && !may(&bob, "m") && !may(&bob, ""));
        assert!(!may(&eve, "n"));
        assert!(may(&User::new("system:serviceaccount:n:sa", &[]), "n"));
        assert!(!may(&User::new("system:serviceaccount:m:sa", &[]), "n"));
        assert!(may(&User::new("amy", &["ops"]), "n") && may(&User::new("amy", &["ops"]), ""));
    }
}

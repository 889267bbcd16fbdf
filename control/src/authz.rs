//! Authorization: what a user may do. Members of `system:masters` may do everything, agents what their pods need
//! ([`node`]); health and version are open to all. These rules are fixed and decided first; what they do not allow,
//! Role and ClusterRole objects may ([`rbac`]). Everything else is refused in Kubernetes' words.

use crate::authn::{AUTHENTICATED, MASTERS, User};
use knarr_api::{FieldSelector, Status, status::qualified};

pub(crate) mod node;
pub(crate) mod rbac;

/// What a request wants to do, as far as authorization must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attributes<'a> {
    /// A path that is no resource.
    Path {
        /// Lower-case HTTP method.
        verb: &'a str,
        /// `/openapi/v3`
        path: &'a str,
    },
    /// An object, or a whole resource where `name` is empty.
    Resource {
        /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`
        verb: &'a str,
        /// API group.
        group: &'a str,
        /// Plural.
        resource: &'a str,
        /// Empty where there is none.
        subresource: &'a str,
        /// Empty at the cluster scope.
        namespace: &'a str,
        /// Of the object; of a list or watch, the one name its field selector lets through.
        name: &'a str,
        /// Of a list or watch.
        fields: Option<&'a FieldSelector>,
    },
}

/// Paths that need no authentication.
fn is_open(path: &str) -> bool {
    let below =
        |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path == "/version" || ["/livez", "/readyz", "/healthz"].into_iter().any(below)
}

/// Paths that every authenticated user may read: what a client needs to find its way.
fn is_discovery(path: &str) -> bool {
    ["/api", "/apis", "/openapi", "/version"]
        .iter()
        .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// Whether `user` may do it by the fixed rules.
pub fn allows(user: &User, attributes: &Attributes<'_>) -> bool {
    if user.is_in(MASTERS) {
        return true;
    }
    match *attributes {
        Attributes::Path { verb, path } => {
            let reads = matches!(verb, "get" | "head");
            reads && (is_open(path) || user.is_in(AUTHENTICATED) && is_discovery(path))
        }
        Attributes::Resource { verb, group, resource, .. } => {
            is_self_review(group, resource) && verb == "create" && user.is_in(AUTHENTICATED)
        }
    }
}

/// Asking what one may do oneself is everybody's right.
fn is_self_review(group: &str, resource: &str) -> bool {
    matches!(
        (group, resource),
        ("authorization.k8s.io", "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
            | ("authentication.k8s.io", "selfsubjectreviews")
    )
}

/// The answer to whom [`allows`] says no.
pub fn refusal(user: &User, attributes: &Attributes<'_>) -> Status {
    match *attributes {
        Attributes::Path { verb, path } => Status::forbidden_path(&user.name, verb, path),
        Attributes::Resource { verb, group, resource, subresource, namespace, name, .. } => {
            let full = if subresource.is_empty() {
                resource.to_owned()
            } else {
                format!("{resource}/{subresource}")
            };
            let place = match namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            let user = &user.name;
            let why = format!("User {user:?} cannot {verb} resource {full:?} in API group {group:?} {place}");
            let mut status = Status::forbidden(group, resource, name, &why);
            if !subresource.is_empty() {
                let about = if name.is_empty() { String::new() } else { format!(" {name:?}") };
                status.message = format!("{}{about} is forbidden: {why}", qualified(group, resource));
            }
            status
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on<'a>(verb: &'a str, resource: &'a str, namespace: &'a str) -> Attributes<'a> {
        Attributes::Resource { verb, group: "", resource, subresource: "", namespace, name: "", fields: None }
    }

    #[test]
    fn refusals_are_worded_as_kubernetes_words_them() {
        let bob = User::new("bob", &[]);
        let cases = [
            (
                on("list", "pods", "default"),
                r#"pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                on("list", "nodes", ""),
                r#"nodes is forbidden: User "bob" cannot list resource "nodes" in API group "" at the cluster scope"#,
            ),
            (
                Attributes::Path { verb: "get", path: "/metrics" },
                r#"forbidden: User "bob" cannot get path "/metrics""#,
            ),
        ];
        for (attributes, message) in cases {
            assert!(!allows(&bob, &attributes));
            assert_eq!(refusal(&bob, &attributes).message, message);
        }
    }

    #[test]
    fn anonymous_users_see_health_and_version_only() {
        let anonymous = User::anonymous();
        for (path, open) in [
            ("/version", true),
            ("/livez", true),
            ("/readyz/ping", true),
            ("/api", false),
            ("/livezz", false),
        ] {
            assert_eq!(allows(&anonymous, &Attributes::Path { verb: "get", path }), open, "{path}");
        }
        assert!(!allows(&anonymous, &on("get", "pods", "default")));
    }
}

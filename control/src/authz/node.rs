//! The node authorizer: what the agent of one node may do. It gets what its own pods need and nothing else: the pods
//! bound to it, and the secrets, config maps, claims and accounts that those refer to. A stolen node credential must
//! not open the secrets of the cluster. While there are network policies it may follow all pods and namespaces too: whom
//! they let through is told by the labels and addresses of the others.
//!
//! What it may write is decided here only by kind; whether the object is its own, admission checks
//! (`admission/node_restriction.rs`), which sees the object.

use super::Attributes;
use crate::authn::{NODES, User};
use crate::store::{ListQuery, Store};
use knarr_api::{FieldSelector, meta};
use serde_json::Value;

const LEASES: &str = "kube-node-lease";

/// Under what condition a node may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Always,
    Never,
    /// The object bears the node's name.
    OwnName,
    /// A pod bound to the node, or a selection of such pods.
    OwnPods,
    /// A pod bound to the node refers to the object.
    Referenced,
    /// There is a network policy, which the node has to enforce.
    WhilePolicies,
}

/// The node that a user is the agent of.
pub(crate) fn name(user: &User) -> Option<&str> {
    user.name.strip_prefix("system:node:").filter(|_| user.is_in(NODES))
}

/// Whether the user is a node that may do it.
pub(crate) async fn allows(store: &dyn Store, user: &User, attributes: &Attributes<'_>) -> bool {
    let Some(node) = name(user) else { return false };
    let Attributes::Resource { verb, group, resource, subresource, namespace, name, fields } = *attributes
    else {
        return false;
    };
    match rule(verb, group, resource, subresource, namespace) {
        Rule::Always => true,
        Rule::Never => false,
        Rule::OwnName => name == node,
        Rule::OwnPods => {
            selects_own(fields, node)
                || is_own_pod(store, node, namespace, name).await
                || (matches!(verb, "list" | "watch") && has_policies(store).await)
        }
        Rule::WhilePolicies => has_policies(store).await,
        Rule::Referenced => !name.is_empty() && refers(store, node, (resource, namespace, name)).await,
    }
}

fn rule(verb: &str, group: &str, resource: &str, subresource: &str, namespace: &str) -> Rule {
    let reads = matches!(verb, "get" | "list" | "watch");
    let changes = matches!(verb, "update" | "patch");
    let when = |holds: bool, rule: Rule| if holds { rule } else { Rule::Never };
    match (group, resource, subresource) {
        ("", "nodes", "") if verb == "create" => Rule::Always,
        // A node routes the pods of the others to them, so it follows them all, as a service proxy may.
        ("", "nodes", "") if matches!(verb, "list" | "watch") => Rule::Always,
        ("", "nodes", "") => when(reads || changes || verb == "delete", Rule::OwnName),
        ("", "nodes", "status") => when(reads || changes, Rule::OwnName),
        ("", "pods", "") if reads => Rule::OwnPods,
        ("", "pods", "") => when(matches!(verb, "create" | "delete"), Rule::Always),
        ("networking.k8s.io", "networkpolicies", "") => when(reads, Rule::Always),
        ("", "namespaces", "") => when(reads, Rule::WhilePolicies),
        ("", "pods", "status") => when(verb == "get" || changes, Rule::Always),
        ("", "pods", "eviction") | ("", "serviceaccounts", "token") => when(verb == "create", Rule::Always),
        ("", "configmaps" | "secrets" | "serviceaccounts" | "persistentvolumeclaims", "") => {
            when(reads, Rule::Referenced)
        }
        ("", "persistentvolumeclaims", "status") => when(verb == "get" || changes, Rule::Referenced),
        ("" | "events.k8s.io", "events", "") => when(verb == "create" || changes, Rule::Always),
        ("", "services" | "endpoints", "")
        | ("discovery.k8s.io", "endpointslices", "")
        | ("node.k8s.io", "runtimeclasses", "")
        | ("storage.k8s.io", "csidrivers" | "volumeattachments", "") => when(reads, Rule::Always),
        // The directory of a deleted volume is the node's to remove; so is the finalizer that waits for it.
        ("", "persistentvolumes", "") => when(reads || verb == "patch", Rule::Always),
        ("coordination.k8s.io", "leases", "") if namespace != LEASES => Rule::Never,
        ("coordination.k8s.io", "leases", "") | ("storage.k8s.io", "csinodes", "") => match verb {
            "create" => Rule::Always,
            "get" | "update" | "patch" | "delete" => Rule::OwnName,
            _ => Rule::Never,
        },
        ("authentication.k8s.io", "tokenreviews", "")
        | ("authorization.k8s.io", "subjectaccessreviews", "") => when(verb == "create", Rule::Always),
        ("certificates.k8s.io", "certificatesigningrequests", "") => {
            when(reads || verb == "create", Rule::Always)
        }
        _ => Rule::Never,
    }
}

fn selects_own(fields: Option<&FieldSelector>, node: &str) -> bool {
    fields.and_then(|fields| fields.exact("spec.nodeName")) == Some(node)
}

async fn has_policies(store: &dyn Store) -> bool {
    let prefix = "networking.k8s.io/networkpolicies/";
    let query = ListQuery { prefix, limit: Some(1), ..ListQuery::default() };
    store.list(query).await.is_ok_and(|page| !page.entries.is_empty())
}

/// A pod that is gone counts as own: that it is gone is all the node will learn.
async fn is_own_pod(store: &dyn Store, node: &str, namespace: &str, name: &str) -> bool {
    if namespace.is_empty() || name.is_empty() {
        return false;
    }
    match store.get(&format!("core/pods/{namespace}/{name}")).await {
        Ok(Some(pod)) => pod.object().pointer("/spec/nodeName").is_some_and(|bound| bound == node),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Whether a pod of the node, in the object's namespace, refers to it.
async fn refers(store: &dyn Store, node: &str, (resource, namespace, name): (&str, &str, &str)) -> bool {
    if namespace.is_empty() {
        return false;
    }
    let prefix = format!("core/pods/{namespace}/");
    let query = ListQuery { prefix: &prefix, indexed: Some(node), ..ListQuery::default() };
    let Ok(page) = store.list(query).await else { return false };
    let wanted = format!("{resource}/{name}");
    page.entries.iter().any(|pod| pod.field("node:references", references).lines().any(|line| line == wanted))
}

/// `RESOURCE/NAME` of everything that a pod refers to, one a line.
fn references(pod: &Value) -> String {
    let spec = &pod["spec"];
    let mut found = Vec::new();
    collect(spec, &mut found);
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        if volume["ephemeral"].is_object() {
            let name = volume["name"].as_str().unwrap_or_default();
            found.push(format!("persistentvolumeclaims/{}-{name}", meta::name(pod)));
        }
    }
    found.join("\n")
}

/// The fields by which a pod specification names other objects, wherever they stand in it.
fn collect(value: &Value, found: &mut Vec<String>) {
    let named = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            for (field, inner) in fields {
                match field.as_str() {
                    "secretName" => found.push(format!("secrets/{}", inner.as_str().unwrap_or_default())),
                    "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => {
                        found.push(format!("secrets/{}", named(inner)));
                    }
                    "secret" | "configMap" if inner["name"].is_string() => {
                        found.push(format!("{}s/{}", field.to_lowercase(), named(inner)));
                    }
                    "imagePullSecrets" => {
                        let secrets = inner.as_array().into_iter().flatten();
                        found.extend(secrets.map(|secret| format!("secrets/{}", named(secret))));
                    }
                    "configMapRef" | "configMapKeyRef" => found.push(format!("configmaps/{}", named(inner))),
                    "claimName" => {
                        let claim = inner.as_str().unwrap_or_default();
                        found.push(format!("persistentvolumeclaims/{claim}"));
                    }
                    "serviceAccountName" => {
                        let account = inner.as_str().unwrap_or_default();
                        found.push(format!("serviceaccounts/{account}"));
                    }
                    _ => {}
                }
                collect(inner, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_refers_to_what_it_mounts_and_reads() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "builder", "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "a"}}, {"configMapRef": {"name": "b"}}],
                "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "d", "key": "k"}}},
                    {"name": "Y", "valueFrom": {"configMapKeyRef": {"name": "e", "key": "k"}}}]}],
            "volumes": [{"name": "v", "secret": {"secretName": "f"}}, {"name": "w", "configMap": {"name": "g"}},
                {"name": "x", "persistentVolumeClaim": {"claimName": "h"}}, {"name": "y", "ephemeral": {}},
                {"name": "z", "projected": {"sources": [{"secret": {"name": "i"}}, {"configMap": {"name": "j"}}]}}],
        }});
        let text = references(&pod);
        let mut found: Vec<&str> = text.lines().collect();
        found.sort_unstable();
        let wanted = [
            "configmaps/b",
            "configmaps/e",
            "configmaps/g",
            "configmaps/j",
            "persistentvolumeclaims/h",
            "persistentvolumeclaims/p-y",
            "secrets/a",
            "secrets/d",
            "secrets/f",
            "secrets/i",
            "secrets/pull",
            "serviceaccounts/builder",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn every_kind_has_its_condition() {
        let cases = [
            (("create", "", "nodes", ""), Rule::Always),
            (("patch", "", "nodes", "status"), Rule::OwnName),
            (("list", "", "nodes", ""), Rule::Always),
            (("patch", "", "nodes", ""), Rule::OwnName),
            (("watch", "", "pods", ""), Rule::OwnPods),
            (("watch", "networking.k8s.io", "networkpolicies", ""), Rule::Always),
            (("create", "networking.k8s.io", "networkpolicies", ""), Rule::Never),
            (("list", "", "namespaces", ""), Rule::WhilePolicies),
            (("delete", "", "namespaces", ""), Rule::Never),
            (("patch", "", "pods", "status"), Rule::Always),
            (("update", "", "pods", ""), Rule::Never),
            (("get", "", "secrets", ""), Rule::Referenced),
            (("create", "", "secrets", ""), Rule::Never),
            (("update", "", "services", ""), Rule::Never),
            (("get", "coordination.k8s.io", "leases", ""), Rule::Never),
            (("create", "rbac.authorization.k8s.io", "clusterrolebindings", ""), Rule::Never),
        ];
        for ((verb, group, resource, subresource), expected) in cases {
            let found = rule(verb, group, resource, subresource, "kube-system");
            assert_eq!(found, expected, "{verb} {resource}");
        }
        assert_eq!(rule("update", "coordination.k8s.io", "leases", "", LEASES), Rule::OwnName);
    }
}

//! The roles of components and add-ons that Kubernetes brings along: what they are bound to by name in manifests that
//! people install must be there.

use super::RBAC;
use super::roles::{READ, labels, paths, rule};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CERTIFICATES: &str = "certificates.k8s.io";
const STORAGE: &str = "storage.k8s.io";

/// Reporting events.
fn events() -> Vec<Value> {
    ["", "events.k8s.io"].map(|group| rule(group, &["events"], &["create", "patch", "update"])).into()
}

/// Asking who somebody is and what they may do.
fn delegation() -> [Value; 2] {
    [
        rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
        rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
    ]
}

/// The lease of a component that elects its leader.
fn lease(name: &str) -> [Value; 2] {
    let mut own = rule("coordination.k8s.io", &["leases"], &["get", "update"]);
    own["resourceNames"] = json!([name]);
    [rule("coordination.k8s.io", &["leases"], &["create"]), own]
}

fn scheduler() -> Vec<Value> {
    let mut rules = events();
    rules.extend(lease("kube-scheduler"));
    rules.extend(delegation());
    rules.extend([
        rule("", &["nodes", "namespaces", "replicationcontrollers", "services"], &READ),
        rule("", &["pods"], &["delete", "get", "list", "watch"]),
        rule("", &["bindings", "pods/binding"], &["create"]),
        rule("", &["pods/status"], &["patch", "update"]),
        rule("apps", &["replicasets", "statefulsets"], &READ),
        rule("policy", &["poddisruptionbudgets"], &READ),
        rule("", &["persistentvolumeclaims", "persistentvolumes"], &READ),
        rule(STORAGE, &["csinodes", "csidrivers", "csistoragecapacities"], &READ),
    ]);
    rules
}

fn volume_scheduler() -> Vec<Value> {
    let change = ["get", "list", "patch", "update", "watch"];
    vec![
        rule("", &["persistentvolumes", "persistentvolumeclaims"], &change),
        rule(STORAGE, &["storageclasses"], &READ),
    ]
}

fn controller_manager() -> Vec<Value> {
    let mut rules = events();
    rules.extend(lease("kube-controller-manager"));
    rules.extend(delegation());
    rules.extend([
        rule("", &["secrets", "serviceaccounts"], &["create", "get", "update"]),
        rule("", &["secrets"], &["delete"]),
        rule("", &["configmaps", "namespaces"], &["get"]),
        rule("", &["serviceaccounts/token"], &["create"]),
        rule("*", &["*"], &["list", "watch"]),
    ]);
    rules
}

fn provisioner() -> Vec<Value> {
    let mut rules = events();
    rules.extend([
        rule("", &["persistentvolumes"], &["create", "delete", "get", "list", "watch"]),
        rule("", &["persistentvolumeclaims"], &["get", "list", "update", "watch"]),
        rule(STORAGE, &["storageclasses"], &READ),
        rule("", &["events"], &["watch"]),
    ]);
    rules
}

fn problem_detector() -> Vec<Value> {
    let mut rules = events();
    rules.extend([rule("", &["nodes"], &["get"]), rule("", &["nodes/status"], &["patch"])]);
    rules
}

fn kubelet_api() -> Vec<Value> {
    let parts = [
        "nodes/configz",
        "nodes/healthz",
        "nodes/log",
        "nodes/metrics",
        "nodes/pods",
        "nodes/proxy",
        "nodes/stats",
    ];
    vec![rule("", &["nodes"], &READ), rule("", &["nodes"], &["proxy"]), rule("", &parts, &["*"])]
}

/// Approving what one signer signs.
fn approver(signer: &str) -> Vec<Value> {
    let mut own = rule(CERTIFICATES, &["signers"], &["approve"]);
    own["resourceNames"] = json!([format!("kubernetes.io/{signer}")]);
    vec![own]
}

fn issuer_discovery() -> Vec<Value> {
    vec![paths(&[
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
    ])]
}

/// ClusterRole objects.
pub(super) fn cluster_roles() -> Vec<Value> {
    let approves = |signer: &str| (format!("system:certificates.k8s.io:{signer}-approver"), approver(signer));
    let named = |name: &str, rules: Vec<Value>| (format!("system:{name}"), rules);
    let all = [
        named("kube-scheduler", scheduler()),
        named("volume-scheduler", volume_scheduler()),
        named("kube-controller-manager", controller_manager()),
        named("kube-dns", vec![rule("", &["endpoints", "services"], &["list", "watch"])]),
        named("kube-aggregator", vec![rule("", &["endpoints", "services"], &READ)]),
        named("persistent-volume-provisioner", provisioner()),
        named("node-problem-detector", problem_detector()),
        named("kubelet-api-admin", kubelet_api()),
        named("service-account-issuer-discovery", issuer_discovery()),
        approves("kube-apiserver-client"),
        approves("kube-apiserver-client-kubelet"),
        approves("kubelet-serving"),
        approves("legacy-unknown"),
    ];
    let all = all.into_iter().chain(of_controllers());
    let role = |(name, rules): (String, Vec<Value>)| json!({"metadata": {"name": name, "labels": labels(None)}, "rules": rules});
    all.map(role).collect()
}

/// What each controller of Kubernetes may do: a foreign controller manager runs them by accounts of their own.
fn of_controllers() -> impl Iterator<Item = (String, Vec<Value>)> {
    // A text of this program; its tests read it.
    let all: BTreeMap<String, Vec<Value>> =
        serde_json::from_str(include_str!("controller_roles.json")).unwrap_or_default();
    all.into_iter().map(|(name, rules)| (format!("system:controller:{name}"), rules))
}

/// ClusterRoleBinding objects.
pub(super) fn cluster_role_bindings() -> Vec<Value> {
    let user = |name: &str| json!({"apiGroup": RBAC, "kind": "User", "name": name});
    let all = [
        ("kube-scheduler", user("system:kube-scheduler")),
        ("volume-scheduler", user("system:kube-scheduler")),
        ("kube-controller-manager", user("system:kube-controller-manager")),
        ("kube-dns", json!({"kind": "ServiceAccount", "name": "kube-dns", "namespace": "kube-system"})),
        (
            "service-account-issuer-discovery",
            json!({"apiGroup": RBAC, "kind": "Group", "name": "system:serviceaccounts"}),
        ),
    ];
    let binding = |(name, subject): (&str, Value)| {
        bound("ClusterRole", &format!("system:{name}"), &format!("system:{name}"), vec![subject])
    };
    let of_controllers = of_controllers().map(|(role, _)| {
        let account = role.trim_start_matches("system:controller:");
        let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": "kube-system"});
        bound("ClusterRole", &role, &role, vec![subject])
    });
    all.into_iter().map(binding).chain(of_controllers).collect()
}

/// Where add-ons that serve an API of their own find the CA of clients.
pub(super) const AUTHENTICATION: &str = "extension-apiserver-authentication";

/// Role of `kube-system` that reads it.
pub(super) fn authentication_reader() -> Value {
    let mut reads = rule("", &["configmaps"], &READ);
    reads["resourceNames"] = json!([AUTHENTICATION]);
    json!({"metadata": {"name": format!("{AUTHENTICATION}-reader"), "labels": labels(None)}, "rules": [reads]})
}

/// Its binding to those who run with a name of their own.
pub(super) fn authentication_readers() -> Value {
    let user = |name: &str| json!({"apiGroup": RBAC, "kind": "User", "name": name});
    let users = vec![user("system:kube-controller-manager"), user("system:kube-scheduler")];
    let role = format!("{AUTHENTICATION}-reader");
    bound("Role", &role, &format!("system::{role}"), users)
}

fn bound(kind: &str, role: &str, name: &str, subjects: Vec<Value>) -> Value {
    json!({
        "metadata": {"name": name, "labels": labels(None)}, "subjects": subjects,
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_controller_has_its_role_and_its_binding() {
        let roles: Vec<String> = of_controllers().map(|(name, _)| name).collect();
        assert!(roles.len() > 30, "{roles:?}");
        let bindings = cluster_role_bindings();
        for role in roles {
            assert!(bindings.iter().any(|binding| binding["roleRef"]["name"] == role.as_str()), "{role}");
        }
    }
}

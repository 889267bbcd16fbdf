//! The roles that every cluster has: those for people (cluster-admin, admin, edit, view), and what everyone may read.

use serde_json::{Value, json};

/// Everything that lives in a namespace and that its users work with.
const WORKLOADS: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "pods",
            "services",
            "configmaps",
            "endpoints",
            "persistentvolumeclaims",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "serviceaccounts",
            "events",
        ],
    ),
    (
        "apps",
        &[
            "deployments",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
            "daemonsets",
            "controllerrevisions",
        ],
    ),
    ("batch", &["jobs", "cronjobs"]),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("networking.k8s.io", &["ingresses", "networkpolicies"]),
    ("policy", &["poddisruptionbudgets"]),
];

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn view() -> Vec<Value> {
    let mut rules: Vec<Value> =
        WORKLOADS.iter().map(|(group, resources)| rule(group, resources, &READ)).collect();
    rules.push(rule(
        "",
        &["pods/log", "pods/status", "services/status", "namespaces", "limitranges", "resourcequotas"],
        &READ,
    ));
    rules.push(rule("discovery.k8s.io", &["endpointslices"], &READ));
    rules
}

fn edit() -> Vec<Value> {
    let mut rules: Vec<Value> =
        WORKLOADS.iter().map(|(group, resources)| rule(group, resources, &WRITE)).collect();
    rules.extend(view());
    rules.push(rule("", &["secrets"], &WRITE));
    rules.push(rule(
        "",
        &["pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy"],
        &["get", "create"],
    ));
    rules.push(rule("", &["pods/eviction", "serviceaccounts/token"], &["create"]));
    rules
}

fn admin() -> Vec<Value> {
    let mut rules = edit();
    rules.push(rule("rbac.authorization.k8s.io", &["roles", "rolebindings"], &WRITE));
    rules.push(rule("authorization.k8s.io", &["localsubjectaccessreviews"], &["create"]));
    rules
}

fn cluster_admin() -> Vec<Value> {
    vec![rule("*", &["*"], &["*"]), json!({"nonResourceURLs": ["*"], "verbs": ["*"]})]
}

/// ClusterRole objects.
pub(super) fn cluster_roles() -> Vec<Value> {
    let labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    [("cluster-admin", cluster_admin()), ("admin", admin()), ("edit", edit()), ("view", view())]
        .into_iter()
        .map(|(name, rules)| json!({"metadata": {"name": name, "labels": labels}, "rules": rules}))
        .collect()
}

/// ClusterRoleBinding objects.
pub(super) fn cluster_role_bindings() -> Vec<Value> {
    let role =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:masters"});
    let labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    vec![
        json!({"metadata": {"name": "cluster-admin", "labels": labels}, "roleRef": role, "subjects": [subject]}),
    ]
}

//! The roles that every cluster has: those for people (cluster-admin, admin, edit, view), and what everyone may read.

use serde_json::{Value, json};

/// Everything that lives in a namespace and that its users work with.
const WORKLOADS: [(&str, &[&str]); 7] = [
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
    ("coordination.k8s.io", &["leases"]),
];

/// What readers of those see as well.
const STATUSES: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "bindings",
            "namespaces/status",
            "persistentvolumeclaims/status",
            "replicationcontrollers/status",
            "resourcequotas/status",
        ],
    ),
    ("apps", &["daemonsets/status", "deployments/status", "replicasets/status", "statefulsets/status"]),
    ("autoscaling", &["horizontalpodautoscalers/status"]),
    ("batch", &["cronjobs/status", "jobs/status"]),
    ("networking.k8s.io", &["ingresses/status"]),
    ("policy", &["poddisruptionbudgets/status"]),
];

pub(super) const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

pub(super) fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
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
    rules.extend(STATUSES.iter().map(|(group, resources)| rule(group, resources, &READ)));
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
    rules.push(rule("", &["serviceaccounts"], &["impersonate"]));
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

/// A rule about paths that are no resources.
pub(super) fn paths(paths: &[&str]) -> Value {
    json!({"nonResourceURLs": paths, "verbs": ["get"]})
}

/// What everyone may read without a name, and with one.
fn discovery() -> Vec<Value> {
    let rules =
        ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz"];
    vec![paths(&rules), paths(&["/version", "/version/"])]
}

fn public_info() -> Vec<Value> {
    vec![paths(&["/healthz", "/livez", "/readyz", "/version", "/version/"])]
}

fn basic_user() -> Vec<Value> {
    let reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    vec![
        rule("authorization.k8s.io", &reviews, &["create"]),
        rule("authentication.k8s.io", &["selfsubjectreviews"], &["create"]),
    ]
}

const CERTIFICATES: &str = "certificates.k8s.io";

/// Joining a cluster: asking for the certificate of a node.
fn node_bootstrapper() -> Vec<Value> {
    vec![rule(CERTIFICATES, &["certificatesigningrequests"], &["create", "get", "list", "watch"])]
}

fn auth_delegator() -> Vec<Value> {
    vec![
        rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
        rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
    ]
}

fn monitoring() -> Vec<Value> {
    vec![paths(&[
        "/healthz",
        "/healthz/*",
        "/livez",
        "/livez/*",
        "/metrics",
        "/metrics/slis",
        "/readyz",
        "/readyz/*",
    ])]
}

fn node_proxier() -> Vec<Value> {
    vec![
        rule("", &["endpoints", "services"], &["list", "watch"]),
        rule("", &["nodes"], &["get", "list", "watch"]),
        rule("", &["events"], &["create", "patch", "update"]),
        rule("discovery.k8s.io", &["endpointslices"], &["list", "watch"]),
    ]
}

/// Metrics of pods and nodes are read by everyone who reads pods.
fn metrics_reader() -> Vec<Value> {
    vec![rule("metrics.k8s.io", &["pods", "nodes"], &READ)]
}

/// The labels of all roles and bindings made here, and those by which others take up a role.
pub(super) fn labels(aggregated_to: Option<&str>) -> Value {
    let mut labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    if let Some(role) = aggregated_to {
        labels[format!("{AGGREGATE}{role}")] = "true".into();
    }
    labels
}

const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// A role of people: it takes up the rules of every role with its label.
fn aggregate(name: &str, own: Option<&str>, mut rules: Vec<Value>) -> Value {
    rules.extend(metrics_reader());
    let selector = json!({"matchLabels": {format!("{AGGREGATE}{name}"): "true"}});
    json!({
        "metadata": {"name": name, "labels": labels(own)}, "rules": rules,
        "aggregationRule": {"clusterRoleSelectors": [selector]},
    })
}

/// ClusterRole objects.
pub(super) fn cluster_roles() -> Vec<Value> {
    let plain = [
        ("cluster-admin", cluster_admin(), None),
        ("system:aggregate-to-admin", admin(), Some("admin")),
        ("system:aggregate-to-edit", edit(), Some("edit")),
        ("system:aggregate-to-view", view(), Some("view")),
        ("system:aggregated-metrics-reader", metrics_reader(), Some("view")),
        ("system:auth-delegator", auth_delegator(), None),
        ("system:basic-user", basic_user(), None),
        (
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            vec![rule(CERTIFICATES, &["certificatesigningrequests/nodeclient"], &["create"])],
            None,
        ),
        (
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            vec![rule(CERTIFICATES, &["certificatesigningrequests/selfnodeclient"], &["create"])],
            None,
        ),
        ("system:discovery", discovery(), None),
        ("system:monitoring", monitoring(), None),
        ("system:node-bootstrapper", node_bootstrapper(), None),
        ("system:node-proxier", node_proxier(), None),
        ("system:public-info-viewer", public_info(), None),
    ];
    let role = |(name, rules, to): (&str, Vec<Value>, Option<&str>)| json!({"metadata": {"name": name, "labels": labels(to)}, "rules": rules});
    let people = [
        aggregate("admin", None, admin()),
        aggregate("edit", Some("admin"), edit()),
        aggregate("view", Some("edit"), view()),
    ];
    plain.into_iter().map(role).chain(people).collect()
}

const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// ClusterRoleBinding objects.
pub(super) fn cluster_role_bindings() -> Vec<Value> {
    let nodes: &[&str] = &["system:nodes"];
    let bindings: [(&str, &str, &[&str]); 9] = [
        ("cluster-admin", "cluster-admin", &["system:masters"]),
        ("system:basic-user", "system:basic-user", &[AUTHENTICATED]),
        ("system:discovery", "system:discovery", &[AUTHENTICATED]),
        ("system:monitoring", "system:monitoring", &["system:monitoring"]),
        ("system:node-proxier", "system:node-proxier", &["system:node-proxier"]),
        ("system:public-info-viewer", "system:public-info-viewer", &[AUTHENTICATED, UNAUTHENTICATED]),
        ("knarr:node-bootstrapper", "system:node-bootstrapper", &[BOOTSTRAPPERS]),
        (
            "knarr:node-autoapprove",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            &[BOOTSTRAPPERS],
        ),
        ("knarr:node-renewal", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", nodes),
    ];
    let binding = |(name, role, groups): (&str, &str, &[&str])| {
        let group = "rbac.authorization.k8s.io";
        let subject = |name: &&str| json!({"apiGroup": group, "kind": "Group", "name": name});
        let subjects: Vec<Value> = groups.iter().map(subject).collect();
        json!({
            "metadata": {"name": name, "labels": labels(None)}, "subjects": subjects,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        })
    };
    bindings.into_iter().map(binding).collect()
}

//! The flow schemas and priority levels that every cluster has from the beginning: Kubernetes' own.

use serde_json::{Value, json};

const EXTRA_LOW: u64 = 10_000;

/// PriorityLevelConfigurations.
pub(in crate::server) fn levels() -> Vec<Value> {
    vec![
        json!({"metadata": {"name": "exempt"}, "spec": {"type": "Exempt",
            "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}}),
        level("catch-all", 5, 0, None),
        level("global-default", 20, 50, Some((128, 6))),
        level("leader-election", 10, 0, Some((16, 4))),
        level("node-high", 40, 25, Some((64, 6))),
        level("system", 30, 33, Some((64, 6))),
        level("workload-high", 40, 50, Some((128, 6))),
        level("workload-low", 100, 90, Some((128, 6))),
    ]
}

fn level(name: &str, shares: u64, lendable: u64, queuing: Option<(u64, u64)>) -> Value {
    let response = match queuing {
        Some((queues, hand)) => json!({"type": "Queue",
            "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}}),
        None => json!({"type": "Reject"}),
    };
    json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}}})
}

/// FlowSchemas.
pub(in crate::server) fn schemas() -> Vec<Value> {
    let all = || (json!([resource("*", "*", "*")]), json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]));
    let leases = |verbs: &[&str], namespaces: &str| {
        let rule = json!({"verbs": verbs, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
            "namespaces": [namespaces]});
        (json!([rule]), json!([]))
    };
    let lock = ["get", "create", "update"];
    let managers = [user("system:kube-controller-manager"), user("system:kube-scheduler")];
    let high = ("workload-high", "ByNamespace");
    vec![
        schema("exempt", 1, ("exempt", ""), &[group("system:masters")], all()),
        schema(
            "probes",
            2,
            ("exempt", ""),
            &[group("system:unauthenticated"), group("system:authenticated")],
            (json!([]), json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}])),
        ),
        schema(
            "system-leader-election",
            100,
            ("leader-election", "ByUser"),
            &[managers[0].clone(), managers[1].clone(), account("kube-system", "*")],
            leases(&lock, "kube-system"),
        ),
        schema(
            "workload-leader-election",
            200,
            ("leader-election", "ByUser"),
            &[account("kube-system", "*")],
            leases(&lock, "*"),
        ),
        schema(
            "system-node-high",
            400,
            ("node-high", "ByUser"),
            &[group("system:nodes")],
            (
                json!([
                    resource("*", "", "nodes"),
                    resource("*", "", "nodes/status"),
                    resource("*", "coordination.k8s.io", "leases")
                ]),
                json!([]),
            ),
        ),
        schema("system-nodes", 500, ("system", "ByUser"), &[group("system:nodes")], all()),
        schema("kube-controller-manager", 800, high, &managers[..1], all()),
        schema("kube-scheduler", 800, high, &managers[1..], all()),
        schema("kube-system-service-accounts", 900, high, &[account("kube-system", "*")], all()),
        schema(
            "service-accounts",
            9000,
            ("workload-low", "ByUser"),
            &[group("system:serviceaccounts")],
            all(),
        ),
        schema(
            "global-default",
            9900,
            ("global-default", "ByUser"),
            &[group("system:unauthenticated"), group("system:authenticated")],
            all(),
        ),
        schema(
            "catch-all",
            EXTRA_LOW,
            ("catch-all", "ByUser"),
            &[group("system:unauthenticated"), group("system:authenticated")],
            all(),
        ),
    ]
}

fn resource(verb: &str, group: &str, resource: &str) -> Value {
    json!({"verbs": [verb], "apiGroups": [group], "resources": [resource], "clusterScope": true, "namespaces": ["*"]})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}})
}

fn schema(
    name: &str,
    precedence: u64,
    (level, distinguisher): (&str, &str),
    subjects: &[Value],
    (resources, paths): (Value, Value),
) -> Value {
    let mut rule = json!({"subjects": subjects});
    for (field, rules) in [("resourceRules", resources), ("nonResourceRules", paths)] {
        if rules.as_array().is_some_and(|rules| !rules.is_empty()) {
            rule[field] = rules;
        }
    }
    let mut object = json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": precedence,
        "priorityLevelConfiguration": {"name": level}, "rules": [rule]}});
    if !distinguisher.is_empty() {
        object["spec"]["distinguisherMethod"] = json!({"type": distinguisher});
    }
    object
}

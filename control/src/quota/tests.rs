//! Amounts, scopes and messages of quotas, as tables.

use super::*;
use crate::registry::Table;
use serde_json::json;
use std::sync::Arc;

fn row(group: &str, plural: &str) -> Arc<Resource> {
    let version = "v1";
    Table::builtin().find(group, version, plural).unwrap()
}

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn pod(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "1"}}}]},
        "status": {"phase": "Pending", "qosClass": "Burstable"}})
}

#[test]
fn objects_count_under_every_name() {
    let counted =
        |group: &str, plural: &str, object: Value| shown(&of_object(&row(group, plural), &object, now()));
    assert_eq!(
        counted("", "pods", pod("500m")),
        "count/pods=1,cpu=500m,limits.cpu=1,pods=1,requests.cpu=500m"
    );
    let mut ended = pod("500m");
    ended["status"]["phase"] = "Succeeded".into();
    assert_eq!(counted("", "pods", ended), "count/pods=1");
    assert_eq!(counted("apps", "deployments", json!({})), "count/deployments.apps=1");
    assert_eq!(counted("", "secrets", json!({})), "count/secrets=1,secrets=1");
    let service = json!({"spec": {"type": "NodePort", "ports": [{"nodePort": 30000}, {"nodePort": 30001}]}});
    assert_eq!(counted("", "services", service), "count/services=1,services=1,services.nodeports=2");
    let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(
        counted("", "persistentvolumeclaims", claim),
        "count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"
    );
}

#[test]
fn what_is_as_good_as_gone_does_not_count() {
    let counted = |until: &str| {
        let mut dying = pod("500m");
        dying["metadata"] = json!({"deletionTimestamp": until, "deletionGracePeriodSeconds": 30});
        of_object(&row("", "pods"), &dying, now()).contains_key("pods")
    };
    assert!(counted("2026-01-01T00:09:40Z"), "its kubelet may be slow");
    assert!(!counted("2026-01-01T00:09:29Z"));
}

#[test]
fn ports_and_sizes_count_that_are_not_in_the_spec() {
    let ports = json!([{"port": 80}, {"port": 81, "nodePort": 30001}]);
    let node_ports = |allocated: Value| {
        let spec =
            json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": allocated});
        of_object(&row("", "services"), &json!({"spec": spec}), now())["services.nodeports"].to_string()
    };
    assert_eq!(node_ports(Value::Null), "2", "they are about to be allocated");
    assert_eq!(node_ports(json!(false)), "1");
    let claim = |asked: &str, has: Value| {
        let claim = json!({"metadata": {"annotations": {CLASS: "old"}}, "spec": {"storageClassName": "new",
            "resources": {"requests": {"storage": asked}}}, "status": {"allocatedResources": has}});
        of_object(&row("", "persistentvolumeclaims"), &claim, now())
    };
    let shrunk = claim("1Gi", json!({"storage": "3Gi"}));
    assert_eq!(shrunk["requests.storage"].to_string(), "3Gi", "what it has");
    assert_eq!(shrunk["old.storageclass.storage.k8s.io/requests.storage"].to_string(), "3Gi");
    assert_eq!(claim("2Gi", Value::Null)["requests.storage"].to_string(), "2Gi");
}

#[test]
fn a_quota_counts_what_it_constrains_in_its_scopes() {
    let pods = row("", "pods");
    let quota = json!({"spec": {"hard": {"pods": "2", "requests.cpu": "1"}}});
    let all = [pod("500m"), pod("250m")];
    assert_eq!(shown(&usage(&quota, &pods, &all, now())), "pods=2,requests.cpu=750m");
    let scoped = |scope: &str| json!({"spec": {"hard": {"pods": "2"}, "scopes": [scope]}});
    assert_eq!(shown(&usage(&scoped("BestEffort"), &pods, &all, now())), "");
    assert_eq!(shown(&usage(&scoped("NotTerminating"), &pods, &all, now())), "pods=2");
    let by_class = json!({"spec": {"hard": {"pods": "2"}, "scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}});
    let mut high = pod("1");
    high["spec"]["priorityClassName"] = "high".into();
    assert_eq!(shown(&usage(&by_class, &pods, &[high, pod("1")], now())), "pods=1");
}

#[test]
fn what_must_be_specified_is_named() {
    let quota = json!({"spec": {"hard": {"limits.memory": "1Gi", "requests.cpu": "1", "pods": "1"}}});
    let open = json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}});
    let pods = row("", "pods");
    assert_eq!(
        missing(&quota, &pods, &open).unwrap(),
        "must specify limits.memory for: a,b; requests.cpu for: a,b"
    );
    assert_eq!(missing(&json!({"spec": {"hard": {"requests.cpu": "1"}}}), &pods, &pod("1")), None);
    assert!(concerns(&quota, &pods) && !concerns(&quota, &row("", "secrets")));
}

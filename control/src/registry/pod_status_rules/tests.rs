//! Tables: what a status was, what it is to be, and which words refuse that.

use super::*;

fn pod(spec: Value, status: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": spec, "status": status})
}

fn told(spec: &Value, before: Value, after: Value) -> Vec<String> {
    let (old, mut new) = (pod(spec.clone(), before), pod(spec.clone(), after));
    keep(&mut new, &old);
    let mut faults = Faults::default();
    validate(&new, &old, &mut faults);
    let causes = faults.into_causes().into_iter();
    causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

#[test]
fn an_end_is_undone_only_by_a_restart_policy() {
    let ended = |code: i64| json!({"terminated": {"exitCode": code}});
    let running = json!({"running": {}});
    let pods = |policy: &str| {
        json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "own", "restartPolicy": "Always"}],
            "initContainers": [{"name": "i"}, {"name": "sidecar", "restartPolicy": "Always"}]})
    };
    // Policy, list of statuses, container, code of its end, and whether it may run again.
    let table = [
        ("Always", "containerStatuses", "a", 0, true),
        ("OnFailure", "containerStatuses", "a", 1, true),
        ("OnFailure", "containerStatuses", "a", 0, false),
        ("Never", "containerStatuses", "a", 1, false),
        ("Never", "containerStatuses", "own", 0, true),
        ("Always", "initContainerStatuses", "i", 0, true),
        ("OnFailure", "initContainerStatuses", "i", 0, false),
        ("OnFailure", "initContainerStatuses", "i", 2, true),
        ("Never", "initContainerStatuses", "i", 2, false),
        ("Never", "initContainerStatuses", "sidecar", 0, true),
        ("Always", "ephemeralContainerStatuses", "e", 1, false),
    ];
    for (policy, list, name, code, allowed) in table {
        let status = |state: &Value| json!({list: [{"name": name, "state": state}]});
        let found = told(&pods(policy), status(&ended(code)), status(&running));
        let refused =
            format!("status.{list}[0].state: Forbidden: may not be transitioned to non-terminated state");
        let wanted = if allowed { vec![] } else { vec![refused] };
        assert_eq!(found, wanted, "{policy} {list} {name} {code}");
        assert!(told(&pods(policy), status(&ended(code)), status(&ended(code))).is_empty());
        assert!(told(&pods(policy), status(&ended(code)), json!({})).is_empty());
    }
}

#[test]
fn what_a_client_leaves_out_stays() {
    let before = json!({"qosClass": "Burstable", "observedGeneration": 3,
        "conditions": [{"type": "Ready", "observedGeneration": 2}, {"type": "PodScheduled"}]});
    let mut old = pod(json!({"nodeName": "n"}), before);
    old["metadata"]["ownerReferences"] = json!([{"name": "set"}]);
    let given = json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.2"}],
        "conditions": [{"type": "Ready"}, {"type": "PodScheduled", "observedGeneration": 4}]});
    let mut new = pod(json!({"nodeName": "n"}), given);
    keep(&mut new, &old);
    assert_eq!(new["metadata"]["ownerReferences"], old["metadata"]["ownerReferences"]);
    let status = json!({"qosClass": "Burstable", "observedGeneration": 3,
        "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": "Ready", "observedGeneration": 2}, {"type": "PodScheduled", "observedGeneration": 4}]});
    assert_eq!(new["status"], status);
}

#[test]
fn faults_name_the_field() {
    let spec = json!({"nodeName": "n", "restartPolicy": "Always", "resourceClaims": [{"name": "gpu"}],
        "containers": [{"name": "a"}]});
    let of = |list: &str, status: Value| json!({list: [status]});
    let table = [
        (
            json!({"conditions": [{"type": "my condition"}]}),
            "status.conditions[0].Type: Invalid value: \"my condition\": name part must consist of",
        ),
        (
            json!({"conditions": [{"type": "Ready", "observedGeneration": -1}]}),
            "status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer",
        ),
        (
            json!({"observedGeneration": -1}),
            "status.observedGeneration: Invalid value: -1: must be a non-negative integer",
        ),
        (
            json!({"nominatedNodeName": "M"}),
            "status.nominatedNodeName: Invalid value: \"M\": a lowercase RFC 1123 subdomain must",
        ),
        (
            json!({"qosClass": "Guaranteed"}),
            "status.qosClass: Invalid value: \"Guaranteed\": field is immutable",
        ),
        (
            json!({"podIPs": [{"ip": "x"}]}),
            "status.podIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
            "status.podIPs: Invalid value: [{\"IP\":\"10.0.0.1\"},{\"IP\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family",
        ),
        (
            json!({"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}]}),
            "status.hostIPs[0].ip: Invalid value: \"10.0.0.2\": must be equal to `hostIP`",
        ),
        (
            of("resourceClaimStatuses", json!({"name": "no"})),
            "status.resourceClaimStatuses[0].name: Invalid value: \"no\": must match the name of an entry in `spec.resourceClaims`",
        ),
        (
            of("containerStatuses", json!({"name": "a", "user": {"linux": {"uid": -1, "gid": 0}}})),
            "status.containerStatuses[0].user.linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
    ];
    for (after, words) in table {
        let found = told(&spec, json!({"qosClass": "Burstable"}), after.clone());
        assert!(found.len() == 1 && found[0].starts_with(words), "{after}: {found:?}");
    }
    let good = json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "hostIP": "10.0.0.1",
        "hostIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "example.com/gate"}],
        "resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}],
        "containerStatuses": [{"name": "a", "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [5]}}}]});
    assert_eq!(told(&spec, json!({}), good), Vec::<String>::new());
}

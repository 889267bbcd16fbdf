//! Levels against pods, with the texts that Kubernetes prints.

use super::*;
use serde_json::json;

fn namespace(level: &str) -> Value {
    json!({"metadata": {"name": "n", "labels": {format!("{LABEL}enforce"): level}}})
}

fn violation(level: &str, pod: &Value) -> Option<String> {
    Policy::of(&namespace(level), "enforce").violation(pod)
}

#[test]
fn a_plain_pod_keeps_baseline_but_not_restricted() {
    let pod = json!({"spec": {"containers": [{"name": "nginx"}]}});
    assert_eq!(violation("privileged", &pod), None);
    assert_eq!(violation("baseline", &pod), None);
    let expected = r#"violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "nginx" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "nginx" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "nginx" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "nginx" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#;
    assert_eq!(violation("restricted", &pod).unwrap(), expected);
}

#[test]
fn a_careful_pod_keeps_restricted() {
    let pod = json!({"spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }});
    assert_eq!(violation("restricted", &pod), None);
}

#[test]
fn what_leads_out_of_a_container_is_named() {
    let cases = [
        (json!({"hostNetwork": true, "hostPID": true}), "host namespaces (hostNetwork=true, hostPID=true)"),
        (json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), r#"hostPath volumes (volume "v")"#),
        (
            json!({"containers": [{"name": "a", "securityContext": {"privileged": true}}, {"name": "b", "securityContext": {"privileged": true}}]}),
            r#"privileged (containers "a", "b" must not set securityContext.privileged=true)"#,
        ),
        (
            json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}]}]}),
            r#"hostPort (container "a" uses hostPort 80)"#,
        ),
        (
            json!({"containers": [{"name": "a", "securityContext": {"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}}}]}),
            r#"non-default capabilities (container "a" must not include "NET_ADMIN" in securityContext.capabilities.add)"#,
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            r#"seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")"#,
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
    ];
    for (spec, expected) in cases {
        let found = violation("baseline", &json!({"spec": spec})).unwrap();
        assert_eq!(found, format!(r#"violate PodSecurity "baseline:latest": {expected}"#));
    }
}

#[test]
fn labels_are_checked_and_existing_pods_named() {
    assert!(label_faults(&namespace("restricted")).is_empty());
    assert_eq!(
        label_faults(&namespace("strict"))[0].message,
        r#"Invalid value: "strict": must be one of privileged, baseline, restricted"#
    );
    let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"hostPID": true}});
    let policy = Policy::of(&namespace("baseline"), "enforce");
    assert_eq!(
        existing_warnings("n", &policy, &[pod("a"), pod("b")]),
        [
            r#"existing pods in namespace "n" violate the new PodSecurity enforce level "baseline:latest""#,
            "a (and 1 other pod): host namespaces"
        ]
    );
}

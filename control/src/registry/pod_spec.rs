//! The specification of a pod, alone or in the template of a workload: defaults and rules.

use super::faults::Faults;
use super::{
    containers, fields, pod_names, pod_placement, pod_resources, pod_security_context, resource_claims,
    volumes,
};
use serde_json::{Value, json};

/// Seconds a pod stays on a node that is not ready or cannot be reached.
const LOST_NODE_SECONDS: i64 = 300;
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// The documented defaults, as far as templates have them too.
pub(super) fn template_defaults(spec: &mut Value) {
    fields::fill_text(spec, "dnsPolicy", "ClusterFirst");
    fields::fill_text(spec, "restartPolicy", "Always");
    fields::fill(spec, "terminationGracePeriodSeconds", 30);
    fields::fill_text(spec, "schedulerName", "default-scheduler");
    fields::fill(spec, "securityContext", json!({}));
    let own_account = fields::text(spec, "/serviceAccountName").to_owned();
    if !own_account.is_empty() {
        fields::fill_text(spec, "serviceAccount", &own_account);
    }
    let host_network = fields::flag(spec, "/hostNetwork");
    for group in CONTAINERS {
        for container in fields::each(spec, group) {
            containers::defaults(container, host_network);
        }
    }
    for volume in fields::each(spec, "volumes") {
        volumes::defaults(volume);
    }
}

/// The defaults of a pod itself.
pub(super) fn defaults(spec: &mut Value) {
    template_defaults(spec);
    fields::fill(spec, "enableServiceLinks", true);
    fields::fill_text(spec, "serviceAccountName", "default");
    let account = fields::text(spec, "/serviceAccountName").to_owned();
    fields::fill_text(spec, "serviceAccount", &account);
    for group in ["containers", "initContainers"] {
        for container in fields::each(spec, group) {
            containers::request_what_is_limited(container);
        }
    }
    pod_resources::defaults(spec);
}

/// A pod leaves a lost node after five minutes, unless it says otherwise.
pub(super) fn tolerate_lost_nodes(spec: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let mut tolerations = fields::list(spec, "/tolerations").to_vec();
        let covered = tolerations.iter().any(|toleration| {
            let (own, effect) = (fields::text(toleration, "/key"), fields::text(toleration, "/effect"));
            (own == key || own.is_empty()) && matches!(effect, "NoExecute" | "")
        });
        if !covered {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LOST_NODE_SECONDS,
            }));
            fields::set(spec, "tolerations", tolerations.into());
        }
    }
}

/// Every fault of a pod specification at `path`.
pub(super) fn validate(spec: &Value, path: &str, restart_policies: &[&str], faults: &mut Faults) {
    let volumes = volumes::validate(spec, path, faults);
    if fields::list(spec, "/containers").is_empty() {
        faults.required(format!("{path}.containers"), "");
    }
    resource_claims::of_pod(spec, path, faults);
    containers::validate_all(spec, path, &volumes, faults);
    pod_resources::validate(spec, path, faults);
    let restart = fields::text(spec, "/restartPolicy");
    if !restart_policies.contains(&restart) {
        faults.not_supported(format!("{path}.restartPolicy"), restart, restart_policies);
    }
    numbers(spec, path, faults);
    pod_names::validate(spec, path, faults);
    pod_security_context::validate(spec, path, faults);
    pod_placement::validate(spec, path, faults);
}

fn numbers(spec: &Value, path: &str, faults: &mut Faults) {
    let deadline = fields::int(spec, "/activeDeadlineSeconds");
    if let Some(value) = deadline.filter(|value| !(1..=i64::from(i32::MAX)).contains(value)) {
        let detail = "must be between 1 and 2147483647, inclusive";
        faults.invalid(format!("{path}.activeDeadlineSeconds"), &json!(value), detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_kubernetes() {
        let mut spec = json!({"containers": [{"name": "c", "image": "busybox", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1"}}, "readinessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "s"}}]});
        defaults(&mut spec);
        tolerate_lost_nodes(&mut spec);
        assert_eq!(spec["restartPolicy"], "Always");
        assert_eq!(spec["terminationGracePeriodSeconds"], 30);
        assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
        let container = &spec["containers"][0];
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
        assert_eq!(container["ports"][0]["protocol"], "TCP");
        assert_eq!(container["resources"]["requests"]["cpu"], "1");
        let probe = json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
            "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3});
        assert_eq!(container["readinessProbe"], probe);
        assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
        let once = spec.clone();
        defaults(&mut spec);
        tolerate_lost_nodes(&mut spec);
        assert_eq!(spec, once, "defaulting twice changes nothing");
    }

    #[test]
    fn faults_name_the_field() {
        let check = |spec: Value| {
            let (mut spec, mut faults) = (spec, Faults::default());
            defaults(&mut spec);
            validate(&spec, "spec", &["Always", "OnFailure", "Never"], &mut faults);
            let causes = faults.into_causes().into_iter();
            causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        assert_eq!(check(json!({})), ["spec.containers: Required value"]);
        assert_eq!(
            check(json!({"containers": [{"name": "a"}, {"name": "a", "image": "i",
                "volumeMounts": [{"name": "gone", "mountPath": "/x"}],
                "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}], "restartPolicy": "Sometimes"})),
            [
                "spec.containers[0].image: Required value",
                "spec.containers[1].name: Duplicate value: \"a\"",
                "spec.containers[1].volumeMounts[0].name: Not found: \"gone\"",
                "spec.containers[1].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ]
        );
    }
}

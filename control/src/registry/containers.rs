//! Containers of a pod: defaults and rules.

use super::faults::Faults;
use super::service_ports::PROTOCOLS;
use super::volumes::Volumes;
use super::{container_inputs, fields, pod_security_context, probes, resource_claims, resources, validation};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

/// The documented defaults of one container.
pub(super) fn defaults(container: &mut Value, host_network: bool) {
    fields::fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fields::fill_text(container, "terminationMessagePolicy", "File");
    let policy = if is_moving_tag(fields::text(container, "/image")) { "Always" } else { "IfNotPresent" };
    fields::fill_text(container, "imagePullPolicy", policy);
    fields::fill(container, "resources", json!({}));
    for port in fields::each(container, "ports") {
        fields::fill_text(port, "protocol", "TCP");
        if host_network {
            let number = fields::int(port, "/containerPort").unwrap_or(0);
            fields::fill_int(port, "hostPort", number);
        }
    }
    for variable in fields::each(container, "env") {
        if let Some(reference) = variable.pointer_mut("/valueFrom/fieldRef") {
            fields::fill_text(reference, "apiVersion", "v1");
        }
        if let Some(reference) = variable.pointer_mut("/valueFrom/resourceFieldRef") {
            fields::fill(reference, "divisor", "0");
        }
    }
    probes::defaults(container);
}

/// Whether the tag of an image reference is `latest`, said or unsaid.
fn is_moving_tag(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// A container that limits a resource without asking for it asks for as much.
pub(super) fn request_what_is_limited(container: &mut Value) {
    let limits = container.pointer("/resources/limits").and_then(Value::as_object).cloned();
    let Some(resources) = limits.as_ref().and_then(|_| container.get_mut("resources")) else { return };
    let Some(requests) = fields::child(resources, "requests") else { return };
    for (name, limit) in limits.unwrap_or_default() {
        fields::fill(requests, &name, limit);
    }
}

/// Every fault of the containers of a pod specification, init and ephemeral ones included.
pub(super) fn validate_all(spec: &Value, path: &str, volumes: &Volumes, faults: &mut Faults) {
    let mut names = BTreeSet::new();
    for group in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in fields::list(spec, &format!("/{group}")).iter().enumerate() {
            let path = format!("{path}.{group}[{index}]");
            let name = fields::text(container, "/name");
            match name {
                "" => faults.required(format!("{path}.name"), ""),
                name => validation::dns_label(&format!("{path}.name"), name, faults),
            }
            if !name.is_empty() && !names.insert(name.to_owned()) {
                faults.duplicate(format!("{path}.name"), &json!(name));
            }
            validate(container, spec, &path, volumes, faults);
            match (group, fields::text(container, "/restartPolicy")) {
                ("initContainers", "Always") => {}
                ("initContainers", policy) => {
                    if !policy.is_empty() {
                        faults.not_supported(format!("{path}.restartPolicy"), policy, &["Always"]);
                    }
                    ends_by_itself(container, &path, faults);
                }
                ("containers", policy) if !policy.is_empty() => {
                    faults
                        .forbidden(format!("{path}.restartPolicy"), "may not be set for non-init containers");
                }
                ("ephemeralContainers", _) => only_looks(container, &path, faults),
                _ => {}
            }
        }
        host_ports(spec, group, path, faults);
    }
}

fn validate(container: &Value, spec: &Value, path: &str, volumes: &Volumes, faults: &mut Faults) {
    match fields::text(container, "/image") {
        "" => faults.required(format!("{path}.image"), ""),
        image if image.trim() != image => {
            faults.invalid(
                format!("{path}.image"),
                &json!(image),
                "must not have leading or trailing whitespace",
            );
        }
        _ => {}
    }
    let policy = fields::text(container, "/imagePullPolicy");
    if !PULL_POLICIES.contains(&policy) {
        faults.not_supported(format!("{path}.imagePullPolicy"), policy, &PULL_POLICIES);
    }
    match fields::text(container, "/terminationMessagePolicy") {
        "File" | "FallbackToLogsOnError" => {}
        other => faults.not_supported(
            format!("{path}.terminationMessagePolicy"),
            other,
            &["FallbackToLogsOnError", "File"],
        ),
    }
    ports(container, path, fields::flag(spec, "/hostNetwork"), faults);
    container_inputs::environment(container, path, faults);
    container_inputs::mounts(container, path, volumes, faults);
    container_inputs::devices(container, path, volumes, faults);
    probes::validate(container, path, faults);
    let grace = fields::int(spec, "/terminationGracePeriodSeconds").unwrap_or(30);
    probes::hooks(container, grace, path, faults);
    resources::validate(container.get("resources"), &format!("{path}.resources"), faults);
    resource_claims::of_container(container, spec, &format!("{path}.resources.claims"), faults);
    resize_policy(container, fields::text(spec, "/restartPolicy"), &format!("{path}.resizePolicy"), faults);
    pod_security_context::of_container(container, spec, path, faults);
}

/// What a container needs to take up more or less of a resource. Kubernetes tells all of it at the list itself.
fn resize_policy(container: &Value, restart: &str, path: &str, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, rule) in fields::list(container, "/resizePolicy").iter().enumerate() {
        let (resource, policy) = (fields::text(rule, "/resourceName"), fields::text(rule, "/restartPolicy"));
        if !seen.insert(resource) {
            faults.duplicate(format!("{path}[{index}]"), &json!(resource));
        }
        for (text, known) in [(resource, ["cpu", "memory"]), (policy, ["NotRequired", "RestartContainer"])] {
            match text {
                "" => faults.required(path, ""),
                text if known.contains(&text) => {}
                other => faults.not_supported(path, other, &known),
            }
        }
        if restart == "Never" && policy != "NotRequired" {
            faults.invalid(path, &json!(policy), "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

/// A container that runs before the others has no life in which it could be asked or told anything.
fn ends_by_itself(container: &Value, path: &str, faults: &mut Faults) {
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if container.get(field).is_some() {
            let detail = "may not be set for init containers without restartPolicy=Always";
            faults.forbidden(format!("{path}.{field}"), detail);
        }
    }
}

/// A container that somebody looks into a pod with gives it nothing and takes nothing from it.
fn only_looks(container: &Value, path: &str, faults: &mut Faults) {
    const DETAIL: &str = "cannot be set for an Ephemeral Container";
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    for field in [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ] {
        if container.get(field).is_some_and(is_set) {
            faults.forbidden(format!("{path}.{field}"), DETAIL);
        }
    }
    for (index, mount) in fields::list(container, "/volumeMounts").iter().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !fields::text(mount, &format!("/{field}")).is_empty() {
                faults.forbidden(format!("{path}.volumeMounts[{index}].{field}"), DETAIL);
            }
        }
    }
}

/// No two containers listen on one port of the node.
fn host_ports(spec: &Value, group: &str, path: &str, faults: &mut Faults) {
    let mut taken = BTreeSet::new();
    for (index, container) in fields::list(spec, &format!("/{group}")).iter().enumerate() {
        for (at, port) in fields::list(container, "/ports").iter().enumerate() {
            let host = fields::int(port, "/hostPort").unwrap_or(0);
            let (protocol, address) = (fields::text(port, "/protocol"), fields::text(port, "/hostIP"));
            let shown = format!("{protocol}/{address}/{host}");
            if host != 0 && !taken.insert(shown.clone()) {
                faults.duplicate(format!("{path}.{group}[{index}].ports[{at}].hostPort"), &json!(shown));
            }
        }
    }
}

fn ports(container: &Value, path: &str, host_network: bool, faults: &mut Faults) {
    let mut names = BTreeSet::new();
    for (index, port) in fields::list(container, "/ports").iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        let name = fields::text(port, "/name");
        if !name.is_empty() {
            validation::port_name(&format!("{path}.name"), name, faults);
            if !names.insert(name) {
                faults.duplicate(format!("{path}.name"), &json!(name));
            }
        }
        let number = fields::int(port, "/containerPort").unwrap_or(0);
        match number {
            0 => faults.required(format!("{path}.containerPort"), ""),
            number => validation::port_number(&format!("{path}.containerPort"), number, faults),
        }
        if let Some(host) = fields::int(port, "/hostPort").filter(|host| *host != 0) {
            validation::port_number(&format!("{path}.hostPort"), host, faults);
            if host_network && host != number {
                faults.invalid(
                    format!("{path}.hostPort"),
                    &json!(host),
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
        let protocol = fields::text(port, "/protocol");
        if !PROTOCOLS.contains(&protocol) {
            faults.not_supported(format!("{path}.protocol"), protocol, &PROTOCOLS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_some_containers_have() {
        let found = |group: &str, extra: Value| -> Vec<String> {
            let mut container = json!({"name": "x", "image": "i:1"});
            container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            defaults(&mut container, false);
            let (spec, mut faults) = (json!({group: [container]}), Faults::default());
            validate_all(&spec, "spec", &Volumes::new(), &mut faults);
            faults
                .into_causes()
                .into_iter()
                .map(|cause| format!("{}: {}", cause.field, cause.message))
                .collect()
        };
        for group in ["containers", "initContainers", "ephemeralContainers"] {
            assert!(found(group, json!({})).is_empty(), "{group}");
        }
        assert_eq!(
            found("containers", json!({"restartPolicy": "Always"})),
            ["spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers"]
        );
        assert!(found("initContainers", json!({"restartPolicy": "Always"})).is_empty());
        assert_eq!(
            found("initContainers", json!({"restartPolicy": "Never"})),
            [
                r#"spec.initContainers[0].restartPolicy: Unsupported value: "Never": supported values: "Always""#
            ]
        );
        let looking = found(
            "ephemeralContainers",
            json!({"ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}, "restartPolicy": "Always",
                "readinessProbe": {"exec": {"command": ["true"]}}}),
        );
        let words = "Forbidden: cannot be set for an Ephemeral Container";
        for field in ["ports", "resources", "restartPolicy", "readinessProbe"] {
            assert!(
                looking.contains(&format!("spec.ephemeralContainers[0].{field}: {words}")),
                "{looking:?}"
            );
        }
    }

    #[test]
    fn images_that_move_are_always_pulled() {
        for (image, moving) in [
            ("busybox", true),
            ("busybox:latest", true),
            ("busybox:1", false),
            ("host:5000/busybox", true),
            ("host:5000/busybox:1", false),
            ("busybox@sha256:0", false),
        ] {
            assert_eq!(is_moving_tag(image), moving, "{image}");
        }
    }
}

//! What a container is given: environment variables, whole sources of them, mounts, and fields of its own pod.

use super::faults::Faults;
use super::volumes::Volumes;
use super::{fields, validation};
use knarr_api::names;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const VARIABLE: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const MORE_THAN_ONE: &str = "may not have more than one field specified at a time";
/// Fields of a pod that a variable can hold.
const FOR_VARIABLES: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file can hold.
pub(super) const FOR_FILES: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Further fields that can be selected by, but not be shown.
const KNOWN: [&str; 6] = [
    "metadata.annotations",
    "metadata.labels",
    "spec.hostNetwork",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
];
const AMOUNTS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Every fault of the variables of a container.
pub(super) fn environment(container: &Value, path: &str, faults: &mut Faults) {
    for (index, variable) in fields::list(container, "/env").iter().enumerate() {
        let path = format!("{path}.env[{index}]");
        match fields::text(variable, "/name") {
            "" => faults.required(format!("{path}.name"), ""),
            name => variable_name(name, &format!("{path}.name"), faults),
        }
        let Some(source) = variable.get("valueFrom") else { continue };
        let path = format!("{path}.valueFrom");
        if !fields::text(variable, "/value").is_empty() {
            faults.invalid(path.as_str(), &json!(""), "may not be specified when `value` is not empty");
        }
        value_source(source, &path, faults);
    }
    for (index, source) in fields::list(container, "/envFrom").iter().enumerate() {
        all_of(source, &format!("{path}.envFrom"), index, faults);
    }
}

fn variable_name(name: &str, field: &str, faults: &mut Faults) {
    if !name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        faults.invalid(field, &json!(name), VARIABLE);
    }
}

fn value_source(source: &Value, path: &str, faults: &mut Faults) {
    if let Some(reference) = source.get("fieldRef") {
        field_reference(reference, &FOR_VARIABLES, &format!("{path}.fieldRef"), faults);
    }
    if let Some(reference) = source.get("resourceFieldRef") {
        amount_reference(reference, false, &format!("{path}.resourceFieldRef"), faults);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        let Some(reference) = source.get(kind) else { continue };
        let path = format!("{path}.{kind}");
        let name = fields::text(reference, "/name");
        validation::named(&format!("{path}.name"), name, names::dns1123_subdomain, faults);
        match fields::text(reference, "/key") {
            "" => faults.required(format!("{path}.key"), ""),
            key => validation::config_key(&format!("{path}.key"), key, faults),
        }
    }
    match source.as_object().map_or(0, Map::len) {
        1 => {}
        0 => {
            let detail =
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
            faults.invalid(path, &json!(""), detail);
        }
        _ => faults.invalid(path, &json!(""), MORE_THAN_ONE),
    }
}

fn all_of(source: &Value, list: &str, index: usize, faults: &mut Faults) {
    let path = format!("{list}[{index}]");
    variable_name(fields::text(source, "/prefix"), &format!("{path}.prefix"), faults);
    let mut given = 0;
    for kind in ["configMapRef", "secretRef"] {
        if let Some(reference) = source.get(kind) {
            given += 1;
            let name = fields::text(reference, "/name");
            let field = format!("{path}.{kind}.name");
            validation::required_name(&field, name, names::dns1123_subdomain, faults);
        }
    }
    match given {
        0 => faults.invalid(list, &json!(""), "must specify one of: `configMapRef` or `secretRef`"),
        1 => {}
        _ => faults.invalid(list, &json!(""), MORE_THAN_ONE),
    }
}

/// A field of the pod, one of `allowed` or one label or annotation.
pub(super) fn field_reference(reference: &Value, allowed: &[&str], path: &str, faults: &mut Faults) {
    let (text, field) = (fields::text(reference, "/fieldPath"), format!("{path}.fieldPath"));
    if text.is_empty() {
        faults.required(field, "");
        return;
    }
    if let Some((map, key)) = text.strip_suffix("']").and_then(|text| text.split_once("['")) {
        match map {
            "metadata.labels" => validation::named(path, key, names::qualified_name, faults),
            "metadata.annotations" => {
                validation::named(path, &key.to_lowercase(), names::qualified_name, faults);
            }
            _ => faults.invalid(path, &json!(map), "does not support subscript"),
        }
        return;
    }
    match text {
        text if allowed.contains(&text) => {}
        text if KNOWN.contains(&text) || FOR_VARIABLES.contains(&text) => {
            faults.not_supported(field, text, allowed);
        }
        text => {
            let detail = format!("error converting fieldPath: field label not supported: {text}");
            faults.invalid(field, &json!(text), &detail);
        }
    }
}

/// An amount that a container asks for or may use; in a file it must say of which container.
pub(super) fn amount_reference(reference: &Value, in_file: bool, path: &str, faults: &mut Faults) {
    if in_file && fields::text(reference, "/containerName").is_empty() {
        faults.required(format!("{path}.containerName"), "");
        return;
    }
    match fields::text(reference, "/resource") {
        "" => faults.required(format!("{path}.resource"), ""),
        name if AMOUNTS.contains(&name) => {}
        name if name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-") => {}
        other => faults.not_supported(format!("{path}.resource"), other, &AMOUNTS),
    }
}

/// Every fault of the mounts and devices of a container; `volumes` are those that they may use. Kubernetes leaves out the
/// index of the mount in some of the fields.
pub(super) fn mounts(container: &Value, path: &str, volumes: &Volumes, faults: &mut Faults) {
    let mut paths = BTreeSet::new();
    let list = format!("{path}.volumeMounts");
    let is_device = |field: &str, text: &str| {
        fields::list(container, "/volumeDevices").iter().any(|device| fields::text(device, field) == text)
    };
    for (index, mount) in fields::list(container, "/volumeMounts").iter().enumerate() {
        let path = format!("{list}[{index}]");
        let name = fields::text(mount, "/name");
        if name.is_empty() {
            faults.required(format!("{path}.name"), "");
        }
        if !volumes.contains_key(name) {
            faults.not_found(format!("{path}.name"), &json!(name));
        }
        let target = fields::text(mount, "/mountPath");
        if target.is_empty() {
            faults.required(format!("{path}.mountPath"), "");
        }
        if !paths.insert(target) {
            faults.invalid(format!("{path}.mountPath"), &json!(target), "must be unique");
        }
        if is_device("/name", name) {
            faults.invalid(format!("{path}.name"), &json!(name), "must not already exist in volumeDevices");
        }
        if is_device("/devicePath", target) {
            let detail = "must not already exist as a path in volumeDevices";
            faults.invalid(format!("{path}.mountPath"), &json!(target), detail);
        }
        let (within, expression) = (fields::text(mount, "/subPath"), fields::text(mount, "/subPathExpr"));
        descending(within, &format!("{list}.subPath"), faults);
        if !within.is_empty() && !expression.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            faults.invalid(format!("{path}.subPathExpr"), &json!(expression), detail);
        }
        descending(expression, &format!("{list}.subPathExpr"), faults);
        sharing(mount, container, &list, faults);
    }
}

/// Every fault of the block devices that a container is given: they come from claims alone.
pub(super) fn devices(container: &Value, path: &str, volumes: &Volumes, faults: &mut Faults) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    let is_mount = |field: &str, text: &str| {
        fields::list(container, "/volumeMounts").iter().any(|mount| fields::text(mount, field) == text)
    };
    for (index, device) in fields::list(container, "/volumeDevices").iter().enumerate() {
        let (name, at) = (fields::text(device, "/name"), fields::text(device, "/devicePath"));
        let (name_field, path_field) = (
            format!("{path}.volumeDevices[{index}].name"),
            format!("{path}.volumeDevices[{index}].devicePath"),
        );
        if name.is_empty() {
            faults.required(name_field.as_str(), "");
        } else if !names.insert(name) {
            faults.invalid(name_field.as_str(), &json!(name), "must be unique");
        }
        match volumes.get(name) {
            Some(true) => {}
            Some(false) => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                faults.invalid(name_field.as_str(), &json!(name), detail);
            }
            None => faults.not_found(name_field.as_str(), &json!(name)),
        }
        if at.is_empty() {
            faults.required(path_field.as_str(), "");
        }
        if paths.contains(at) {
            faults.invalid(path_field.as_str(), &json!(at), "must be unique");
        }
        if at.split('/').any(|part| part == "..") {
            faults.invalid(path_field.as_str(), &json!(at), "can not contain backsteps ('..')");
        } else {
            paths.insert(at);
        }
        if is_mount("/name", name) {
            faults.invalid(name_field, &json!(name), "must not already exist in volumeMounts");
        }
        if is_mount("/mountPath", at) {
            faults.invalid(path_field, &json!(at), "must not already exist as a path in volumeMounts");
        }
    }
}

/// How mounts below travel, and whether all of them are read-only.
fn sharing(mount: &Value, container: &Value, list: &str, faults: &mut Faults) {
    let (propagation, field) = (fields::text(mount, "/mountPropagation"), format!("{list}.mountPropagation"));
    let known = ["Bidirectional", "HostToContainer", "None"];
    validation::optional_choice(&field, propagation, &known, faults);
    if propagation == "Bidirectional" && !fields::flag(container, "/securityContext/privileged") {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        faults.forbidden(field, detail);
    }
    let (all, field) = (fields::text(mount, "/recursiveReadOnly"), format!("{list}.recursiveReadOnly"));
    let known = ["Disabled", "Enabled", "IfPossible"];
    validation::optional_choice(&field, all, &known, faults);
    if matches!(all, "Enabled" | "IfPossible") {
        if !fields::flag(mount, "/readOnly") {
            faults.forbidden(field, "may only be specified when readOnly is true");
        } else if !matches!(propagation, "" | "None") {
            let detail = "may only be specified when mountPropagation is None or not specified";
            faults.forbidden(field, detail);
        }
    }
}

/// A path below a directory.
pub(super) fn descending(path: &str, field: &str, faults: &mut Faults) {
    if path.starts_with('/') {
        faults.invalid(field, &json!(path), "must be a relative path");
    }
    super::volume_sources::without_climbing(path, field, faults);
}

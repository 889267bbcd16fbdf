//! What is stored as it was sent, but does not do what its author may think: told in `Warning` headers, which kubectl
//! prints. The words are Kubernetes' own.

use super::{fields, resources};
use knarr_api::names;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Labels of nodes that have new names: old name, since when, new name.
const RENAMED: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];
/// Sources of volumes that are going or gone, and the names that messages give them.
const LEAVING: [(&str, &str, &str); 10] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("flexVolume", "flexVolume", "deprecated in v1.23; use a CSI driver instead"),
];
const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";
const BYTES: [&str; 2] = ["ephemeral-storage", "memory"];

/// Of a pod alone.
pub(super) fn of_pod(pod: &Value) -> Vec<String> {
    let mut found = of_name(pod, "the Pod's hostname");
    found.extend(of_template(pod, ""));
    found
}

/// Of a workload whose name becomes part of the names of its pods.
pub(super) fn of_named_workload(object: &Value) -> Vec<String> {
    let mut found = of_name(object, "Pod names and hostnames");
    found.extend(of_workload(object));
    found
}

/// Of a workload with a pod template in its specification.
pub(super) fn of_workload(object: &Value) -> Vec<String> {
    object.pointer("/spec/template").map_or_else(Vec::new, |template| of_template(template, "spec.template."))
}

/// A name that is more than one label of DNS.
pub(super) fn of_name(object: &Value, used: &str) -> Vec<String> {
    let faults = names::dns1123_label(fields::text(object, "/metadata/name"));
    match faults.as_slice() {
        [] => Vec::new(),
        faults => vec![format!(
            "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            faults.join(" ")
        )],
    }
}

/// Of a pod template, or of a pod, at a dotted path that ends in a dot or is empty.
pub(super) fn of_template(template: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Some(spec) = template.get("spec") else { return found };
    let base = format!("{path}spec");
    for (key, _) in fields::pairs(spec, "/nodeSelector") {
        found.extend(renamed(key).map(|since| format!("{base}.nodeSelector[{key}]: {since}")));
    }
    affinity(spec, &base, &mut found);
    spreading(spec, &base, &mut found);
    annotations(template, path, &mut found);
    references(spec, &base, &mut found);
    for list in ["initContainers", "containers"] {
        for (index, container) in fields::list(spec, &format!("/{list}")).iter().enumerate() {
            of_container(container, &format!("{base}.{list}[{index}]"), &mut found);
        }
    }
    if fields::int(spec, "/terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        let words = "must be >= 0; negative values are invalid and will be treated as 1";
        found.push(format!("{base}.terminationGracePeriodSeconds: {words}"));
    }
    found
}

/// Since when a label of nodes has another name, and which.
fn renamed(key: &str) -> Option<String> {
    let (_, since, name) = RENAMED.iter().find(|(old, _, _)| *old == key)?;
    Some(format!("deprecated since {since}; use {name:?} instead"))
}

fn affinity(spec: &Value, base: &str, found: &mut Vec<String>) {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let Some(affinity) = spec.get("affinity") else { return };
    let path = format!("{base}.affinity.nodeAffinity.{required}");
    if let Some(selector) = affinity.pointer(&format!("/nodeAffinity/{required}")) {
        found.extend(of_node_selector(selector, &path));
    }
    let weighted = fields::list(affinity, &format!("/nodeAffinity/{preferred}"));
    for (index, term) in weighted.iter().enumerate() {
        let path = format!("{base}.affinity.nodeAffinity.{preferred}[{index}].preference");
        found.extend(term.get("preference").map(|term| of_node_term(term, &path)).unwrap_or_default());
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let terms = |list: &str| fields::list(affinity, &format!("/{kind}/{list}"));
        for (index, term) in terms(required).iter().enumerate() {
            if term.get("labelSelector").is_none() {
                let path = format!("{base}.affinity.{kind}.{required}[{index}]");
                found.push(format!("{path}.labelSelector: {NULL_SELECTOR}"));
            }
        }
        for (index, term) in terms(preferred).iter().enumerate() {
            if term.pointer("/podAffinityTerm/labelSelector").is_none() {
                let path = format!("{base}.affinity.{kind}.{preferred}[{index}].podAffinityTerm");
                found.push(format!("{path}.labelSelector: {NULL_SELECTOR}"));
            }
        }
    }
}

/// Of a node selector, in a pod or a volume.
pub(super) fn of_node_selector(selector: &Value, path: &str) -> Vec<String> {
    let terms = fields::list(selector, "/nodeSelectorTerms").iter().enumerate();
    terms
        .flat_map(|(index, term)| of_node_term(term, &format!("{path}.nodeSelectorTerms[{index}]")))
        .collect()
}

fn of_node_term(term: &Value, path: &str) -> Vec<String> {
    let expressions = fields::list(term, "/matchExpressions").iter().enumerate();
    let found = expressions.filter_map(|(index, expression)| {
        let key = fields::text(expression, "/key");
        Some(format!("{path}.matchExpressions[{index}].key: {key} is {}", renamed(key)?))
    });
    found.collect()
}

fn spreading(spec: &Value, base: &str, found: &mut Vec<String>) {
    for (index, constraint) in fields::list(spec, "/topologySpreadConstraints").iter().enumerate() {
        let path = format!("{base}.topologySpreadConstraints[{index}]");
        let key = fields::text(constraint, "/topologyKey");
        found.extend(renamed(key).map(|since| format!("{path}.topologyKey: {key} is {since}")));
        if constraint.get("labelSelector").is_none() {
            found.push(format!("{path}.labelSelector: {NULL_SELECTOR}"));
        }
    }
}

fn annotations(template: &Value, path: &str, found: &mut Vec<String>) {
    for (key, _) in fields::pairs(template, "/metadata/annotations") {
        let words = match key {
            "seccomp.security.alpha.kubernetes.io/pod" => {
                "non-functional in v1.27+; use the \"seccompProfile\" field instead"
            }
            "scheduler.alpha.kubernetes.io/critical-pod" => {
                "non-functional in v1.16+; use the \"priorityClassName\" field instead"
            }
            key if key.starts_with("container.seccomp.security.alpha.kubernetes.io/") => {
                "non-functional in v1.27+; use the \"seccompProfile\" field instead"
            }
            key if key.starts_with("container.apparmor.security.beta.kubernetes.io/") => {
                "deprecated since v1.30; use the \"appArmorProfile\" field instead"
            }
            _ => continue,
        };
        found.push(format!("{path}metadata.annotations[{key}]: {words}"));
    }
}

/// Aliases, volumes and pull secrets: said twice, empty, or gone.
fn references(spec: &Value, base: &str, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, alias) in fields::list(spec, "/hostAliases").iter().enumerate() {
        let ip = fields::text(alias, "/ip");
        if !seen.insert(ip) {
            found.push(format!("{base}.hostAliases[{index}].ip: duplicate ip {ip:?}"));
        }
    }
    for (index, volume) in fields::list(spec, "/volumes").iter().enumerate() {
        for (_, name, words) in LEAVING.iter().filter(|(field, _, _)| volume.get(*field).is_some()) {
            found.push(format!("{base}.volumes[{index}].{name}: {words}"));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, secret) in fields::list(spec, "/imagePullSecrets").iter().enumerate() {
        let name = fields::text(secret, "/name");
        let field = format!("{base}.imagePullSecrets[{index}].name");
        if name.is_empty() {
            found.push(format!("{field}: invalid empty name \"\""));
        } else if !seen.insert(name) {
            found.push(format!("{field}: duplicate name {name:?}"));
        }
    }
}

fn of_container(container: &Value, path: &str, found: &mut Vec<String>) {
    for which in ["limits", "requests"] {
        for resource in BYTES {
            let amount = container.pointer(&format!("/resources/{which}/{resource}"));
            found.extend(fraction(amount, &format!("{path}.resources.{which}[{resource}]")));
        }
    }
    let mut names = BTreeSet::new();
    for (index, variable) in fields::list(container, "/env").iter().enumerate() {
        let name = fields::text(variable, "/name");
        if !names.insert(name) {
            let words =
                format!("hides previous definition of {name:?}, which may be dropped when using apply");
            found.push(format!("{path}.env[{index}]: {words}"));
        }
    }
    let mut ports = BTreeMap::new();
    for (index, port) in fields::list(container, "/ports").iter().enumerate() {
        let part = |field: &str| port.get(field).map(Value::to_string);
        let key = ["containerPort", "protocol", "hostPort", "hostIP"].map(part);
        let first = *ports.entry(key).or_insert(index);
        if first != index {
            found
                .push(format!("{path}.ports[{index}]: duplicate port definition with {path}.ports[{first}]"));
        }
    }
}

/// Of an amount of bytes that is no whole number.
pub(super) fn fraction(amount: Option<&Value>, field: &str) -> Option<String> {
    let quantity = resources::parse(amount?).filter(|quantity| !quantity.is_whole())?;
    let shown = quantity.to_string();
    Some(format!("{field}: fractional byte value {shown:?} is invalid, must be an integer"))
}

/// Of an annotation that a field has taken the place of.
pub(super) fn of_annotation(object: &Value, key: &str, words: &str) -> Option<String> {
    object.get("metadata")?.get("annotations")?.get(key)?;
    Some(format!("metadata.annotations[{key}]: {words}"))
}

/// Of labels of nodes inside a storage class or a runtime class.
pub(super) fn of_label(key: &str, field: &str) -> Option<String> {
    Some(format!("{field}: {}", renamed(key)?))
}

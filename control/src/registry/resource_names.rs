//! Names of resources that are counted: those that Kubernetes knows, and those that devices and custom resources add,
//! which carry a domain.

use super::faults::Faults;
use super::validation;
use crate::quota::pods;
use knarr_api::names;
use serde_json::json;

const CONTAINER: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
const OBJECTS: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// Any resource: one of Kubernetes' own, or a name with a domain.
pub(super) fn any(field: &str, name: &str, faults: &mut Faults) {
    validation::named(field, name, names::qualified_name, faults);
    if !name.contains('/') && !is_standard(name) {
        faults.invalid(field, &json!(name), "must be a standard resource type or fully qualified");
    }
}

/// A resource that a container can ask for.
pub(super) fn of_container(field: &str, name: &str, faults: &mut Faults) {
    any(field, name, faults);
    let fault = match name.contains('/') {
        false if CONTAINER.contains(&name) || name.starts_with("hugepages-") => return,
        false => "must be a standard resource for containers",
        true if name.contains("kubernetes.io/") || is_extended(name) => return,
        true => "doesn't follow extended resource name standard",
    };
    faults.invalid(field, &json!(name), fault);
}

/// A resource that all containers of a pod can share.
pub(super) fn of_pod(field: &str, name: &str, faults: &mut Faults) {
    let before = faults.count();
    any(field, name, faults);
    if faults.count() == before && !pods::is_shared(name) {
        faults.not_supported(field, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// A resource that a quota can limit.
pub(super) fn of_quota(field: &str, name: &str, faults: &mut Faults) {
    any(field, name, faults);
    if !name.contains('/') && !is_of_quota(name) {
        faults.invalid(field, &json!(name), "must be a standard resource for quota");
    }
}

/// Whether a quota counts the resource without further ado.
pub(super) fn is_of_quota(name: &str) -> bool {
    name != "storage" && is_standard(name)
}

/// Whether amounts of the resource are whole numbers: objects, and what devices and operators bring.
pub(super) fn is_counted(name: &str) -> bool {
    OBJECTS.contains(&name) || is_extended(name)
}

/// Whether the resource is brought by a device or an operator.
pub(super) fn is_extended(name: &str) -> bool {
    name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more of the resource may be promised than there is.
pub(super) fn may_be_overcommitted(name: &str) -> bool {
    !name.starts_with("hugepages-") && !is_extended(name)
}

fn is_standard(name: &str) -> bool {
    let asked = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits."));
    OBJECTS.contains(&name)
        || CONTAINER.contains(&asked.unwrap_or(name))
        || matches!(name, "storage" | "requests.storage")
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

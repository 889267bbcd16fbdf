//! What objects count for in resource quotas: amounts by the names that a quota's `spec.hard` uses, and the scopes
//! that say which objects a quota is about. Pure functions; admission decides by them, the quota's status shows them.

use crate::registry::{Resource, fields};
use jiff::{SignedDuration, Timestamp};
use knarr_api::meta;
use knarr_api::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) mod pods;
mod scopes;

/// On a claim: its class, as it was named before there was a field.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Amounts by resource name.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// Reads a map of quantities; one that cannot be read (validation refuses those) counts as nothing.
pub(crate) fn amounts(map: Option<&Value>) -> Amounts {
    let read = |(name, amount): (&String, &Value)| {
        let quantity = match amount {
            Value::String(text) => text.parse().ok()?,
            other => other.to_string().parse().ok()?,
        };
        Some((name.clone(), quantity))
    };
    map.and_then(Value::as_object).into_iter().flatten().filter_map(read).collect()
}

/// Adds each amount.
pub(crate) fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.entry(name.clone()).or_insert(Quantity::ZERO);
        *sum += *amount;
    }
}

fn raise(total: &mut Amounts, floor: &Amounts) {
    for (name, amount) in floor {
        let value = total.entry(name.clone()).or_insert(Quantity::ZERO);
        *value = (*value).max(*amount);
    }
}

/// What one object counts for, under every name by which a quota can count it.
pub(crate) fn of_object(resource: &Resource, object: &Value, now: Timestamp) -> Amounts {
    let one = Quantity::from_units(1);
    let mut counted = Amounts::from([(count_name(resource), one)]);
    if !resource.group.is_empty() {
        return counted;
    }
    match &*resource.plural {
        "pods" => of_pod(object, now, &mut counted),
        "persistentvolumeclaims" => of_claim(object, &mut counted),
        "services" => of_service(object, &mut counted),
        plain @ ("configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas") => {
            counted.insert(plain.to_owned(), one);
        }
        _ => {}
    }
    counted
}

/// `count/deployments.apps`
fn count_name(resource: &Resource) -> String {
    format!("count/{}", resource.qualified_name())
}

/// A pod that has ended holds nothing but its object; nor does one that should long have been gone.
fn of_pod(pod: &Value, now: Timestamp, counted: &mut Amounts) {
    if matches!(fields::text(pod, "/status/phase"), "Succeeded" | "Failed") || is_overdue(pod, now) {
        return;
    }
    counted.insert("pods".to_owned(), Quantity::from_units(1));
    for (name, amount) in pods::used(pod, "requests") {
        if matches!(&*name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            counted.insert(name.clone(), amount);
        }
        counted.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in pods::used(pod, "limits") {
        counted.insert(format!("limits.{name}"), amount);
    }
}

/// So long after its time to go a pod is not waited for any more: as long as it had to end.
fn is_overdue(pod: &Value, now: Timestamp) -> bool {
    let grace = fields::int(pod, "/metadata/deletionGracePeriodSeconds").map(SignedDuration::from_secs);
    let until = fields::text(pod, "/metadata/deletionTimestamp").parse::<Timestamp>().ok();
    let end = until.zip(grace).and_then(|(until, grace)| until.checked_add(grace).ok());
    end.is_some_and(|end| now > end)
}

/// A claim that is given less than it has already counts for what it has.
fn of_claim(claim: &Value, counted: &mut Amounts) {
    let one = Quantity::from_units(1);
    let storage = |pointer: &str| amounts(claim.pointer(pointer)).get("storage").copied();
    let asked = storage("/spec/resources/requests").max(storage("/status/allocatedResources"));
    let class = match claim.pointer("/metadata/annotations").and_then(|all| all.get(CLASS)) {
        Some(class) => class.as_str().unwrap_or_default(),
        None => fields::text(claim, "/spec/storageClassName"),
    };
    counted.insert("persistentvolumeclaims".to_owned(), one);
    counted.insert("requests.storage".to_owned(), asked.unwrap_or(Quantity::ZERO));
    if !class.is_empty() {
        let of_class = format!("{class}.storageclass.storage.k8s.io");
        counted.insert(format!("{of_class}/persistentvolumeclaims"), one);
        counted.insert(format!("{of_class}/requests.storage"), asked.unwrap_or(Quantity::ZERO));
    }
}

fn of_service(service: &Value, counted: &mut Amounts) {
    let one = Quantity::from_units(1);
    let ports = fields::list(service, "/spec/ports");
    let with_node_port = ports.iter().filter(|port| fields::int(port, "/nodePort").unwrap_or(0) > 0).count();
    counted.insert("services".to_owned(), one);
    match fields::text(service, "/spec/type") {
        "NodePort" => {
            counted.insert("services.nodeports".to_owned(), Quantity::from_units(ports.len() as i64));
        }
        "LoadBalancer" => {
            let explicit =
                service.pointer("/spec/allocateLoadBalancerNodePorts") == Some(&Value::Bool(false));
            let count = if explicit { with_node_port } else { ports.len() };
            counted.insert("services.loadbalancers".to_owned(), one);
            counted.insert("services.nodeports".to_owned(), Quantity::from_units(count as i64));
        }
        _ => {}
    }
}

/// Whether a quota constrains anything that objects of this resource count for.
pub(crate) fn concerns(quota: &Value, resource: &Resource) -> bool {
    let core = |name: &str| resource.group.is_empty() && resource.plural == name;
    let hard = fields::pairs(quota, "/spec/hard");
    hard.map(|(name, _)| name).any(|name| match name {
        _ if name == count_name(resource) => true,
        "pods" | "cpu" | "memory" | "ephemeral-storage" => core("pods"),
        "requests.storage" => core("persistentvolumeclaims"),
        "services.nodeports" | "services.loadbalancers" => core("services"),
        _ if name.contains(".storageclass.storage.k8s.io/") => core("persistentvolumeclaims"),
        _ if name.starts_with("requests.") || name.starts_with("limits.") => core("pods"),
        _ if name.starts_with("hugepages-") => core("pods"),
        plain => core(plain),
    })
}

/// What an object counts for in one quota: nothing outside the quota's scopes, and only what it constrains.
pub(crate) fn in_quota(quota: &Value, resource: &Resource, object: &Value, now: Timestamp) -> Amounts {
    if !scopes::includes(quota, resource, object) {
        return Amounts::new();
    }
    let mut counted = of_object(resource, object, now);
    counted.retain(|name, _| quota.pointer("/spec/hard").is_some_and(|hard| hard.get(name).is_some()));
    counted
}

/// The sum of what all objects of one resource in the quota's namespace count for.
pub(crate) fn usage<'a>(
    quota: &Value,
    resource: &Resource,
    objects: impl IntoIterator<Item = &'a Value>,
    now: Timestamp,
) -> Amounts {
    let mut total = Amounts::new();
    objects.into_iter().for_each(|object| add(&mut total, &in_quota(quota, resource, object, now)));
    total
}

/// Why a pod cannot be counted: a container that leaves open what the quota constrains, and no word of the pod itself.
/// Names by resource.
pub(crate) fn missing(quota: &Value, resource: &Resource, pod: &Value) -> Option<String> {
    let is_pod = resource.group.is_empty() && resource.plural == "pods";
    if !is_pod || pods::speaks_for_all(pod) || !scopes::includes(quota, resource, pod) {
        return None;
    }
    let mut faults = Vec::new();
    for (name, _) in fields::pairs(quota, "/spec/hard") {
        let (which, of) = match name {
            "cpu" | "memory" => ("requests", name),
            "requests.cpu" | "requests.memory" => ("requests", &name["requests.".len()..]),
            "limits.cpu" | "limits.memory" => ("limits", &name["limits.".len()..]),
            _ => continue,
        };
        let containers =
            ["containers", "initContainers"].map(|group| fields::list(pod, &format!("/spec/{group}")));
        let open = containers.into_iter().flatten().filter(|container| {
            container.pointer(&format!("/resources/{which}")).and_then(|map| map.get(of)).is_none()
        });
        let mut open: Vec<&str> = open.map(|container| fields::text(container, "/name")).collect();
        open.sort_unstable();
        if !open.is_empty() {
            faults.push(format!("{name} for: {}", open.join(",")));
        }
    }
    faults.sort();
    (!faults.is_empty()).then(|| format!("must specify {}", faults.join("; ")))
}

/// `cpu=1,pods=2`
pub(crate) fn shown(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

/// Name of a quota.
pub(crate) fn name(quota: &Value) -> &str {
    meta::name(quota)
}

#[cfg(test)]
mod tests;

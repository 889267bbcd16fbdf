//! What may be written into the status of a pod. A node tells it, and others act on it: a container that has ended for good
//! stays ended, so nobody counts an end twice; the quality of service was decided when the pod was made.

use super::faults::Faults;
use super::pod_security_context::ID_RANGE;
use super::{addresses, fields, validation};
use knarr_api::names;
use serde_json::{Value, json};
use std::net::IpAddr;

const OWN_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];
const GROUPS: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];

/// What clients that know less leave out stays.
pub(super) fn keep(new: &mut Value, old: &Value) {
    let owners = old.pointer("/metadata/ownerReferences").cloned();
    if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("ownerReferences");
        metadata.extend(owners.map(|owners| ("ownerReferences".to_owned(), owners)));
    }
    let Some(status) = fields::child(new, "status") else { return };
    fields::fill_text(status, "qosClass", fields::text(old, "/status/qosClass"));
    if fields::text(status, "/qosClass").is_empty() {
        status.as_object_mut().map(|status| status.remove("qosClass"));
    }
    generations(status, old.get("status").unwrap_or(&Value::Null));
    same_address(status);
}

/// The generations that were seen, of the whole and of each condition.
fn generations(status: &mut Value, old: &Value) {
    let keep = |to: &mut Value, from: &Value| {
        if let Some(seen) = fields::int(from, "/observedGeneration").filter(|seen| *seen != 0) {
            fields::fill_int(to, "observedGeneration", seen);
        }
    };
    keep(status, old);
    let mut before: Vec<&Value> = fields::list(old, "/conditions").iter().collect();
    for condition in fields::each(status, "conditions") {
        let same = |other: &&Value| fields::text(other, "/type") == fields::text(condition, "/type");
        if let Some(at) = before.iter().position(same) {
            keep(condition, before.remove(at));
        }
    }
}

/// `podIP` is the first of `podIPs`: of two that differ, the one of older clients counts.
fn same_address(status: &mut Value) {
    let text = |pointer: &str| fields::text(status, pointer).to_owned();
    let (one, first) = (text("/podIP"), text("/podIPs/0/ip"));
    if one.is_empty() && !first.is_empty() {
        fields::set(status, "podIP", json!(first));
    } else if !one.is_empty() && one != first {
        fields::set(status, "podIPs", json!([{"ip": one}]));
    }
}

/// Every fault of a change.
pub(super) fn validate(new: &Value, old: &Value, faults: &mut Faults) {
    conditions(new, faults);
    nominated(new, old, faults);
    if let Some(seen) = fields::int(new, "/status/observedGeneration").filter(|seen| *seen < 0) {
        faults.invalid("status.observedGeneration", &json!(seen), "must be a non-negative integer");
    }
    if fields::text(new, "/status/qosClass") != fields::text(old, "/status/qosClass") {
        faults.immutable("status.qosClass", &json!(fields::text(new, "/status/qosClass")));
    }
    for (statuses, containers) in GROUPS {
        restarts(new, old, (statuses, containers), faults);
    }
    claims(new, faults);
    each_family_once(new, old, "podIPs", faults);
    hosts(new, old, faults);
    GROUPS.iter().for_each(|(statuses, _)| users(new, statuses, faults));
}

fn conditions(pod: &Value, faults: &mut Faults) {
    for (index, condition) in fields::list(pod, "/status/conditions").iter().enumerate() {
        let path = format!("status.conditions[{index}]");
        if let Some(seen) = fields::int(condition, "/observedGeneration").filter(|seen| *seen < 0) {
            let detail = "must be a non-negative integer";
            faults.invalid(format!("{path}.observedGeneration"), &json!(seen), detail);
        }
        let kind = fields::text(condition, "/type");
        if !OWN_CONDITIONS.contains(&kind) {
            validation::named(&format!("{path}.Type"), kind, names::qualified_name, faults);
        }
    }
}

fn nominated(new: &Value, old: &Value, faults: &mut Faults) {
    const FIELD: &str = "status.nominatedNodeName";
    let name = fields::text(new, "/status/nominatedNodeName");
    if name.is_empty() || name == fields::text(old, "/status/nominatedNodeName") {
        return;
    }
    validation::named(FIELD, name, names::dns1123_subdomain, faults);
}

/// What has ended and is not to be restarted goes on being ended.
fn restarts(new: &Value, old: &Value, (statuses, containers): (&str, &str), faults: &mut Faults) {
    let after = fields::list(new, &format!("/status/{statuses}"));
    for (index, before) in fields::list(old, &format!("/status/{statuses}")).iter().enumerate() {
        let Some(end) = ended(before) else { continue };
        let same = |status: &&Value| status.get("name") == before.get("name");
        let undone = after.iter().filter(same).any(|status| ended(status).is_none());
        if undone && !may_restart(old, containers, fields::text(before, "/name"), end) {
            let detail = "may not be transitioned to non-terminated state";
            faults.forbidden(format!("status.{statuses}[{index}].state"), detail);
        }
    }
}

fn ended(status: &Value) -> Option<&Value> {
    status.pointer("/state/terminated").filter(|end| !end.is_null())
}

fn may_restart(pod: &Value, containers: &str, name: &str, end: &Value) -> bool {
    let of_pod = fields::text(pod, "/spec/restartPolicy");
    let all = fields::list(pod, &format!("/spec/{containers}"));
    let container = all.iter().find(|container| fields::text(container, "/name") == name);
    let own = container.map(|container| fields::text(container, "/restartPolicy")).unwrap_or_default();
    let policy = match (containers, own) {
        ("ephemeralContainers", _) => "Never",
        ("initContainers", "Always") => "Always",
        ("containers", own) if !own.is_empty() => own,
        _ => of_pod,
    };
    let failed = fields::int(end, "/exitCode").unwrap_or(0) != 0;
    let by_rule =
        container.is_some_and(|container| !fields::list(container, "/restartPolicyRules").is_empty());
    policy == "Always" || by_rule || policy == "OnFailure" && failed
}

/// Each claim that was made belongs to an entry of the specification.
fn claims(pod: &Value, faults: &mut Faults) {
    let known = fields::list(pod, "/spec/resourceClaims");
    let all = fields::list(pod, "/status/resourceClaimStatuses");
    for (index, status) in all.iter().enumerate() {
        let (path, name) =
            (format!("status.resourceClaimStatuses[{index}].name"), fields::text(status, "/name"));
        if !known.iter().any(|claim| fields::text(claim, "/name") == name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            faults.invalid(path.as_str(), &json!(name), detail);
        }
        if all[..index].iter().any(|other| fields::text(other, "/name") == name) {
            faults.duplicate(path.as_str(), &json!(name));
        }
        if let Some(made) = status.get("resourceClaimName").and_then(Value::as_str) {
            validation::named(&path, made, names::dns1123_subdomain, faults);
        }
    }
}

/// Addresses, no two of one family; those that were there before are not looked at again.
fn each_family_once(new: &Value, old: &Value, list: &str, faults: &mut Faults) {
    let of = |pod| -> Vec<&str> {
        let all = fields::list(pod, &format!("/status/{list}"));
        all.iter().map(|entry| fields::text(entry, "/ip")).collect()
    };
    let (before, after) = (of(old), of(new));
    for (index, text) in after.iter().enumerate().filter(|(_, text)| !before.contains(text)) {
        addresses::ip(&format!("status.{list}[{index}]"), text, faults);
    }
    let families: Vec<bool> = after
        .iter()
        .filter_map(|text| text.parse::<IpAddr>().ok())
        .map(|address| address.is_ipv4())
        .collect();
    let (four, six) = (families.contains(&true), families.contains(&false));
    if after.len() > 1 && (after.len() > 2 || !(four && six)) {
        let shown: Vec<Value> = after.iter().map(|text| json!({"IP": text})).collect();
        let detail = "may specify no more than one IP for each IP family";
        faults.invalid(format!("status.{list}"), &json!(shown), detail);
    }
}

fn hosts(new: &Value, old: &Value, faults: &mut Faults) {
    if fields::list(new, "/status/hostIPs").is_empty() {
        return;
    }
    let first = fields::text(new, "/status/hostIPs/0/ip");
    if first != fields::text(new, "/status/hostIP") {
        faults.invalid("status.hostIPs[0].ip", &json!(first), "must be equal to `hostIP`");
    }
    each_family_once(new, old, "hostIPs", faults);
}

/// As whom the first process of a container runs.
fn users(pod: &Value, statuses: &str, faults: &mut Faults) {
    let windows = fields::text(pod, "/spec/os/name") == "windows";
    for (index, status) in fields::list(pod, &format!("/status/{statuses}")).iter().enumerate() {
        let path = format!("status.{statuses}[{index}].user.linux");
        let Some(user) = status.pointer("/user/linux") else { continue };
        if windows {
            faults.forbidden(path, "cannot be set for a windows pod");
            continue;
        }
        let groups = fields::list(user, "/supplementalGroups").iter().enumerate();
        let groups = groups.map(|(at, group)| (format!("supplementalGroups[{at}]"), Some(group)));
        let own = ["uid", "gid"].map(|name| (name.to_owned(), user.get(name)));
        for (field, id) in own.into_iter().chain(groups) {
            let Some(id) = id.and_then(Value::as_i64) else { continue };
            if !(0..=i64::from(i32::MAX)).contains(&id) {
                faults.invalid(format!("{path}.{field}"), &json!(id), ID_RANGE);
            }
        }
    }
}

#[cfg(test)]
mod tests;

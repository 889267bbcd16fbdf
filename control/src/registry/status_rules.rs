//! What nobody may write into a status: counts below nothing, more that are ready than there are, addresses that are none.

use super::faults::Faults;
use super::{addresses, fields, validation};
use knarr_api::names;
use serde_json::{Value, json};

const READY: &str = "readyReplicas";
const AVAILABLE: &str = "availableReplicas";

/// Numbers of a status that are counts.
fn counts(object: &Value, names: &[&str], faults: &mut Faults) {
    names.iter().for_each(|name| validation::not_negative(object, &format!("status.{name}"), faults));
}

fn count(object: &Value, name: &str) -> i64 {
    fields::int(object, &format!("/status/{name}")).unwrap_or(0)
}

fn no_more_than(object: &Value, part: &str, whole: &str, words: &str, faults: &mut Faults) {
    let value = count(object, part);
    if value > count(object, whole) {
        faults.invalid(format!("status.{part}"), &json!(value), &format!("cannot be greater than {words}"));
    }
}

/// A number that tells names apart only ever grows.
fn grows(new: &Value, old: &Value, faults: &mut Faults) {
    let value = count(new, "collisionCount");
    if value < count(old, "collisionCount") {
        faults.invalid("status.collisionCount", &json!(value), "cannot be decremented");
    }
}

/// Of replica sets and replication controllers.
pub(super) fn of_replicas(new: &Value, _: &Value, faults: &mut Faults) {
    const LABELED: &str = "fullyLabeledReplicas";
    counts(
        new,
        &["replicas", LABELED, READY, AVAILABLE, "observedGeneration", "terminatingReplicas"],
        faults,
    );
    for part in [LABELED, READY, AVAILABLE] {
        no_more_than(new, part, "replicas", "status.replicas", faults);
    }
    no_more_than(new, AVAILABLE, READY, READY, faults);
}

/// Of deployments.
pub(super) fn of_deployment(new: &Value, old: &Value, faults: &mut Faults) {
    const UPDATED: &str = "updatedReplicas";
    let all = ["observedGeneration", "replicas", UPDATED, READY, AVAILABLE, "unavailableReplicas"];
    counts(new, &all, faults);
    counts(new, &["terminatingReplicas", "collisionCount"], faults);
    for part in [UPDATED, READY, AVAILABLE] {
        no_more_than(new, part, "replicas", "status.replicas", faults);
    }
    no_more_than(new, AVAILABLE, READY, READY, faults);
    grows(new, old, faults);
}

/// Of stateful sets.
pub(super) fn of_stateful_set(new: &Value, old: &Value, faults: &mut Faults) {
    const PARTS: [&str; 4] = [READY, "currentReplicas", "updatedReplicas", AVAILABLE];
    counts(new, &["replicas"], faults);
    counts(new, &PARTS, faults);
    counts(new, &["observedGeneration", "collisionCount"], faults);
    for part in PARTS {
        no_more_than(new, part, "replicas", "status.replicas", faults);
    }
    no_more_than(new, AVAILABLE, READY, "status.readyReplicas", faults);
    grows(new, old, faults);
}

/// Of daemon sets.
pub(super) fn of_daemon_set(new: &Value, old: &Value, faults: &mut Faults) {
    const ALL: [&str; 9] = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    counts(new, &ALL, faults);
    grows(new, old, faults);
}

/// Of disruption budgets.
pub(super) fn of_budget(new: &Value, _: &Value, faults: &mut Faults) {
    counts(new, &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"], faults);
}

/// Of autoscalers.
pub(super) fn of_autoscaler(new: &Value, _: &Value, faults: &mut Faults) {
    counts(new, &["currentReplicas", "desiredReplicas"], faults);
}

/// Where an ingress is reached.
pub(super) fn of_ingress(new: &Value, _: &Value, faults: &mut Faults) {
    each_way_in(new, false, faults);
}

/// Where a service is reached.
pub(super) fn of_service(new: &Value, _: &Value, faults: &mut Faults) {
    let given = fields::list(new, "/status/loadBalancer/ingress");
    if !given.is_empty() && fields::text(new, "/spec/type") != "LoadBalancer" {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        return faults.forbidden("status.loadBalancer.ingress", detail);
    }
    each_way_in(new, true, faults);
}

fn each_way_in(object: &Value, modes: bool, faults: &mut Faults) {
    for (index, one) in fields::list(object, "/status/loadBalancer/ingress").iter().enumerate() {
        let path = format!("status.loadBalancer.ingress[{index}]");
        let (ip, host, mode) = (fields::text(one, "/ip"), fields::text(one, "/hostname"), one.get("ipMode"));
        if !ip.is_empty() {
            addresses::ip(&format!("{path}.ip"), ip, faults);
        }
        match mode.and_then(Value::as_str).filter(|_| modes) {
            Some(_) if ip.is_empty() => {
                faults.forbidden(format!("{path}.ipMode"), "may not be specified when `ip` is not set");
            }
            Some(mode) => {
                validation::optional_choice(&format!("{path}.ipMode"), mode, &["Proxy", "VIP"], faults);
            }
            None => {}
        }
        let field = format!("{path}.hostname");
        validation::optional_name(&field, host, names::dns1123_subdomain, faults);
        if host.parse::<std::net::IpAddr>().is_ok() {
            faults.invalid(field, &json!(host), "must be a DNS name, not an IP address");
        }
    }
}

/// An address of a load balancer takes packets as they are, where nothing else is said.
pub(super) fn fill_modes(service: &mut Value, _: &Value) {
    if fields::text(service, "/spec/type") != "LoadBalancer" {
        return;
    }
    let Some(status) = service.pointer_mut("/status/loadBalancer") else { return };
    for one in fields::each(status, "ingress").filter(|one| !fields::text(one, "/ip").is_empty()) {
        fields::fill_text(one, "ipMode", "VIP");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&Value, &Value, &mut Faults);

    fn told(check: Check, status: Value, old: Value) -> Vec<String> {
        let mut faults = Faults::default();
        check(&json!({"status": status}), &json!({"status": old}), &mut faults);
        let causes = faults.into_causes().into_iter();
        causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn counts_fit_each_other() {
        let below =
            |name: &str| format!("status.{name}: Invalid value: -1: must be greater than or equal to 0");
        let kinds: [(Check, &str); 6] = [
            (of_replicas, "fullyLabeledReplicas"),
            (of_deployment, "unavailableReplicas"),
            (of_stateful_set, "currentReplicas"),
            (of_daemon_set, "numberReady"),
            (of_budget, "expectedPods"),
            (of_autoscaler, "desiredReplicas"),
        ];
        for (check, name) in kinds {
            assert_eq!(told(check, json!({name: -1}), json!({})), [below(name)]);
            assert!(told(check, json!({}), json!({})).is_empty());
        }
        assert_eq!(
            told(of_replicas, json!({"replicas": 2, "readyReplicas": 3, "availableReplicas": 4}), json!({})),
            [
                "status.readyReplicas: Invalid value: 3: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 4: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 4: cannot be greater than readyReplicas",
            ]
        );
        assert_eq!(
            told(of_deployment, json!({"collisionCount": 1}), json!({"collisionCount": 2})),
            ["status.collisionCount: Invalid value: 1: cannot be decremented"]
        );
    }

    #[test]
    fn a_way_in_is_an_address_or_a_name() {
        let service = |kind: &str, ingress: Value| {
            let mut object =
                json!({"spec": {"type": kind}, "status": {"loadBalancer": {"ingress": [ingress]}}});
            fill_modes(&mut object, &Value::Null);
            let mut faults = Faults::default();
            of_service(&object, &Value::Null, &mut faults);
            let causes = faults.into_causes().into_iter();
            let told: Vec<String> =
                causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
            (object["status"]["loadBalancer"]["ingress"][0]["ipMode"].clone(), told.join(", "))
        };
        assert_eq!(service("LoadBalancer", json!({"ip": "192.0.2.1"})), (json!("VIP"), String::new()));
        let (_, told) = service("ClusterIP", json!({"ip": "192.0.2.1"}));
        assert!(told.contains("may only be used when `spec.type` is 'LoadBalancer'"), "{told}");
        let (_, told) = service("LoadBalancer", json!({"hostname": "192.0.2.1"}));
        assert!(told.ends_with("must be a DNS name, not an IP address"), "{told}");
        let (_, told) = service("LoadBalancer", json!({"hostname": "a.b", "ipMode": "VIP"}));
        assert!(told.ends_with("may not be specified when `ip` is not set"), "{told}");
        let (_, told) = service("LoadBalancer", json!({"ip": "192.0.2.1", "ipMode": "Odd"}));
        assert!(told.ends_with(r#"Unsupported value: "Odd": supported values: "Proxy", "VIP""#), "{told}");
    }
}

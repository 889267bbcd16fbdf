//! Which families of addresses a service has: what it says itself, what follows from the addresses that it asks for, and
//! what the cluster has. Kubernetes' rules, in its order and words; over data alone.

use crate::registry::{Cause, fields};
use serde_json::{Value, json};

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// Of an address.
    pub(crate) fn bits(self) -> u32 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }

    fn of_address(address: &str) -> Family {
        if address.contains(':') { Family::V6 } else { Family::V4 }
    }
}

/// What the service says; the first is that of its `clusterIP`.
pub(crate) fn of(service: &Value) -> Vec<Family> {
    let named = fields::list(service, "/spec/ipFamilies").iter();
    let found: Vec<Family> =
        named.map(|name| if *name == "IPv6" { Family::V6 } else { Family::V4 }).collect();
    if found.is_empty() { vec![Family::V4] } else { found }
}

/// Settles the families of a service that is written, or says why they cannot be had.
pub(super) fn settle(cluster: &[Family], service: &mut Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if fields::text(service, "/spec/type") == "ExternalName" || !service["spec"].is_object() {
        return;
    }
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    let selects = selector.is_some_and(|selector| !selector.is_empty());
    // Endpoints that somebody else writes may be of any family, whatever the cluster has.
    let is_free = fields::text(service, "/spec/clusterIP") == "None" && !selects;
    if policy(service).is_empty() {
        service["spec"]["ipFamilyPolicy"] = json!(if is_free { "RequireDualStack" } else { "SingleStack" });
    }
    let single = policy(service) == "SingleStack";
    let had = old.filter(|old| fields::text(old, "/spec/type") != "ExternalName");
    update(service, had, single, causes);
    if single {
        for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if fields::list(service, &format!("/spec/{field}")).len() == 2 {
                let why = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                );
                causes.push(policy_fault(service, &why));
            }
        }
    }
    infer(cluster, service, causes);
    if !causes.is_empty() {
        return;
    }
    if !is_free {
        configured(cluster, service, causes);
    }
    let mut families = of(service);
    if let (false, [only], true) = (single, families.as_slice(), is_free || cluster.len() == 2) {
        let keeps = had.is_some_and(|old| is_as_before(service, old));
        if !keeps {
            families.push(only.other());
        }
    }
    service["spec"]["ipFamilies"] = families.iter().map(|family| family.name()).collect();
}

fn policy(service: &Value) -> &str {
    fields::text(service, "/spec/ipFamilyPolicy")
}

/// `PreferDualStack` that was given what there was stays so, whatever the cluster has become since.
fn is_as_before(service: &Value, old: &Value) -> bool {
    policy(service) == "PreferDualStack"
        && ["ipFamilyPolicy", "clusterIPs", "ipFamilies"]
            .iter()
            .all(|field| service["spec"].get(field) == old["spec"].get(field))
}

/// Who says `SingleStack` gives the second address back; who says anything else must not take it away in silence.
fn update(service: &mut Value, old: Option<&Value>, single: bool, causes: &mut Vec<Cause>) {
    let Some(old) = old else { return };
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let path = format!("/spec/{field}");
        let (now, before) = (fields::list(service, &path), fields::list(old, &path));
        if single && now == before && now.len() > 1 {
            service["spec"][field] = json!([now[0]]);
        } else if !single && !now.is_empty() && now.len() < before.len() {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            causes.push(policy_fault(service, &why));
        }
    }
}

/// An address that is asked for says its family.
fn infer(cluster: &[Family], service: &mut Value, causes: &mut Vec<Cause>) {
    let addresses: Vec<Value> = fields::list(service, "/spec/clusterIPs").to_vec();
    let mut named: Vec<Value> = fields::list(service, "/spec/ipFamilies").to_vec();
    for (index, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        if address == "None" || index < named.len() {
            continue;
        }
        let family = Family::of_address(address);
        if cluster.contains(&family) {
            named.push(json!(family.name()));
        } else {
            let message = format!(
                "Invalid value: {}: {} is not configured on this cluster",
                quoted(&addresses),
                family.name()
            );
            let field = format!("spec.clusterIPs[{index}]");
            causes.push(Cause { reason: "FieldValueInvalid", field, message });
        }
    }
    service["spec"]["ipFamilies"] = Value::Array(named);
}

fn configured(cluster: &[Family], service: &Value, causes: &mut Vec<Cause>) {
    if policy(service) == "RequireDualStack" && cluster.len() < 2 {
        causes.push(policy_fault(service, "this cluster is not configured for dual-stack services"));
    }
    for (index, family) in of(service).into_iter().enumerate() {
        if !cluster.contains(&family) {
            let message = format!("Invalid value: {:?}: not configured on this cluster", family.name());
            let field = format!("spec.ipFamilies[{index}]");
            causes.push(Cause { reason: "FieldValueInvalid", field, message });
        }
    }
}

fn policy_fault(service: &Value, why: &str) -> Cause {
    let message = format!("Invalid value: {:?}: {why}", policy(service));
    Cause { reason: "FieldValueInvalid", field: "spec.ipFamilyPolicy".into(), message }
}

fn quoted(addresses: &[Value]) -> String {
    let words: Vec<String> =
        addresses.iter().filter_map(Value::as_str).map(|text| format!("{text:?}")).collect();
    format!("[]string{{{}}}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[Family] = &[Family::V4];
    const BOTH: &[Family] = &[Family::V4, Family::V6];

    /// The families that come of it, or the faults.
    fn settled(cluster: &[Family], spec: Value, old: Option<Value>) -> Result<Value, Vec<String>> {
        let mut service = json!({"spec": spec});
        let old = old.map(|spec| json!({"spec": spec}));
        let mut causes = Vec::new();
        settle(cluster, &mut service, old.as_ref(), &mut causes);
        let faults: Vec<String> =
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        if faults.is_empty() { Ok(service["spec"]["ipFamilies"].clone()) } else { Err(faults) }
    }

    fn spec(policy: &str, families: &[&str]) -> Value {
        json!({"selector": {"a": "b"}, "ipFamilyPolicy": policy, "ipFamilies": families})
    }

    #[test]
    fn a_service_gets_the_families_that_there_are() {
        for (cluster, policy, families, expected) in [
            (ONE, "SingleStack", &[][..], &["IPv4"][..]),
            (BOTH, "SingleStack", &[], &["IPv4"]),
            (BOTH, "SingleStack", &["IPv6"], &["IPv6"]),
            (ONE, "PreferDualStack", &[], &["IPv4"]),
            (BOTH, "PreferDualStack", &[], &["IPv4", "IPv6"]),
            (BOTH, "RequireDualStack", &["IPv6"], &["IPv6", "IPv4"]),
        ] {
            let found = settled(cluster, spec(policy, families), None);
            assert_eq!(found, Ok(json!(expected)), "{policy} {families:?}");
        }
        let headless = json!({"clusterIP": "None", "clusterIPs": ["None"]});
        assert_eq!(settled(ONE, headless, None), Ok(json!(["IPv4", "IPv6"])), "endpoints of somebody else");
        let named =
            json!({"clusterIP": "fd00::5", "clusterIPs": ["fd00::5"], "ipFamilyPolicy": "SingleStack"});
        assert_eq!(settled(BOTH, named, None), Ok(json!(["IPv6"])));
    }

    #[test]
    fn what_the_cluster_has_not_is_refused() {
        let needs = settled(ONE, spec("RequireDualStack", &[]), None).unwrap_err();
        assert_eq!(
            needs,
            [
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
            ]
        );
        let six = settled(ONE, spec("SingleStack", &["IPv6"]), None).unwrap_err();
        assert_eq!(six, ["spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"]);
        let two = settled(BOTH, spec("SingleStack", &["IPv4", "IPv6"]), None).unwrap_err();
        assert!(two[0].contains("when multiple IP families are specified"), "{two:?}");
        let named =
            json!({"clusterIP": "fd00::5", "clusterIPs": ["fd00::5"], "ipFamilyPolicy": "SingleStack"});
        let named = settled(ONE, named, None).unwrap_err();
        assert_eq!(
            named,
            [
                "spec.clusterIPs[0]: Invalid value: []string{\"fd00::5\"}: IPv6 is not configured on this cluster"
            ]
        );
    }

    #[test]
    fn a_second_family_comes_and_goes_by_the_policy() {
        let two = json!({"selector": {"a": "b"}, "clusterIPs": ["10.96.0.1", "fd00::1"],
            "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]});
        let mut less = two.clone();
        less["ipFamilyPolicy"] = json!("SingleStack");
        assert_eq!(settled(BOTH, less.clone(), Some(two.clone())), Ok(json!(["IPv4"])));
        let mut cut = two.clone();
        cut["ipFamilies"] = json!(["IPv4"]);
        let refused = settled(BOTH, cut, Some(two)).unwrap_err();
        assert!(
            refused[0].ends_with("must be 'SingleStack' to release the secondary IP family"),
            "{refused:?}"
        );
        let one = json!({"selector": {"a": "b"}, "clusterIPs": ["10.96.0.1"],
            "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]});
        let mut more = one.clone();
        more["ipFamilyPolicy"] = json!("PreferDualStack");
        assert_eq!(settled(BOTH, more.clone(), Some(one)), Ok(json!(["IPv4", "IPv6"])));
        assert_eq!(settled(BOTH, more.clone(), Some(more)), Ok(json!(["IPv4"])), "of a cluster that had one");
    }
}

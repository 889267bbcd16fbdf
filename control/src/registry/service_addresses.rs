//! What a service may say about addresses and the way of its traffic: families, addresses of its own, addresses outside,
//! and who balances.

use super::faults::Faults;
use super::{addresses, fields, validation};
use knarr_api::names;
use serde_json::{Value, json};

const POLICIES: [&str; 2] = ["Cluster", "Local"];
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
/// Seconds of a day: as long as a client may stay with a pod.
const MAX_AFFINITY: i64 = 86_400;

/// Every fault of the addresses and traffic fields of a service.
pub(super) fn validate(service: &Value, faults: &mut Faults) {
    own(service, faults);
    affinity(service, faults);
    for (index, text) in fields::list(service, "/spec/externalIPs").iter().enumerate() {
        let field = format!("spec.externalIPs[{index}]");
        if let Some(address) = addresses::ip(&field, text.as_str().unwrap_or_default(), faults) {
            addresses::reachable(&field, address, faults);
        }
    }
    traffic(service, faults);
    balancer(service, faults);
}

/// The addresses inside the cluster, in agreement with each other and with the families.
fn own(service: &Value, faults: &mut Faults) {
    let external = fields::text(service, "/spec/type") == "ExternalName";
    let single = fields::text(service, "/spec/clusterIP");
    let listed = fields::list(service, "/spec/clusterIPs");
    families(service, faults);
    if external {
        if !single.is_empty() || !listed.is_empty() {
            faults.forbidden("spec.clusterIPs", "may not be set for ExternalName services");
        }
        return;
    }
    if single.is_empty() && !listed.is_empty() {
        let detail = "must be empty when `clusterIP` is not specified";
        faults.invalid("spec.clusterIPs", &json!(listed), detail);
    } else if listed.first().is_some_and(|first| *first != single) {
        faults.invalid("spec.clusterIPs", &json!(listed), "first value must match `clusterIP`");
    }
    let mut parsed = Vec::new();
    for (index, text) in listed.iter().filter_map(Value::as_str).filter(|text| *text != "None").enumerate() {
        let field = format!("spec.clusterIPs[{index}]");
        let Some(address) = addresses::ip(&field, text, faults) else { continue };
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let wanted = fields::list(service, "/spec/ipFamilies").get(index).and_then(Value::as_str);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != family && FAMILIES.contains(wanted)) {
            let detail = format!("expected an {wanted} value as indicated by `ipFamilies[{index}]`");
            faults.invalid(field, &json!(text), &detail);
        }
        parsed.push(family);
    }
    if listed.len() > FAMILIES.len() {
        faults.invalid("spec.clusterIPs", &json!(listed), "may only hold up to 2 values");
    }
    if FAMILIES.iter().any(|family| parsed.iter().filter(|found| found == &family).count() > 1) {
        let detail = "may specify no more than one IP for each IP family";
        faults.invalid("spec.clusterIPs", &json!(listed), detail);
    }
}

fn families(service: &Value, faults: &mut Faults) {
    let listed = fields::list(service, "/spec/ipFamilies");
    for (index, family) in listed.iter().enumerate() {
        let field = format!("spec.ipFamilies[{index}]");
        match family.as_str() {
            Some(name) if FAMILIES.contains(&name) && !listed[..index].contains(family) => {}
            Some(name) if FAMILIES.contains(&name) => faults.duplicate(field, family),
            name => faults.not_supported(field, name.unwrap_or_default(), &FAMILIES),
        }
    }
    let policy = fields::text(service, "/spec/ipFamilyPolicy");
    let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    validation::optional_choice("spec.ipFamilyPolicy", policy, &known, faults);
}

fn affinity(service: &Value, faults: &mut Faults) {
    let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    if let Some(seconds) = validation::at(service, path).and_then(Value::as_i64)
        && !(1..=MAX_AFFINITY).contains(&seconds)
    {
        let detail = format!("must be greater than 0 and less than {MAX_AFFINITY}");
        faults.invalid(path, &json!(seconds), &detail);
    }
}

fn traffic(service: &Value, faults: &mut Faults) {
    let text = |field: &str| fields::text(service, &format!("/spec/{field}"));
    let kind = text("type");
    let exposed = matches!(kind, "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !fields::list(service, "/spec/externalIPs").is_empty());
    let outer = text("externalTrafficPolicy");
    if !outer.is_empty() && !exposed {
        let detail = "may only be set for externally-accessible services";
        faults.invalid("spec.externalTrafficPolicy", &json!(outer), detail);
    } else {
        validation::optional_choice("spec.externalTrafficPolicy", outer, &POLICIES, faults);
    }
    let inner = text("internalTrafficPolicy");
    validation::optional_choice("spec.internalTrafficPolicy", inner, &POLICIES, faults);
    let spread = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    validation::optional_choice("spec.trafficDistribution", text("trafficDistribution"), &spread, faults);
    let check = fields::int(service, "/spec/healthCheckNodePort").unwrap_or(0);
    if check != 0 && !(kind == "LoadBalancer" && outer == "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        faults.invalid("spec.healthCheckNodePort", &json!(check), detail);
    } else if check != 0 {
        validation::port_number("spec.healthCheckNodePort", check, faults);
    }
}

/// What only a service behind a load balancer says.
fn balancer(service: &Value, faults: &mut Faults) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let balanced = fields::text(service, "/spec/type") == "LoadBalancer";
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if !balanced && service.pointer(&format!("/spec/{field}")).is_some() {
            faults.forbidden(format!("spec.{field}"), ONLY);
        }
    }
    let class = fields::text(service, "/spec/loadBalancerClass");
    if balanced {
        validation::optional_name("spec.loadBalancerClass", class, names::qualified_name, faults);
    }
    // The name of the field is spelled like this in Kubernetes' own messages.
    let ranges = fields::list(service, "/spec/loadBalancerSourceRanges");
    if !balanced && !ranges.is_empty() {
        faults.forbidden("spec.LoadBalancerSourceRanges", ONLY);
        return;
    }
    for (index, range) in ranges.iter().enumerate() {
        let text = range.as_str().unwrap_or_default().trim();
        addresses::range(&format!("spec.LoadBalancerSourceRanges[{index}]"), text, faults);
    }
}

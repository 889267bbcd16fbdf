//! Services: one name and address for the pods that a selector finds. The address itself is given out by the server's
//! allocator; what a user may ask for is checked here.

use super::cells::{self, NONE, joined, or_none};
use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, service_addresses, service_ports, service_type, status_rules};
use serde_json::{Value, json};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "Service", "services")
        .short(&["svc"])
        .category("all")
        .status()
        .proxy("ServiceProxyOptions")
        .columns(vec![
            name(),
            text("Type", "How it is reached.", |service| fields::text(service, "/spec/type").to_owned()),
            text("Cluster-IP", "Its address inside the cluster.", |service| {
                or_none(fields::text(service, "/spec/clusterIP"))
            }),
            text("External-IP", "Its addresses outside the cluster.", external_addresses),
            text("Port(s)", "Its ports.", ports),
            age(),
            text("Selector", "Labels of the pods behind it.", |service| {
                cells::labels(service, "/spec/selector")
            })
            .wide(),
        ])
        .rules(Rules {
            defaults,
            on_create,
            on_update,
            validate,
            on_status_update: status_rules::fill_modes,
            validate_status_update: status_rules::of_service,
            validate_update,
            selectable,
            name: knarr_api::names::dns1035_label,
            warnings: warn,
            ..Rules::NONE
        })
        .done()
}

fn external_addresses(service: &Value) -> String {
    let external = fields::list(service, "/spec/externalIPs").iter().filter_map(Value::as_str);
    match fields::text(service, "/spec/type") {
        "ExternalName" => or_none(fields::text(service, "/spec/externalName")),
        "LoadBalancer" => {
            let balancers = fields::list(service, "/status/loadBalancer/ingress").iter().map(|ingress| {
                let ip = fields::text(ingress, "/ip");
                if ip.is_empty() { fields::text(ingress, "/hostname") } else { ip }
            });
            let addresses = joined(balancers.chain(external));
            if addresses == NONE { "<pending>".to_owned() } else { addresses }
        }
        _ => joined(external),
    }
}

fn ports(service: &Value) -> String {
    let ports = fields::list(service, "/spec/ports").iter().map(|port| {
        let (number, protocol) = (fields::int(port, "/port").unwrap_or(0), fields::text(port, "/protocol"));
        match fields::int(port, "/nodePort").filter(|node_port| *node_port > 0) {
            Some(node_port) => format!("{number}:{node_port}/{protocol}"),
            None => format!("{number}/{protocol}"),
        }
    });
    or_none(&ports.collect::<Vec<_>>().join(","))
}

fn defaults(service: &mut Value) {
    let Some(spec) = fields::child(service, "spec") else { return };
    fields::fill_text(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "None" {
        spec.as_object_mut().map(|spec| spec.remove("sessionAffinityConfig"));
    }
    if spec["sessionAffinity"] == "ClientIP" {
        let config =
            fields::child(spec, "sessionAffinityConfig").and_then(|config| fields::child(config, "clientIP"));
        if let Some(config) = config {
            fields::fill(config, "timeoutSeconds", 10_800);
        }
    }
    fields::fill_text(spec, "type", "ClusterIP");
    service_ports::defaults(spec);
    let kind = fields::text(spec, "/type").to_owned();
    let exposed = kind == "ClusterIP" && !fields::list(spec, "/externalIPs").is_empty();
    if exposed || matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        fields::fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fields::fill(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind != "ExternalName" {
        fields::fill(spec, "internalTrafficPolicy", "Cluster");
        addresses(spec);
    }
}

/// Which families a service has is settled with its addresses (`server/service_families`).
fn addresses(spec: &mut Value) {
    let address = fields::text(spec, "/clusterIP").to_owned();
    if !address.is_empty() && fields::list(spec, "/clusterIPs").is_empty() {
        fields::set(spec, "clusterIPs", json!([address]));
    }
}

fn on_create(service: &mut Value) {
    fields::set(service, "status", json!({"loadBalancer": {}}));
}

/// An update that does not mention the addresses keeps them, and so it does with the ports of the nodes.
fn on_update(new: &mut Value, old: &Value) {
    let kind = fields::text(new, "/spec/type").to_owned();
    let Some(spec) = new.get_mut("spec") else { return };
    service_type::forget(spec, &old["spec"]);
    if kind == "ExternalName" {
        return;
    }
    if let Some(before) = old.get("spec").filter(|before| before["type"] != "ExternalName") {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let absent =
                spec.get(field).is_none_or(|value| *value == "" || *value == json!([]) || *value == 0);
            if absent {
                fields::copy(spec, before, field);
            }
        }
        service_ports::keep_node_ports(spec, before, &kind);
    }
}

fn validate(service: &Value, faults: &mut Faults) {
    let kind = fields::text(service, "/spec/type");
    if !TYPES.contains(&kind) {
        faults.not_supported("spec.type", kind, &TYPES);
    }
    let headless = fields::text(service, "/spec/clusterIP") == "None";
    if kind == "ExternalName" {
        external_name(service, faults);
    } else if fields::list(service, "/spec/ports").is_empty() && !headless {
        faults.required("spec.ports", "");
    }
    if matches!(kind, "NodePort" | "LoadBalancer") && headless {
        let message = format!("may not be set to 'None' for {kind} services");
        faults.invalid("spec.clusterIPs[0]", &json!("None"), &message);
    }
    match fields::text(service, "/spec/sessionAffinity") {
        "None" | "ClientIP" => {}
        other => faults.not_supported("spec.sessionAffinity", other, &["ClientIP", "None"]),
    }
    service_addresses::validate(service, faults);
    super::validation::labels(service, "spec.selector", faults);
    service_ports::validate(service, faults);
}

fn external_name(service: &Value, faults: &mut Faults) {
    // A trailing dot, as names of DNS may have.
    let name = fields::text(service, "/spec/externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    super::validation::required_name("spec.externalName", name, knarr_api::names::dns1123_subdomain, faults);
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let (before, after) = (fields::text(old, "/spec/clusterIP"), fields::text(new, "/spec/clusterIP"));
    let named = |service: &Value| fields::text(service, "/spec/type") == "ExternalName";
    if before != after && !before.is_empty() && !named(old) && !named(new) {
        let addresses = new.pointer("/spec/clusterIPs").cloned().unwrap_or_else(|| json!([after]));
        faults.invalid("spec.clusterIPs[0]", &addresses, "may not change once set");
    }
    let class = |service: &Value| fields::text(service, "/spec/loadBalancerClass").to_owned();
    let balanced = |service: &Value| fields::text(service, "/spec/type") == "LoadBalancer";
    if balanced(old) && balanced(new) && class(old) != class(new) {
        faults.invalid("spec.loadBalancerClass", &json!(class(new)), "may not change once set");
    }
}

fn selectable(service: &Value, field: &str) -> Option<String> {
    match field {
        "spec.clusterIP" => Some(fields::text(service, "/spec/clusterIP").to_owned()),
        "spec.type" => Some(fields::text(service, "/spec/type").to_owned()),
        _ => None,
    }
}

fn warn(service: &Value) -> Vec<String> {
    let given = |field: &str| service.pointer(&format!("/spec/{field}")).is_some_and(|value| *value != "");
    let mut found = Vec::new();
    if fields::text(service, "/spec/clusterIP") == "None" {
        for field in ["loadBalancerIP", "externalIPs", "sessionAffinity"] {
            let default =
                field == "sessionAffinity" && fields::text(service, "/spec/sessionAffinity") == "None";
            if given(field) && !default {
                found.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    if given("externalName") && fields::text(service, "/spec/type") != "ExternalName" {
        found.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: Value) -> Value {
        let mut service = json!({"metadata": {"name": "web"}, "spec": spec});
        defaults(&mut service);
        service
    }

    fn faults_of(service: &Value) -> Vec<String> {
        let mut faults = Faults::default();
        validate(service, &mut faults);
        faults.into_causes().into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn defaults_are_those_of_kubernetes() {
        let service = service(json!({"ports": [{"port": 80}]}));
        assert_eq!(service["spec"]["type"], "ClusterIP");
        assert_eq!(service["spec"]["sessionAffinity"], "None");
        assert_eq!(service["spec"]["ports"], json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]));
        assert_eq!(service["spec"]["internalTrafficPolicy"], "Cluster");
        assert_eq!(faults_of(&service), Vec::<String>::new());
    }

    #[test]
    fn faults_name_the_field() {
        assert_eq!(faults_of(&service(json!({}))), ["spec.ports: Required value"]);
        let wrong = service(json!({"type": "Other", "ports": [{"port": 0}]}));
        assert_eq!(
            faults_of(&wrong),
            [
                "spec.type: Unsupported value: \"Other\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ]
        );
    }

    #[test]
    fn an_address_stays_once_given() {
        let mut old = service(json!({"ports": [{"port": 80}]}));
        old["spec"]["clusterIP"] = json!("10.96.0.9");
        old["spec"]["clusterIPs"] = json!(["10.96.0.9"]);
        let mut new = service(json!({"ports": [{"port": 81}]}));
        on_update(&mut new, &old);
        assert_eq!(new["spec"]["clusterIP"], "10.96.0.9");
        new["spec"]["clusterIP"] = json!("10.96.0.10");
        let mut faults = Faults::default();
        validate_update(&new, &old, &mut faults);
        assert_eq!(faults.into_causes()[0].field, "spec.clusterIPs[0]");
    }

    #[test]
    fn cells_show_ports_and_addresses() {
        let mut shown = service(
            json!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]}),
        );
        assert_eq!(ports(&shown), "80:30080/TCP,53/UDP");
        assert_eq!(external_addresses(&shown), "<pending>");
        shown["spec"]["type"] = json!("ClusterIP");
        assert_eq!(external_addresses(&shown), "<none>");
    }
}

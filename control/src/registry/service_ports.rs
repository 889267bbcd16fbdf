//! The ports of a service: where it listens, where its pods listen, which port of every node leads to it.

use super::{faults::Faults, fields, validation};
use knarr_api::names;
use serde_json::{Value, json};

pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// TCP, and the pods listen where the service does.
pub(super) fn defaults(spec: &mut Value) {
    for port in fields::each(spec, "ports") {
        fields::fill_text(port, "protocol", "TCP");
        let same = port.get("port").cloned().unwrap_or(Value::Null);
        if port.get("targetPort").is_none_or(|target| target.is_null() || *target == 0 || *target == "") {
            fields::set(port, "targetPort", same);
        }
    }
}

/// A port that keeps its number and protocol keeps its port of the nodes.
pub(super) fn keep_node_ports(spec: &mut Value, before: &Value, kind: &str) {
    let old_ports = fields::list(before, "/ports").to_vec();
    for port in fields::each(spec, "ports") {
        if !matches!(kind, "NodePort" | "LoadBalancer") {
            port.as_object_mut().map(|port| port.remove("nodePort"));
            continue;
        }
        let same =
            |old: &&Value| old.get("port") == port.get("port") && old.get("protocol") == port.get("protocol");
        let kept = old_ports.iter().find(same).and_then(|old| fields::int(old, "/nodePort"));
        if let Some(kept) = kept {
            fields::fill_int(port, "nodePort", kept);
        }
    }
}

/// Numbers, names, protocols, and that no port occurs twice.
pub(super) fn validate(service: &Value, faults: &mut Faults) {
    let ports = fields::list(service, "/spec/ports");
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        port_name(port, &path, ports.len() > 1, &ports[..index], faults);
        validation::port_number(&format!("{path}.port"), fields::int(port, "/port").unwrap_or(0), faults);
        match fields::text(port, "/protocol") {
            protocol if PROTOCOLS.contains(&protocol) => {}
            other => faults.not_supported(format!("{path}.protocol"), other, &PROTOCOLS),
        }
        validation::port_or_name(&format!("{path}.targetPort"), port.get("targetPort"), faults);
        let protocol = fields::text(port, "/appProtocol");
        let field = format!("{path}.appProtocol");
        validation::optional_name(&field, protocol, names::qualified_name, faults);
        let same = |other: &Value| {
            other.get("port") == port.get("port") && other.get("protocol") == port.get("protocol")
        };
        if ports[..index].iter().any(same) {
            // Kubernetes tells the port in its inner form.
            let shown = json!({
                "Name": "", "Protocol": port["protocol"], "AppProtocol": null, "Port": port["port"],
                "TargetPort": 0, "NodePort": 0,
            });
            faults.duplicate(path.as_str(), &shown);
        }
    }
    let kind = fields::text(service, "/spec/type");
    let uses_node_ports = matches!(kind, "NodePort" | "LoadBalancer");
    for (index, port) in ports.iter().enumerate() {
        if fields::int(port, "/nodePort").unwrap_or(0) != 0 && !uses_node_ports {
            let message = format!("may not be used when `type` is '{kind}'");
            faults.forbidden(format!("spec.ports[{index}].nodePort"), &message);
        }
    }
}

fn port_name(port: &Value, path: &str, needed: bool, earlier: &[Value], faults: &mut Faults) {
    let name = fields::text(port, "/name");
    match name {
        "" if needed => faults.required(format!("{path}.name"), ""),
        "" => {}
        name => {
            validation::dns_label(&format!("{path}.name"), name, faults);
            if earlier.iter().any(|other| fields::text(other, "/name") == name) {
                faults.duplicate(format!("{path}.name"), &json!(name));
            }
        }
    }
}

//! What belongs to a type of service goes with it: a client that changes only `spec.type` of what it read need not
//! know which other fields the old type had. A field that the client changed too is its own wish, and is judged.

use super::fields;
use serde_json::Value;

/// A field, and whether a service of this `spec` has it.
type Owned = (&'static str, fn(&Value) -> bool);

const FIELDS: [Owned; 7] = [
    ("ipFamilies", has_address),
    ("ipFamilyPolicy", has_address),
    ("internalTrafficPolicy", has_address),
    ("externalTrafficPolicy", is_reached_from_outside),
    ("healthCheckNodePort", has_health_port),
    ("allocateLoadBalancerNodePorts", is_balanced),
    ("loadBalancerClass", is_balanced),
];

fn kind(spec: &Value) -> &str {
    fields::text(spec, "/type")
}

fn has_address(spec: &Value) -> bool {
    kind(spec) != "ExternalName"
}

fn has_node_ports(spec: &Value) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
}

fn is_reached_from_outside(spec: &Value) -> bool {
    has_node_ports(spec) || (kind(spec) == "ClusterIP" && !fields::list(spec, "/externalIPs").is_empty())
}

fn is_balanced(spec: &Value) -> bool {
    kind(spec) == "LoadBalancer"
}

/// A load balancer asks each node on a port of its own whether it has endpoints.
pub(crate) fn has_health_port(spec: &Value) -> bool {
    is_balanced(spec) && fields::text(spec, "/externalTrafficPolicy") == "Local"
}

/// Takes out of `spec` what only its type `before` had, as far as it is unchanged.
pub(super) fn forget(spec: &mut Value, before: &Value) {
    for (field, has) in FIELDS {
        if has(before) && !has(spec) && spec.get(field) == before.get(field) {
            remove(spec, field);
        }
    }
    if has_node_ports(before) && !has_node_ports(spec) && node_ports(spec) == node_ports(before) {
        fields::each(spec, "ports").for_each(|port| remove(port, "nodePort"));
    }
}

fn remove(object: &mut Value, field: &str) {
    object.as_object_mut().map(|object| object.remove(field));
}

fn node_ports(spec: &Value) -> Vec<Option<i64>> {
    fields::list(spec, "/ports").iter().map(|port| fields::int(port, "/nodePort")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_type_had_goes_with_it_unless_it_was_changed() {
        let before = json!({"type": "NodePort", "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80, "nodePort": 30080}]});
        let with = |change: Value| {
            let mut spec = before.clone();
            change.as_object().unwrap().iter().for_each(|(field, value)| spec[field] = value.clone());
            forget(&mut spec, &before);
            spec
        };
        let named = with(json!({"type": "ExternalName", "externalName": "a.example"}));
        let expected = json!({"type": "ExternalName", "externalName": "a.example", "ports": [{"port": 80}]});
        assert_eq!(named, expected);
        let inner = with(json!({"type": "ClusterIP"}));
        assert_eq!(inner["internalTrafficPolicy"], "Cluster");
        assert!(inner.get("externalTrafficPolicy").is_none() && inner["ports"][0].get("nodePort").is_none());
        let own = with(
            json!({"type": "ClusterIP", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30081}]}),
        );
        assert_eq!(
            (&own["externalTrafficPolicy"], &own["ports"][0]["nodePort"]),
            (&json!("Local"), &json!(30081))
        );
        assert_eq!(with(json!({"type": "LoadBalancer"}))["ports"][0]["nodePort"], 30080);
    }
}

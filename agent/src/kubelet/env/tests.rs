//! The environment's rules as tables.

use super::*;

#[test]
fn expansion_follows_the_api() {
    let lookup = |name: &str| (name == "A").then_some("value");
    for (text, expected) in [
        ("$(A)", "value"),
        ("x$(A)y", "xvaluey"),
        ("$(B)", "$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$value"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$", "$"),
        ("", ""),
    ] {
        assert_eq!(expand(text, &lookup), expected, "{text}");
    }
}

#[test]
fn services_become_docker_style_links() {
    let service = |namespace: &str, name: &str, ip: &str| -> Service {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": ip, "ports": [{"port": 80, "name": "http", "protocol": "TCP"}]}
        }))
        .unwrap()
    };
    let services = [
        service("default", "kubernetes", "10.96.0.1"),
        service("shop", "web-1", "10.96.0.7"),
        service("other", "db", "10.96.0.8"),
        service("shop", "headless", "None"),
    ];
    let variables = service_variables(&services, "shop", true);
    assert_eq!(variables["KUBERNETES_SERVICE_HOST"], "10.96.0.1");
    assert_eq!(variables["WEB_1_SERVICE_PORT_HTTP"], "80");
    assert_eq!(variables["WEB_1_PORT_80_TCP"], "tcp://10.96.0.7:80");
    assert!(!variables.contains_key("DB_SERVICE_HOST") && !variables.contains_key("HEADLESS_SERVICE_HOST"));
    let unlinked = service_variables(&services, "shop", false);
    assert!(unlinked.contains_key("KUBERNETES_PORT") && !unlinked.contains_key("WEB_1_PORT"));
}

#[test]
fn later_definitions_win_and_missing_references_are_named() {
    let pod: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "m"}, "prefix": "P_"}],
            "env": [{"name": "P_a", "value": "own"}, {"name": "b", "value": "$(P_a)-$(c)"},
                    {"name": "gone", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "k", "optional": true}}}]},
          {"name": "d", "env": [{"name": "e", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}
    }))
    .unwrap();
    let map: k8s_openapi::api::core::v1::ConfigMap =
        serde_json::from_value(serde_json::json!({"data": {"a": "1", "z": "2"}})).unwrap();
    let references = References { config_maps: BTreeMap::from([("m".into(), map)]), ..Default::default() };
    let (facts, services) = (Facts::default(), BTreeMap::new());
    let sources = Sources { pod: &pod, facts: &facts, references: &references, services: &services };
    let containers = &pod::spec(&pod).containers;
    let pairs = environment(sources, &containers[0]).unwrap();
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(pairs, [("P_a", "own"), ("P_z", "2"), ("b", "own-$(c)")]);
    assert_eq!(environment(sources, &containers[1]), Err("secret \"s\" not found".to_string()));
}

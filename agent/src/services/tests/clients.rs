//! Who may use a service, and which of its endpoints are near: source ranges, hints, and the node's own object.

use super::*;

#[test]
fn source_ranges_are_read_as_kube_proxy_reads_them() {
    let rules = |extra: Value, annotation: Option<&str>, family: &str| -> Option<String> {
        let address = if family == "6" { "2001:db8::7" } else { "198.51.100.7" };
        let mut service = Service::clone(&balanced(extra, address));
        let spec = service.spec.as_mut().unwrap();
        spec.cluster_ips.as_mut().unwrap().push("fd00:96::a".into());
        let annotation = annotation.map(|text| {
            [("service.beta.kubernetes.io/load-balancer-source-ranges".to_owned(), text.to_owned())].into()
        });
        service.metadata.annotations = annotation;
        let table = table_of(&[Arc::new(service)], &[]);
        let chain = table.chains.get(&format!("limited{family}/default/web/tcp/80"));
        assert_eq!(chain.is_some(), table.chains.contains_key("limits"), "no detour without need");
        chain.map(|chain| chain.rules.join("; "))
    };
    let ranges = |ranges: Value| json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ranges});
    for (extra, annotation, family, expected) in [
        (ranges(json!([])), None, "", None),
        (ranges(json!([" 10.9.1.1/8 "])), None, "", Some("ip saddr 10.0.0.0/8 accept; drop")),
        (ranges(json!(["10.0.0.0/8", "0.0.0.0/0"])), None, "", None),
        (ranges(json!(["10.0.0.0/8"])), None, "6", None),
        (
            ranges(json!(["2001:db8::/32", "10.0.0.0/8"])),
            None,
            "6",
            Some("ip6 saddr 2001:db8::/32 accept; drop"),
        ),
        (
            ranges(json!([])),
            Some("10.0.0.0/8,192.168.1.0/24"),
            "",
            Some("ip saddr 10.0.0.0/8 accept; ip saddr 192.168.1.0/24 accept; drop"),
        ),
        (ranges(json!(["10.0.0.0/8"])), Some("11.0.0.0/8"), "", Some("ip saddr 10.0.0.0/8 accept; drop")),
        (ranges(json!([])), Some("nonsense"), "", Some("drop")),
        (
            ranges(json!(["192.0.2.0/24"])),
            None,
            "",
            Some("ip saddr 192.0.2.0/24 accept; ip saddr 198.51.100.7 accept; drop"),
        ),
    ] {
        assert_eq!(
            rules(extra.clone(), annotation, family).as_deref(),
            expected,
            "{extra} {annotation:?} {family}"
        );
    }
}

#[test]
fn a_balancer_that_passes_connections_on_itself_has_no_rules() {
    let mut service = Service::clone(&balanced(json!({"type": "LoadBalancer"}), "198.51.100.7"));
    assert_eq!(ports::ports(&[Arc::new(service.clone())], &[], &here())[0].external_ips.len(), 1);
    let status = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.7", "ipMode": "Proxy"}]}});
    service.status = Some(serde_json::from_value(status).unwrap());
    assert_eq!(ports::ports(&[Arc::new(service)], &[], &here())[0].external_ips.len(), 0);
}

/// Clients in the ranges and outside them, in both families; node ports and the cluster's address are not bound by them.
#[test]
fn only_named_clients_reach_a_load_balancers_addresses() {
    Lab::run(|lab| async move {
        let (_network, pods) = pods(&lab, 2).await;
        pods[0].0.serve_many(8080, "web");
        let address: IpAddr = "198.51.100.7".parse().unwrap();
        let world = lab.world();
        world.shell(&format!("ip route add 198.51.100.7/32 via {}", lab.uplink_address()));
        world.shell("ip addr add 192.0.2.77/24 dev eth0");
        let ready = [(pods[0].1.as_str(), json!({"ready": true}), "here")];
        let with = |ranges: Value| {
            let spec = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ranges, "ports": [{"port": 80, "nodePort": 30080}]});
            table_of(&[balanced(spec, "198.51.100.7")], &[slice("web", 8080, &ready)])
        };
        let mut kernel = with(json!([]));
        nft::apply(&kernel.replacement()).unwrap();
        let pod = |n: usize| pods[n].1.clone();
        for (ranges, from_world, from_host, from_pod) in [
            (json!([]), true, true, true),
            (json!(["192.0.2.1/32"]), true, false, false),
            (json!(["203.0.113.0/24"]), false, false, false),
            (json!(["192.0.2.2/32", format!("{}/32", pod(1))]), false, true, true),
            (json!(["192.0.2.0/24"]), true, true, false),
        ] {
            let wanted = with(ranges.clone());
            nft::apply(&wanted.difference(&kernel)).unwrap();
            kernel = wanted;
            assert_eq!(world.try_get(address, 80).is_some(), from_world, "from outside, {ranges}");
            assert_eq!(lab.try_get(address, 80).is_some(), from_host, "from the host, {ranges}");
            assert_eq!(pods[1].0.try_get(address, 80).is_some(), from_pod, "from a pod, {ranges}");
            assert_eq!(world.get(lab.uplink_address(), 30080), "web", "by the node port, {ranges}");
            assert_eq!(pods[1].0.get(vip(), 80), "web", "by the cluster's address, {ranges}");
        }
        // A node that holds the address itself asks from it.
        lab.shell("ip addr add 198.51.100.7/32 dev uplink");
        assert_eq!(lab.get(address, 80), "web");
    });
}

/// Endpoints here, in the same zone and elsewhere; the way from this node.
#[test]
fn hints_keep_connections_near() {
    let hinted = |endpoints: &[(&str, &str, &str, Value)]| {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|(address, node, zone, conditions)| {
                let hints = json!({"forZones": [{"name": zone}], "forNodes": [{"name": node}]});
                json!({"addresses": [address], "nodeName": node, "conditions": conditions, "hints": hints})
            })
            .collect();
        let mut object = serde_json::to_value(&*slice("web", 8080, &[])).unwrap();
        object["endpoints"] = endpoints.into();
        Arc::new(serde_json::from_value::<EndpointSlice>(object).unwrap())
    };
    let (ready, ending) =
        (json!({"ready": true}), json!({"ready": false, "serving": true, "terminating": true}));
    let everywhere = [
        ("10.42.0.5", "here", "east", ready.clone()),
        ("10.42.1.5", "neighbour", "east", ready.clone()),
        ("10.42.2.5", "far", "west", ready.clone()),
    ];
    let place = |node: &str, zone: &str| Place { node: node.into(), zone: Some(zone.into()) };
    let found = |slice: &Arc<EndpointSlice>, place: &Place, extra: Value| {
        let ports = ports::ports(&[web(extra)], std::slice::from_ref(slice), place);
        let text = |targets: &BTreeSet<ports::Target>| -> Vec<String> {
            targets.iter().map(|(address, _)| address.to_string()).collect()
        };
        (text(&ports[0].internal), text(ports[0].everywhere()))
    };
    let all = hinted(&everywhere);
    let only = |addresses: &[&str]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let internal = |slice: &Arc<EndpointSlice>, place: Place| found(slice, &place, json!({})).0;
    assert_eq!(internal(&all, place("here", "east")), only(&["10.42.0.5"]));
    assert_eq!(internal(&all, place("new", "east")), only(&["10.42.0.5", "10.42.1.5"]));
    assert_eq!(internal(&all, place("new", "north")).len(), 3);
    let mut changed = everywhere.clone();
    changed[0].3 = ending.clone();
    assert_eq!(internal(&hinted(&changed), place("here", "east")), only(&["10.42.1.5"]), "the zone is next");
    changed.iter_mut().for_each(|endpoint| endpoint.3 = ending.clone());
    assert_eq!(internal(&hinted(&changed), place("here", "east")).len(), 3, "what terminates has no hints");
    // A policy is stronger than a hint, and clients from outside are not bound by the one for those inside.
    let local = json!({"internalTrafficPolicy": "Local", "type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    let (bound, others) = found(&all, &place("neighbour", "north"), local.clone());
    assert_eq!((bound, others), (only(&["10.42.1.5"]), only(&["10.42.1.5"])), "its node has one");
    let (bound, others) = found(&all, &place("new", "north"), local.clone());
    assert_eq!((bound.len(), others.len()), (0, 3));
    let table = table::table(&frame(), &ports::ports(&[web(local)], &[all], &place("new", "north")));
    assert_eq!(table.sets["node-ports"].elements["tcp . 30080"], "goto external/default/web/tcp/80");
    assert!(table.chains["external/default/web/tcp/80"].rules[1] == "goto cluster/default/web/tcp/80");
    assert!(table.chains["cluster/default/web/tcp/80"].rules[0].contains("mod 3"));
}

/// The zone of a node may be told later, and the rules follow; so does the answer to those who ask about the node.
#[test]
fn the_rules_follow_the_nodes_own_object() {
    Lab::run(|lab| async move {
        let api = ScriptedApi::default();
        let (_network, pods) = pods(&lab, 2).await;
        for (n, (pod, _)) in pods.iter().enumerate() {
            pod.serve_many(8080, TEXTS[n]);
        }
        let endpoint =
            |n: usize, zone: &str| json!({"addresses": [pods[n].1], "hints": {"forZones": [{"name": zone}]}});
        let mut object = serde_json::to_value(&*slice("web", 8080, &[])).unwrap();
        object["endpoints"] = json!([endpoint(0, "east"), endpoint(1, "west")]);
        api.put(SLICES, object);
        api.put(SERVICES, serde_json::to_value(&*web(json!({}))).unwrap());
        let (told, object) = tokio::sync::watch::channel(None);
        let own = Own { name: "here".into(), object };
        let task = tokio::spawn(run(api.client(), lab.config(), own, CancellationToken::new()));
        let answers = |expected: &'static [&'static str]| {
            let lab = lab.clone();
            let all = move || -> BTreeSet<String> { (0..4).filter_map(|_| lab.try_get(vip(), 80)).collect() };
            eventually(move || all() == expected.iter().map(ToString::to_string).collect())
        };
        answers(&["one", "zero"]).await;
        for (zone, expected) in [("west", &["one"]), ("east", &["zero"])] {
            let node = json!({"metadata": {"name": "here", "labels": {"topology.kubernetes.io/zone": zone}}});
            told.send_replace(Some(Arc::new(serde_json::from_value(node).unwrap())));
            answers(expected).await;
        }
        let health = async |path: &'static str| {
            let lab = lab.clone();
            let ask = move || lab.shell(&format!("curl -s -m 60 http://127.0.0.1:10256{path}"));
            tokio::task::spawn_blocking(ask).await.unwrap()
        };
        let says = |answer: String, what: &str| assert!(answer.ends_with(what), "{answer}");
        says(health("/healthz").await, "\"nodeEligible\": true}");
        let taints = json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
        told.send_replace(Some(Arc::new(
            serde_json::from_value(json!({"spec": {"taints": taints}})).unwrap(),
        )));
        answers(&["one", "zero"]).await;
        says(health("/healthz").await, "\"nodeEligible\": false}");
        assert!(!health("/livez").await.contains("nodeEligible"));
        task.abort();
    });
}

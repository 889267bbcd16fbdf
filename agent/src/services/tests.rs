//! Services on the real kernel: objects as JSON in, connections between namespaces out.

mod clients;

use super::*;
use crate::network_lab::{Lab, Pod, UdpClient};
use crate::nft;
use crate::scripted_api::ScriptedApi;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

fn frame() -> Frame {
    Frame {
        table: "knarr-services".into(),
        node: vec!["192.0.2.2".parse().unwrap()],
        four: Ranges { cluster: Some("10.42.0.0/16".into()), services: Some("10.96.0.0/16".into()) },
        six: Ranges::default(),
    }
}

fn here() -> Place {
    Place { node: "here".into(), zone: Some("east".into()) }
}

/// The node of that name, whose object nobody has seen.
fn unseen(name: &str) -> Own {
    Own { name: name.into(), object: tokio::sync::watch::channel(None).1 }
}

fn service(name: &str, spec: Value) -> Arc<Service> {
    let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    Arc::new(serde_json::from_value(object).unwrap())
}

/// Endpoints as (address, conditions, node).
fn slice(service: &str, port: u16, endpoints: &[(&str, Value, &str)]) -> Arc<EndpointSlice> {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, conditions, node)| json!({"addresses": [address], "conditions": conditions, "nodeName": node}))
        .collect();
    let six = endpoints
        .first()
        .and_then(|first| first["addresses"][0].as_str())
        .is_some_and(|one| one.contains(':'));
    let family = if six { "IPv6" } else { "IPv4" };
    let object = json!({
        "metadata": {"namespace": "default", "name": format!("{service}-{family}"), "labels": {ports::SERVICE_NAME: service}},
        "addressType": family, "endpoints": endpoints, "ports": [{"port": port, "protocol": "TCP"}],
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn web(extra: Value) -> Arc<Service> {
    let mut spec = json!({"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": [{"port": 80}]});
    let extra = extra.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(extra);
    service("web", spec)
}

fn table_of(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> Table {
    table::table(&frame(), &ports::ports(services, slices, &here()))
}

/// A bridge with pods, without the rest of the agent.
async fn pods(
    lab: &Lab,
    count: usize,
) -> (Arc<crate::engine::network::bridge::BridgeNetwork>, Vec<(Pod, String)>) {
    use crate::engine::network::{PodAttachment, PodNetwork};
    let network = crate::engine::network::bridge::BridgeNetwork::new(lab.config()).unwrap();
    let mut pods = Vec::new();
    for n in 0..count {
        let pod = Pod::new();
        let attachment = PodAttachment {
            sandbox_id: format!("pod{n}"),
            namespace: "default".into(),
            name: format!("pod{n}"),
            uid: format!("pod{n}"),
            netns: pod.netns(),
            host_ports: vec![],
            annotations: Default::default(),
        };
        let address = network.setup(&attachment).await.unwrap()[0];
        pods.push((pod, address.to_string()));
    }
    (network, pods)
}

fn vip() -> IpAddr {
    "10.96.0.10".parse().unwrap()
}

const TEXTS: [&str; 3] = ["zero", "one", "two"];

#[test]
fn a_service_reaches_each_ready_pod_in_turn_from_everywhere() {
    Lab::run(|lab| async move {
        let (_network, pods) = pods(&lab, 3).await;
        for (n, (pod, _)) in pods.iter().enumerate() {
            pod.serve_many(8080, TEXTS[n]);
        }
        let ready: Vec<_> =
            pods.iter().map(|(_, address)| (address.as_str(), json!({"ready": true}), "here")).collect();
        let extra = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}], "externalIPs": ["198.51.100.7"]});
        let both = table_of(&[web(extra)], &[slice("web", 8080, &ready)]);
        nft::apply(&both.replacement()).unwrap();
        for client in &pods {
            let answers: BTreeSet<String> = (0..3).map(|_| client.0.get(vip(), 80)).collect();
            assert_eq!(answers.len(), 3, "from a pod, itself included: {answers:?}");
        }
        let answers: BTreeSet<String> = (0..3).map(|_| lab.get(vip(), 80)).collect();
        assert_eq!(answers.len(), 3, "from the host: {answers:?}");
        let world = lab.world();
        world.shell(&format!("ip route add 198.51.100.7/32 via {}", lab.uplink_address()));
        assert!(TEXTS.contains(&world.get("198.51.100.7".parse().unwrap(), 80).as_str()));
        for (address, port) in [(lab.uplink_address(), 30080), ("10.42.0.1".parse().unwrap(), 30080)] {
            assert!(TEXTS.contains(&lab.get(address, port).as_str()));
            assert!(TEXTS.contains(&pods[0].0.get(address, port).as_str()));
        }
        assert!(TEXTS.contains(&world.get(lab.uplink_address(), 30080).as_str()));
        assert!(TEXTS.contains(&lab.get("127.0.0.1".parse().unwrap(), 30080).as_str()));
    });
}

#[test]
fn without_a_ready_endpoint_connections_are_refused_at_once() {
    Lab::run(|lab| async move {
        let (_network, pods) = pods(&lab, 1).await;
        let one = [(pods[0].1.as_str(), json!({"ready": false}), "here")];
        nft::apply(&table_of(&[web(json!({}))], &[slice("web", 8080, &one)]).replacement()).unwrap();
        for address in [vip(), "10.96.9.9".parse().unwrap()] {
            assert!(pods[0].0.is_refused(address, 80), "{address} from a pod: rejected, not dropped");
            assert!(lab.is_refused(address, 80), "{address} from the host: rejected, not dropped");
        }
        // So do the addresses of load balancers.
        lab.world().shell(&format!("ip route add 198.51.100.7/32 via {}", lab.uplink_address()));
        let balanced = balanced(json!({"type": "LoadBalancer"}), "198.51.100.7");
        nft::apply(&table_of(&[balanced], &[slice("web", 8080, &one)]).replacement()).unwrap();
        assert!(lab.world().is_refused("198.51.100.7".parse().unwrap(), 80));
        // Nobody else answers on a node port, or at an address of the service that the node itself has.
        let node = lab.uplink_address();
        lab.shell("ip addr add 198.51.100.8/32 dev uplink");
        let _servers = [lab.serve_at("0.0.0.0", 30080, "other"), lab.serve_at("0.0.0.0", 80, "other")];
        lab.world().shell(&format!("ip route add 198.51.100.8/32 via {node}"));
        let extra = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}], "externalIPs": ["198.51.100.8"]});
        nft::apply(&table_of(&[web(extra)], &[slice("web", 8080, &one)]).replacement()).unwrap();
        for (address, port) in [(node, 30080), ("198.51.100.8".parse().unwrap(), 80)] {
            assert!(lab.world().is_refused(address, port), "{address} from outside");
            assert!(pods[0].0.is_refused(address, port), "{address} from a pod");
            assert!(lab.is_refused(address, port), "{address} from the host");
        }
        assert_eq!(lab.world().get(node, 80), "other", "what is not the service's is answered");
    });
}

/// Another way may lead to an endpoint, so nothing is said; whoever is not bound by the policy is served.
#[test]
fn a_node_without_endpoints_of_its_own_is_silent_where_they_must_be_there() {
    Lab::run(|lab| async move {
        let (_network, pods) = pods(&lab, 2).await;
        pods[0].0.serve_many(8080, "web");
        let external: IpAddr = "198.51.100.7".parse().unwrap();
        lab.world().shell(&format!("ip route add {external}/32 via {}", lab.uplink_address()));
        let policies = |internal: &str, external: &str| {
            web(
                json!({"internalTrafficPolicy": internal, "externalTrafficPolicy": external, "type": "NodePort",
                "ports": [{"port": 80, "nodePort": 30080}], "externalIPs": ["198.51.100.7"]}),
            )
        };
        let elsewhere = [(pods[0].1.as_str(), json!({"ready": true}), "elsewhere")];
        let rules = |service: Arc<Service>, endpoints: &[(&str, Value, &str)]| {
            nft::apply(&table_of(&[service], &[slice("web", 8080, endpoints)]).replacement()).unwrap();
        };
        rules(policies("Local", "Cluster"), &elsewhere);
        assert!(pods[1].0.is_silent(vip(), 80), "from a pod: dropped, not refused");
        assert!(lab.is_silent(vip(), 80), "from the host: dropped, not refused");
        assert!(pods[1].0.is_refused(vip(), 81), "a port that is nobody's");
        assert_eq!(lab.world().get(external, 80), "web");
        assert_eq!(lab.world().get(lab.uplink_address(), 30080), "web");
        rules(policies("Cluster", "Local"), &elsewhere);
        assert_eq!(pods[1].0.get(vip(), 80), "web");
        assert!(lab.world().is_silent(external, 80));
        assert!(lab.world().is_silent(lab.uplink_address(), 30080));
        assert_eq!(pods[1].0.get(external, 80), "web", "clients in the cluster are not from outside");
        rules(policies("Local", "Local"), &[]);
        assert!(pods[1].0.is_refused(vip(), 80), "there are none at all");
        assert!(lab.world().is_refused(external, 80), "there are none at all");
    });
}

#[test]
fn an_endpoint_of_the_host_itself_is_reached() {
    Lab::run(|lab| async move {
        let (_network, pods) = pods(&lab, 1).await;
        let node = lab.uplink_address().to_string();
        let _server = lab.serve_at(&node, 6443, "api");
        let slices = [slice("web", 6443, &[(&node, json!({}), "here")])];
        nft::apply(&table_of(&[web(json!({}))], &slices).replacement()).unwrap();
        assert_eq!(pods[0].0.get(vip(), 80), "api");
        assert_eq!(lab.get(vip(), 80), "api");
    });
}

#[test]
fn affinity_keeps_a_client_at_its_endpoint() {
    Lab::run(|lab| async move {
        let (_network, pods) = pods(&lab, 3).await;
        for (n, (pod, _)) in pods.iter().enumerate() {
            pod.serve_many(8080, TEXTS[n]);
        }
        let ready: Vec<_> = pods.iter().map(|(_, address)| (address.as_str(), json!({}), "here")).collect();
        let two =
            table_of(&[web(json!({"sessionAffinity": "ClientIP"}))], &[slice("web", 8080, &ready[..2])]);
        nft::apply(&two.replacement()).unwrap();
        let first = lab.get(vip(), 80);
        let three = table_of(&[web(json!({"sessionAffinity": "ClientIP"}))], &[slice("web", 8080, &ready)]);
        nft::apply(&three.difference(&two)).unwrap();
        for _ in 0..6 {
            assert_eq!(lab.get(vip(), 80), first, "also after another endpoint came");
        }
    });
}

#[test]
fn local_traffic_policy_keeps_the_clients_address_and_the_node() {
    let ready = [("10.42.0.5", json!({}), "here"), ("10.42.1.5", json!({}), "elsewhere")];
    let extra = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]});
    let table = table_of(&[web(extra)], &[slice("web", 8080, &ready)]);
    let local = &table.chains["local/default/web/tcp/80"].rules;
    assert_eq!(local, &["meta l4proto tcp dnat ip to numgen inc mod 1 map { 0 : 10.42.0.5 . 8080 }"]);
    assert!(table.chains["service/default/web/tcp/80"].rules[0].contains("mod 2"));
    assert_eq!(table.sets["node-ports"].elements["tcp . 30080"], "goto external/default/web/tcp/80");
}

#[test]
fn endpoints_that_terminate_serve_only_when_nothing_else_does() {
    let terminating = json!({"ready": false, "serving": true, "terminating": true});
    let mixed = [("10.42.0.5", terminating.clone(), "here"), ("10.42.0.6", json!({"ready": true}), "here")];
    let found = ports::ports(&[web(json!({}))], &[slice("web", 8080, &mixed)], &here());
    assert_eq!(found[0].internal, BTreeSet::from([("10.42.0.6".parse().unwrap(), 8080)]));
    let found = ports::ports(&[web(json!({}))], &[slice("web", 8080, &mixed[..1])], &here());
    assert_eq!(found[0].internal, BTreeSet::from([("10.42.0.5".parse().unwrap(), 8080)]));
}

/// The same node with addresses of version 6: every address leads to endpoints of its own family.
#[test]
fn each_family_has_rules_of_its_own() {
    Lab::run(|lab| async move {
        let pod = Pod::new();
        let pid = pod.pid();
        lab.shell(&format!(
            "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding && echo 1 >/proc/sys/net/ipv4/ip_forward && ip link add six type veth peer name eth0 netns {pid} \
             && ip link set six up && ip addr add fd00:42::1/64 dev six nodad \
             && ip addr add 10.42.0.1/24 dev six && ip -6 route add fd00:96::/112 dev six"
        ));
        pod.shell(
            "ip link set lo up && ip link set eth0 up && ip addr add fd00:42::5/64 dev eth0 nodad \
             && ip addr add 10.42.0.5/24 dev eth0 && ip route add default via 10.42.0.1 \
             && ip -6 route add default via fd00:42::1",
        );
        pod.serve_at("10.42.0.5", 8080, "four");
        pod.serve_at("fd00:42::5", 8080, "six");
        let addresses = json!({"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:96::a"],
            "type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}], "sessionAffinity": "ClientIP"});
        let slices =
            ["10.42.0.5", "fd00:42::5"].map(|address| slice("web", 8080, &[(address, json!({}), "here")]));
        let six = Ranges { cluster: Some("fd00:42::/64".into()), services: Some("fd00:96::/112".into()) };
        let frame = Frame { six, ..frame() };
        let both =
            |services: &[Arc<Service>]| table::table(&frame, &ports::ports(services, &slices, &here()));
        nft::apply(&both(&[web(addresses.clone())]).replacement()).unwrap();
        for (address, port, text) in [
            ("10.96.0.10", 80, "four"),
            ("fd00:96::a", 80, "six"),
            ("10.42.0.1", 30080, "four"),
            ("fd00:42::1", 30080, "six"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(lab.get(address, port), text, "{address} from the host");
            assert_eq!(pod.get(address, port), text, "{address} from the pod itself");
        }
        for address in ["fd00:96::a", "fd00:96::b"] {
            assert!(pod.is_refused(address.parse().unwrap(), 81), "{address}: rejected, not dropped");
        }
        // Without affinity the way is another.
        let mut plain = addresses;
        plain["sessionAffinity"] = json!("None");
        nft::apply(&both(&[web(plain)]).replacement()).unwrap();
        assert_eq!(pod.get("fd00:96::a".parse().unwrap(), 80), "six");
    });
}

#[test]
fn headless_external_and_broken_services_have_no_rules() {
    let mut of_another_proxy = Service::clone(&web(json!({})));
    let label = ("service.kubernetes.io/service-proxy-name".to_owned(), "mesh".to_owned());
    of_another_proxy.metadata.labels = Some([label].into());
    let services = [
        Arc::new(of_another_proxy),
        service("headless", json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]})),
        service("alias", json!({"type": "ExternalName", "externalName": "example.com"})),
        service("broken", json!({"clusterIP": "10.96.0.300", "ports": [{"port": 80}]})),
        service("odd port", json!({"clusterIP": "10.96.0.3", "ports": [{"port": 80}]})),
        service("huge", json!({"clusterIP": "10.96.0.3", "ports": [{"port": 70000}]})),
        service("pending", json!({"ports": [{"port": 80}]})),
    ];
    assert_eq!(ports::ports(&services, &[], &here()), []);
}

/// One service as a small vector: which of the options it has and how many endpoints.
fn any_cluster() -> impl Strategy<Value = Table> {
    let one = (0u8..4, 0u8..4, any::<bool>(), any::<bool>(), any::<bool>());
    proptest::collection::vec(one, 0..4).prop_map(|services| {
        let mut objects = (Vec::new(), Vec::new());
        for (name, endpoints, affinity, outside, local) in services {
            let mut spec = json!({"clusterIP": format!("10.96.0.{name}"), "ports": [{"port": 80}]});
            if affinity {
                spec["sessionAffinity"] = "ClientIP".into();
            }
            if outside {
                spec["ports"][0]["nodePort"] = (30000 + u32::from(name)).into();
                spec["externalTrafficPolicy"] = if local { "Local" } else { "Cluster" }.into();
            }
            let name = format!("s{name}");
            let list: Vec<(String, Value, &str)> = (0..endpoints)
                .map(|n| (format!("10.42.0.{}", 5 + n), json!({}), if n == 0 { "here" } else { "there" }))
                .collect();
            let list: Vec<_> = list.iter().map(|(a, c, n)| (a.as_str(), c.clone(), *n)).collect();
            objects.0.push(service(&name, spec));
            objects.1.push(slice(&name, 8080, &list));
        }
        table_of(&objects.0, &objects.1)
    })
}

/// However a table came about, by differences or at once, the kernel holds the same.
#[test]
fn differences_lead_to_the_same_table_as_a_fresh_start() {
    Lab::run(|lab| async move {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(12));
        let steps = proptest::collection::vec(any_cluster(), 2..5);
        let outcome = runner.run(&steps, |steps| {
            let mut kernel = steps[0].clone();
            nft::apply(&kernel.replacement()).unwrap();
            for step in steps {
                nft::apply(&step.difference(&kernel)).unwrap();
                kernel = step;
            }
            let grown = lab.shell("nft list ruleset | sort");
            nft::apply(&kernel.replacement()).unwrap();
            prop_assert_eq!(grown, lab.shell("nft list ruleset | sort"));
            Ok(())
        });
        outcome.unwrap();
    });
}

/// What a load balancer's address leads to, for whom.
fn balanced(extra: Value, address: &str) -> Arc<Service> {
    let mut service = Service::clone(&web(extra));
    let status = json!({"loadBalancer": {"ingress": [{"ip": address}]}});
    service.status = Some(serde_json::from_value(status).unwrap());
    Arc::new(service)
}

const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

/// The whole way: objects at the API server, packets in the kernel; through changes, a server that restarts, a
/// restart of ours and somebody who flushes the rules while we are away.
#[test]
fn the_table_follows_the_cluster() {
    Lab::run(|lab| async move {
        let api = ScriptedApi::default();
        let (_network, pods) = pods(&lab, 1).await;
        pods[0].0.serve_many(8080, "pod");
        let shutdown = CancellationToken::new();
        let mut task = tokio::spawn(run(api.client(), lab.config(), unseen("here"), shutdown.clone()));
        let get = |address: &'static str| {
            let lab = lab.clone();
            async move { eventually(move || lab.try_get(address.parse().unwrap(), 80).is_some()).await }
        };
        let put = |name: &str, address: &str| {
            api.put(
                SERVICES,
                json!({"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}}),
            );
            let mut slice =
                serde_json::to_value(&*slice(name, 8080, &[(&pods[0].1, json!({}), "here")])).unwrap();
            slice["metadata"]["name"] = format!("{name}-1").into();
            api.put(SLICES, slice);
        };
        put("one", "10.96.0.11");
        get("10.96.0.11").await;
        api.hang_up();
        put("two", "10.96.0.12");
        get("10.96.0.12").await;
        shutdown.cancel();
        task.await.unwrap().unwrap();
        assert!(lab.try_get("10.96.0.11".parse().unwrap(), 80).is_some(), "services go on without us");
        api.delete(SERVICES, "one");
        put("three", "10.96.0.13");
        task = tokio::spawn(run(api.client(), lab.config(), unseen("here"), CancellationToken::new()));
        get("10.96.0.13").await;
        assert!(!lab.shell("nft list ruleset").contains("default/one"), "stale chains are gone");
        task.abort();
    });
}

fn put_slice(api: &ScriptedApi, slice: &EndpointSlice) {
    api.put(SLICES, serde_json::to_value(slice).unwrap());
}

/// Clients that keep their port and go on sending find the endpoint that there is, whatever became of the one before:
/// from a pod, from the host and from outside; also those that began before there was one.
#[test]
fn a_udp_client_that_keeps_its_port_is_not_bound_to_an_endpoint_that_is_gone() {
    Lab::run(|lab| async move {
        let api = ScriptedApi::default();
        let (_network, pods) = pods(&lab, 3).await;
        let world = lab.world();
        world.shell(&format!("ip route add 198.51.100.7/32 via {}", lab.uplink_address()));
        for (n, (pod, _)) in pods.iter().take(2).enumerate() {
            pod.serve_udp(5353, TEXTS[n]);
        }
        let spec = json!({"clusterIP": "10.96.0.53", "type": "NodePort", "externalIPs": ["198.51.100.7"],
            "ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}]});
        api.put(SERVICES, json!({"metadata": {"namespace": "default", "name": "dns"}, "spec": spec}));
        let endpoint = |n: usize, conditions: Value| {
            let mut slice = (*slice("dns", 5353, &[(&pods[n].1, conditions, "here")])).clone();
            slice.ports.as_mut().unwrap()[0].protocol = Some("UDP".into());
            put_slice(&api, &slice);
        };
        endpoint(0, json!({"ready": false}));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(api.client(), lab.config(), unseen("here"), shutdown.clone()));
        let at = |text: &str| text.parse::<std::net::SocketAddr>().unwrap();
        let node_port = std::net::SocketAddr::new(lab.uplink_address(), 30053);
        let clients = Arc::new([
            ("pod", pods[2].0.udp_client(at("10.96.0.53:53"))),
            ("host", UdpClient::new(at("10.96.0.53:53"))),
            ("host, node port", UdpClient::new(at("127.0.0.1:30053"))),
            ("outside, node port", world.udp_client(node_port)),
            ("outside, external address", world.udp_client(at("198.51.100.7:53"))),
        ]);
        for (name, client) in clients.iter() {
            assert_eq!(client.ask(), None, "{name}: nobody is there yet");
        }
        for (n, text) in TEXTS.iter().enumerate().take(2) {
            endpoint(n, json!({"ready": true}));
            for at in 0..clients.len() {
                let clients = clients.clone();
                eventually(move || clients[at].1.ask().as_deref() == Some(text)).await;
            }
        }
        shutdown.cancel();
        task.await.unwrap().unwrap();
    });
}

#[test]
fn flows_to_a_udp_service_lead_to_all_that_answers() {
    let extra = json!({"type": "NodePort", "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local",
        "ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 53, "protocol": "TCP"}]});
    let terminating = json!({"ready": false, "serving": true, "terminating": true});
    let ended = json!({"ready": false, "serving": false, "terminating": true});
    let endpoints =
        [("10.42.1.5", terminating, "there"), ("10.42.0.6", json!({}), "here"), ("10.42.0.7", ended, "here")];
    let mut slice = (*slice("web", 5353, &endpoints)).clone();
    slice.ports.as_mut().unwrap()[0].protocol = Some("UDP".into());
    let found = flows::ways(&ports::ports(&[web(extra)], &[Arc::new(slice)], &here()));
    let both = BTreeSet::from(["10.42.0.6:5353", "10.42.1.5:5353"].map(|text| text.parse().unwrap()));
    let expected = ["0.0.0.0:30053", "10.96.0.10:53"].map(|text| (text.parse().unwrap(), both.clone()));
    assert_eq!(found.0, expected.into());
}

/// Waits for a condition without holding the runtime's only thread, at most a minute.
async fn eventually(condition: impl FnMut() -> bool + Send + 'static) {
    tokio::task::spawn_blocking(|| crate::network_lab::wait_until("the answer", condition)).await.unwrap();
}

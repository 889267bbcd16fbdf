//! Policies on the real kernel: objects as JSON in, connections between namespaces out.

use super::*;
use crate::engine::network::bridge::BridgeNetwork;
use crate::engine::network::{PodAttachment, PodNetwork};
use crate::network_lab::{self, Lab, Pod as Netns};
use crate::scripted_api::ScriptedApi;
use serde_json::{Value, json};
use std::fmt::Write as _;

const PORT: u16 = 8080;

fn place() -> Place {
    Place { node: "here".into(), table: "knarr-policies".into(), bridge: "knarr0".into() }
}

fn policy(name: &str, spec: Value) -> Arc<NetworkPolicy> {
    let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn pod(namespace: &str, app: &str, addresses: &[&str], node: &str) -> Arc<Pod> {
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let object = json!({
        "metadata": {"namespace": namespace, "name": app, "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i",
            "ports": [{"name": "web", "containerPort": PORT}]}]},
        "status": {"phase": "Running", "podIPs": ips},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn namespaces() -> Vec<Arc<Namespace>> {
    let one = |(name, team): (&str, &str)| {
        let object = json!({"metadata": {"name": name, "labels": {"team": team, "kubernetes.io/metadata.name": name}}});
        Arc::new(serde_json::from_value(object).unwrap())
    };
    [("default", "a"), ("other", "b"), ("kube-system", "system")].map(one).into()
}

/// The rules that a policy becomes, and the sets they look into.
fn text(policies: &[Arc<NetworkPolicy>], pods: &[Arc<Pod>]) -> String {
    let mut policies: Vec<Policy> = policies.iter().filter_map(|policy| Policy::new(policy)).collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let world = World::new(pods, &Announced::new(), &namespaces(), "here", &["10.42.0.1".parse().unwrap()]);
    let table = table::table("t", &world, &policies);
    let mut text = String::new();
    for (name, chain) in table.chains.iter().filter(|(_, chain)| chain.hook.is_none()) {
        writeln!(text, "{name}: {}", chain.rules.join("; ")).unwrap();
    }
    for (name, set) in table.sets.iter().filter(|(name, set)| name.contains('/') && !set.elements.is_empty())
    {
        writeln!(text, "{name} = {}", set.elements.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap();
    }
    text
}

fn rules_of(spec: Value) -> Vec<String> {
    let pods = [
        pod("default", "db", &["10.42.0.2", "fd00::2"], "here"),
        pod("default", "web", &["10.42.0.3", "fd00::3"], "there"),
        pod("other", "web", &["10.42.1.4"], "there"),
    ];
    let mut spec = spec;
    spec["podSelector"] = json!({"matchLabels": {"app": "db"}});
    let text = text(&[policy("p", spec)], &pods);
    text.lines().filter(|line| !line.starts_with("isolated")).map(str::to_owned).collect()
}

#[test]
fn each_kind_of_peer_and_port_is_a_rule() {
    for (spec, expected) in [
        (json!({}), &["ingress/default/p: "][..]),
        (json!({"ingress": [{}]}), &["ingress/default/p: accept"]),
        (
            json!({"ingress": [{"from": [{"podSelector": {}}]}]}),
            &[
                "ingress/default/p: ip saddr @ingress/default/p/0/v4 accept; ip6 saddr @ingress/default/p/0/v6 accept",
                "ingress/default/p/0/v4 = 10.42.0.2, 10.42.0.3",
                "ingress/default/p/0/v6 = fd00::2, fd00::3",
            ],
        ),
        (
            json!({"ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}],
                "ports": [{"port": 80}, {"port": 8000, "endPort": 8080, "protocol": "UDP"}, {"protocol": "SCTP"}]}]}),
            &[
                "ingress/default/p: ip saddr @ingress/default/p/0/v4 tcp dport 80 accept; ip saddr @ingress/default/p/0/v4 udp dport 8000-8080 accept; ip saddr @ingress/default/p/0/v4 meta l4proto sctp accept",
                "ingress/default/p/0/v4 = 10.42.1.4",
            ],
        ),
        (
            json!({"ingress": [{"ports": [{"port": "web"}]}]}),
            &[
                "ingress/default/p: ip daddr . meta l4proto . th dport @ingress/default/p/0/tcp-web/v4 accept; ip6 daddr . meta l4proto . th dport @ingress/default/p/0/tcp-web/v6 accept",
                "ingress/default/p/0/tcp-web/v4 = 10.42.0.2 . tcp . 8080",
                "ingress/default/p/0/tcp-web/v6 = fd00::2 . tcp . 8080",
            ],
        ),
        (
            json!({"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.7/8", "except": ["10.42.0.0/16"]}},
                {"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "fd00::/64", "except": ["nonsense"]}}]}]}),
            &[
                "egress/default/p: ip daddr 10.0.0.0/8 ip daddr != 10.42.0.0/16 accept; meta nfproto ipv4 accept",
            ],
        ),
        (
            json!({"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]}]}),
            &[
                "egress/default/p: ip daddr @egress/default/p/0/v4 accept",
                "egress/default/p/0/v4 = 10.42.0.1",
            ],
        ),
        (
            json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]}]}),
            &["ingress/default/p: "],
        ),
        (json!({"ingress": [{"from": [{}], "ports": [{"port": 99_999}]}]}), &["ingress/default/p: "]),
    ] {
        assert_eq!(rules_of(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn pods_with_the_same_policies_share_a_chain_and_others_are_free() {
    let pods = [
        pod("default", "db", &["10.42.0.2"], "here"),
        pod("default", "web", &["10.42.0.3"], "here"),
        pod("default", "far", &["10.42.1.4"], "there"),
        pod("other", "free", &["10.42.0.5"], "here"),
    ];
    let all = policy("all", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    let db = policy("db", json!({"podSelector": {"matchLabels": {"app": "db"}}}));
    let world = World::new(&pods, &Announced::new(), &namespaces(), "here", &[]);
    let policies: Vec<Policy> = [all, db].iter().filter_map(|policy| Policy::new(policy)).collect();
    let table = table::table("t", &world, &policies);
    let keys = |set: &str| table.sets[set].elements.keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(keys("ingress-pods"), ["10.42.0.2", "10.42.0.3"]);
    assert_eq!(keys("egress-pods"), ["10.42.0.2", "10.42.0.3"]);
    let isolated = |direction: &str| {
        let chains =
            table.chains.iter().filter(|(name, _)| name.starts_with(&format!("isolated-{direction}/")));
        chains.map(|(_, chain)| chain.rules.join("; ")).collect::<std::collections::BTreeSet<_>>()
    };
    let ingress =
        ["jump ingress/default/all; drop", "jump ingress/default/all; jump ingress/default/db; drop"];
    assert_eq!(isolated("ingress"), ingress.map(str::to_owned).into());
    assert_eq!(isolated("egress"), ["jump egress/default/all; drop".to_owned()].into());
}

/// The kubelet knows best which addresses the pods of its node have: before the cluster does, and when an address has
/// been given to another one.
#[test]
fn addresses_of_this_nodes_pods_are_what_the_kubelet_says() {
    let with_uid = |uid: &str, name: &str, addresses: &[&str], node: &str| {
        let mut pod = Pod::clone(&pod("default", name, addresses, node));
        pod.metadata.uid = Some(uid.into());
        Arc::new(pod)
    };
    let host = |mut pod: Arc<Pod>| {
        Arc::make_mut(&mut pod).spec.as_mut().unwrap().host_network = Some(true);
        pod
    };
    let listed = [
        with_uid("1", "new", &[], "here"),
        with_uid("2", "moved", &["10.42.0.2"], "here"),
        with_uid("3", "ending", &["10.42.0.7"], "here"),
        with_uid("4", "far", &["10.42.0.8"], "there"),
    ];
    let local = LocalPods::default();
    let announce = |uid: &str, pod: &Arc<Pod>, addresses: &[&str]| {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        local.announce(uid, pod, &addresses);
    };
    announce("1", &listed[0], &["10.42.0.7", "fd00::7"]);
    announce("2", &listed[1], &["10.42.0.9"]);
    announce("4", &listed[3], &["10.42.0.10"]);
    announce("5", &with_uid("5", "file", &[], "here"), &["10.42.0.11"]);
    announce("6", &host(with_uid("6", "host", &[], "here")), &["192.0.2.2"]);
    let world = world(&place(), &listed, &local.announced().0, &namespaces());
    let found: Vec<(String, Vec<String>, bool)> = world
        .members
        .iter()
        .filter(|member| member.namespace == "default")
        .map(|member| {
            let addresses = member.addresses.iter().map(ToString::to_string).collect();
            (member.labels["app"].clone(), addresses, member.is_here)
        })
        .collect();
    let expected = [
        ("new", &["10.42.0.7", "fd00::7"][..], true),
        ("moved", &["10.42.0.9"], true),
        ("far", &["10.42.0.8"], false),
        ("file", &["10.42.0.11"], true),
    ];
    let expected = expected.map(|(name, addresses, is_here)| {
        (name.to_owned(), addresses.iter().map(ToString::to_string).collect(), is_here)
    });
    assert_eq!(found, expected);
}

/// Whatever a policy's name is, or a port's, the kernel takes the table.
#[test]
fn no_policy_spoils_the_table_of_the_others() {
    Lab::run(|lab| async move {
        let pods = [
            pod("default", "db", &["10.42.0.2", "fd00::2"], "here"),
            pod("other", "web", &["10.42.1.4"], "there"),
        ];
        let long = "a".repeat(253);
        let everything = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": "web"}, {"port": "we b; drop"}, {"port": 1, "endPort": 65535}, {"port": 80}]},
                {"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["0.0.0.0/0", "10.0.0.0/8"]}}, {"ipBlock": {"cidr": "::/0", "except": ["fd00::/8", "fd00::/9"]}}]}],
            "egress": [{"to": [{"namespaceSelector": {}}, {"podSelector": {}}], "ports": [{"port": "web"}, {"protocol": "SCTP", "port": 7}]}]});
        let policies: Vec<Arc<NetworkPolicy>> =
            ["1.digits.first", "p; flush ruleset", &long, "drop", "accept"]
                .map(|name| policy(name, everything.clone()))
                .into();
        let world = world(&place(), &pods, &Announced::new(), &namespaces());
        let table = table::table("knarr-policies", &world, &sorted(&policies));
        nft::apply(&table.replacement()).unwrap();
        assert!(
            lab.shell("nft list table inet knarr-policies").contains("chain ingress/default/1.digits.first")
        );
    });
}

/// A bridge with pods, without the rest of the agent.
async fn pods(lab: &Lab, names: &[&str]) -> (Arc<BridgeNetwork>, Vec<(Netns, IpAddr)>) {
    let network = BridgeNetwork::new(lab.config()).unwrap();
    let mut pods = Vec::new();
    for name in names {
        let pod = Netns::new();
        let attachment = PodAttachment {
            sandbox_id: (*name).into(),
            namespace: "default".into(),
            name: (*name).into(),
            uid: (*name).into(),
            netns: pod.netns(),
            host_ports: vec![],
            annotations: Default::default(),
        };
        let address = network.setup(&attachment).await.unwrap()[0];
        pods.push((pod, address.to_string().parse().unwrap()));
    }
    (network, pods)
}

const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";
const PODS: &str = "/api/v1/pods";
const NAMESPACES: &str = "/api/v1/namespaces";

/// Waits for a condition without holding the runtime's only thread, at most a minute.
async fn eventually(what: &'static str, condition: impl FnMut() -> bool + Send + 'static) {
    tokio::task::spawn_blocking(move || network_lab::wait_until(what, condition)).await.unwrap();
}

/// The whole way, as somebody meets it who closes a database and opens it to its clients: objects at the API server,
/// packets in the kernel.
#[test]
fn packets_go_where_policies_let_them() {
    Lab::run(|lab| async move {
        let api = ScriptedApi::default();
        let (_network, pods) = pods(&lab, &["db", "web", "else"]).await;
        let pods = Arc::new(pods);
        for (name, (netns, address)) in ["db", "web", "else"].into_iter().zip(pods.iter()) {
            netns.serve_many(PORT, "hello");
            let object = pod("default", name, &[&address.to_string()], "here");
            api.put(PODS, serde_json::to_value(&*object).unwrap());
        }
        for namespace in namespaces() {
            api.put(NAMESPACES, serde_json::to_value(&*namespace).unwrap());
        }
        let shutdown = CancellationToken::new();
        let config = lab.config();
        let task = tokio::spawn(run(
            api.client(),
            config.clone(),
            "here".into(),
            LocalPods::default(),
            shutdown.clone(),
        ));
        let (db, other) = (pods[0].1, pods[2].1);
        let reaches = |from: usize, to: IpAddr| {
            let pods = pods.clone();
            move || pods[from].0.try_get(to, PORT).is_some()
        };
        assert!(reaches(2, db)(), "without a policy everybody is free");

        let spec = json!({"podSelector": {"matchLabels": {"app": "db"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": "web"}]}]});
        api.put(POLICIES, json!({"metadata": {"name": "db"}, "spec": spec}));
        let blocked = reaches(2, db);
        eventually("another pod is kept away", move || !blocked()).await;
        assert!(reaches(1, db)(), "a client of the database");
        assert!(reaches(0, other)(), "the database itself is free to go where it likes");
        assert!(reaches(0, db)(), "a pod reaches itself");
        assert!(lab.try_get(db, PORT).is_some(), "the node reaches its pods, as probes do");

        let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": format!("{db}/32")}}]}]});
        api.put(POLICIES, json!({"metadata": {"name": "web"}, "spec": spec}));
        let blocked = reaches(1, other);
        eventually("the client goes nowhere else", move || !blocked()).await;
        assert!(reaches(1, db)(), "allowed on both sides");
        let _server = lab.serve_at("0.0.0.0", 9090, "host");
        assert_eq!(pods[1].0.try_get(lab.uplink_address(), 9090), None, "the node is somewhere else too");
        assert!(pods[2].0.try_get(lab.uplink_address(), 9090).is_some());

        lab.shell("nft delete table inet knarr-policies");
        api.delete(POLICIES, "db");
        let free = reaches(2, db);
        eventually("the database is open again", free).await;
        api.delete(POLICIES, "web");
        let free = reaches(1, other);
        eventually("the client is free again", free).await;
        let gone = lab.clone();
        eventually("the table is gone", move || !gone.shell("nft list tables").contains("knarr-policies"))
            .await;
        shutdown.cancel();
        task.await.unwrap().unwrap();
    });
}

/// A pod of this node is filtered once its sandbox was announced, though the cluster never heard of its addresses; and
/// whoever waits for that is not told too soon.
#[test]
fn a_pod_is_filtered_before_the_cluster_knows_its_address() {
    Lab::run(|lab| async move {
        let api = ScriptedApi::default();
        let (_network, pods) = pods(&lab, &["server", "client", "other"]).await;
        pods[0].0.serve_many(PORT, "hello");
        for namespace in namespaces() {
            api.put(NAMESPACES, serde_json::to_value(&*namespace).unwrap());
        }
        let spec = json!({"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"]});
        api.put(POLICIES, json!({"metadata": {"name": "none"}, "spec": spec}));
        let (local, shutdown) = (LocalPods::default(), CancellationToken::new());
        let policies = run(api.client(), lab.config(), "here".into(), local.clone(), shutdown.clone());
        let task = tokio::spawn(policies);
        let server = pods[0].1;
        for round in 0..20 {
            let uid = format!("client-{round}");
            local.announce(&uid, &pod("default", "client", &[], "here"), &[pods[1].1]);
            local.announce("other", &pod("default", "other", &[], "here"), &[pods[2].1]);
            assert!(local.covered(&uid).await && local.covered("other").await);
            let rules = lab.shell("nft list map inet knarr-policies egress-pods");
            assert!(rules.contains(&pods[1].1.to_string()), "round {round}: {rules}");
            if round == 0 {
                assert_eq!(pods[1].0.try_get(server, PORT), None, "what a policy denies gets through");
                assert!(pods[2].0.try_get(server, PORT).is_some());
            }
            local.forget(&uid);
            let gone = lab.clone();
            let address = pods[1].1.to_string();
            let is_free =
                move || !gone.shell("nft list map inet knarr-policies egress-pods").contains(&address);
            eventually("the address is free again", is_free).await;
        }
        assert!(pods[1].0.try_get(server, PORT).is_some());
        shutdown.cancel();
        task.await.unwrap().unwrap();
    });
}

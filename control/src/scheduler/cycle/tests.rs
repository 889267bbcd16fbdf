//! Decisions as tables.

use super::*;
use crate::controllers::informer::Key;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use std::io::Write as _;
use std::sync::Arc;

fn node(name: &str, cpu: &str, extra: Value) -> Arc<Node> {
    let mut value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"}},
    });
    merge(&mut value, extra);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(name: &str, cpu: &str, extra: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
    });
    merge(&mut value, extra);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

fn snapshot(nodes: Vec<Arc<Node>>, bound: Vec<Arc<Pod>>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    nodes.into_iter().for_each(|node| snapshot.set_node(node));
    bound.iter().for_each(|pod| snapshot.pod_changed(&Key::of(&**pod), Some(pod)));
    snapshot
}

fn decision(pod: &Pod, nodes: Vec<Arc<Node>>, bound: Vec<Arc<Pod>>) -> Decision {
    let snapshot = snapshot(nodes, bound);
    decide(pod, Ok(&[]), None, &snapshot, Packing::default(), &mut Turn::default())
}

fn refused(pod: &Pod, nodes: Vec<Arc<Node>>, bound: Vec<Arc<Pod>>) -> String {
    match decision(pod, nodes, bound) {
        Decision::None(failure) => failure.message,
        Decision::Node(node) => panic!("it fitted on {node}"),
    }
}

fn to(name: &str) -> Decision {
    Decision::Node(name.into())
}

#[test]
fn the_emptier_node_wins() {
    let nodes = vec![node("a", "2", json!({})), node("b", "2", json!({}))];
    let bound = vec![pod("x", "1", json!({"spec": {"nodeName": "a"}}))];
    assert_eq!(decision(&pod("p", "100m", json!({})), nodes, bound), to("b"));
}

#[test]
fn shortage_is_told_in_kubernetes_words() {
    let nodes = vec![node("a", "1", json!({})), node("b", "1", json!({}))];
    let message = refused(&pod("p", "2", json!({})), nodes, vec![]);
    assert_eq!(message, "0/2 nodes are available: 2 Insufficient cpu.");
}

#[test]
fn no_nodes_at_all() {
    assert_eq!(refused(&pod("p", "1", json!({})), vec![], vec![]), "no nodes available to schedule pods");
}

#[test]
fn taints_selectors_names_and_ports() {
    let nodes = || {
        vec![
            node(
                "a",
                "2",
                json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}}),
            ),
            node("b", "2", json!({"metadata": {"labels": {"disk": "ssd"}}})),
            node("c", "2", json!({"spec": {"unschedulable": true}})),
        ]
    };
    let tolerating = json!({"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}], "nodeSelector": {"kubernetes.io/hostname": "a"}}});
    assert_eq!(decision(&pod("p", "1", tolerating), nodes(), vec![]), to("a"));
    assert_eq!(decision(&pod("p", "1", json!({})), nodes(), vec![]), to("b"));
    let port = |name: &str| json!({"spec": {"nodeName": name, "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
    let wants_port =
        json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
    let message = refused(&pod("p", "1", wants_port), nodes(), vec![pod("x", "1", port("b"))]);
    assert!(message.contains("1 node(s) didn't have free ports for the requested pod ports"), "{message}");
    assert!(message.contains("1 node(s) had untolerated taint {gpu: yes}"), "{message}");
    assert!(message.contains("1 node(s) were unschedulable"), "{message}");
}

#[test]
fn preferred_affinity_outweighs_a_small_difference() {
    let preference = json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["b"]}]}},
    ]}}}});
    let nodes = vec![node("a", "4", json!({})), node("b", "2", json!({}))];
    assert_eq!(decision(&pod("p", "100m", preference), nodes, vec![]), to("b"));
}

#[test]
fn a_finished_pod_takes_no_room() {
    let done = pod("x", "2", json!({"spec": {"nodeName": "a"}, "status": {"phase": "Succeeded"}}));
    assert_eq!(decision(&pod("p", "2", json!({})), vec![node("a", "2", json!({}))], vec![done]), to("a"));
}

fn zoned(name: &str, zone: &str) -> Arc<Node> {
    node(name, "8", json!({"metadata": {"labels": {"zone": zone}}}))
}

fn labelled(name: &str, label: &str, on: Option<&str>, extra: Value) -> Arc<Pod> {
    let mut whole = json!({"metadata": {"labels": {"app": label}}, "spec": {"nodeName": on}});
    merge(&mut whole, extra);
    pod(name, "10m", whole)
}

fn term(label: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": label}}, "topologyKey": "zone"})
}

fn required(kind: &str, label: &str) -> Value {
    json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term(label)]}}}})
}

fn preferred(kind: &str, label: &str) -> Value {
    let weighted = json!([{"weight": 50, "podAffinityTerm": term(label)}]);
    json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": weighted}}}})
}

#[test]
fn pods_go_near_others_or_away_from_them() {
    let nodes = || vec![zoned("a", "east"), zoned("b", "west")];
    let db = || labelled("db", "db", Some("b"), json!({}));
    let web = |extra: Value| labelled("web", "web", None, extra);
    assert_eq!(decision(&web(required("podAffinity", "db")), nodes(), vec![db()]), to("b"));
    assert_eq!(decision(&web(required("podAntiAffinity", "db")), nodes(), vec![db()]), to("a"));
    assert_eq!(decision(&web(preferred("podAffinity", "db")), nodes(), vec![db()]), to("b"));
    assert_eq!(decision(&web(preferred("podAntiAffinity", "db")), nodes(), vec![db()]), to("a"));
    let shy = labelled("shy", "x", Some("a"), required("podAntiAffinity", "web"));
    assert_eq!(decision(&web(json!({})), nodes(), vec![shy.clone()]), to("b"));
    assert_eq!(
        refused(&web(required("podAffinity", "nobody")), nodes(), vec![]),
        "0/2 nodes are available: 2 node(s) didn't match pod affinity rules."
    );
    assert_eq!(
        decision(&web(required("podAffinity", "web")), nodes(), vec![]),
        to("a"),
        "the first of its kind"
    );
    let both = vec![shy, db()];
    assert_eq!(
        refused(&web(required("podAntiAffinity", "db")), nodes(), both),
        "0/2 nodes are available: 1 node(s) didn't match pod anti-affinity rules, 1 node(s) didn't satisfy existing pods anti-affinity rules."
    );
}

#[test]
fn pods_are_spread_over_zones() {
    let spread = |when: &str, skew: i32| {
        json!({"spec": {"topologySpreadConstraints": [{"maxSkew": skew, "topologyKey": "zone",
        "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": "web"}}}]}})
    };
    let nodes = || vec![zoned("a", "east"), zoned("b", "west"), node("bare", "8", json!({}))];
    let bound = |count: usize, on: &str| -> Vec<Arc<Pod>> {
        (0..count).map(|at| labelled(&format!("{on}{at}"), "web", Some(on), json!({}))).collect()
    };
    let web = |when: &str| labelled("web", "web", None, spread(when, 1));
    assert_eq!(decision(&web("DoNotSchedule"), nodes(), bound(1, "a")), to("b"));
    let full = vec![
        zoned("a", "east"),
        node("b", "0", json!({"metadata": {"labels": {"zone": "west"}}})),
        node("bare", "8", json!({})),
    ];
    assert_eq!(
        refused(&web("DoNotSchedule"), full, bound(1, "a")),
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints, 1 node(s) didn't match pod topology spread constraints (missing required label)."
    );
    let two = || vec![zoned("a", "east"), zoned("b", "west")];
    assert_eq!(decision(&web("ScheduleAnyway"), two(), bound(3, "a")), to("b"));
}

fn company(app: &str) -> LabelSelector {
    serde_json::from_value(json!({"matchLabels": {"app": app}})).unwrap()
}

#[test]
fn pods_of_one_service_are_spread_where_nobody_says_otherwise() {
    let hosts = || vec![node("a", "8", json!({})), node("b", "8", json!({}))];
    let web = labelled("web", "web", None, json!({}));
    let beside = |extra: Value| {
        let big = pod("big", "4", json!({"spec": {"nodeName": "b"}}));
        snapshot(hosts(), vec![labelled("w", "web", Some("a"), extra), big])
    };
    let decided = |pod: &Pod, company: Option<&LabelSelector>, all: &Snapshot| {
        decide(pod, Ok(&[]), company, all, Packing::default(), &mut Turn::default())
    };
    assert_eq!(decided(&web, None, &beside(json!({}))), to("a"), "the emptier one");
    assert_eq!(decided(&web, Some(&company("web")), &beside(json!({}))), to("b"));
    let dying = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(decided(&web, Some(&company("web")), &beside(dying)), to("a"), "it goes");
    let elsewhere = json!({"metadata": {"namespace": "other"}});
    assert_eq!(decided(&web, Some(&company("web")), &beside(elsewhere)), to("a"), "another namespace");
    let own = json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    let own = labelled("web", "web", None, own);
    assert_eq!(decided(&own, Some(&company("web")), &beside(json!({}))), to("a"), "its own wish counts");
    let zone = |name: &str, zone: &str| {
        node(name, "8", json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}))
    };
    let zones = vec![zone("a", "east"), zone("b", "east"), zone("c", "west")];
    let bound =
        vec![labelled("w", "web", Some("a"), json!({})), pod("x", "1", json!({"spec": {"nodeName": "c"}}))];
    let all = snapshot(zones, bound);
    assert_eq!(decided(&web, None, &all), to("b"));
    assert_eq!(decided(&web, Some(&company("web")), &all), to("c"), "the other zone, though it is fuller");
}

#[test]
fn packing_fills_the_fuller_node() {
    let nodes = vec![node("a", "4", json!({})), node("b", "4", json!({}))];
    let bound = vec![pod("x", "1", json!({"spec": {"nodeName": "b"}}))];
    let snapshot = snapshot(nodes, bound);
    let wanted = pod("p", "100m", json!({}));
    let decided = |packing| decide(&wanted, Ok(&[]), None, &snapshot, packing, &mut Turn::default());
    assert_eq!(decided(Packing::LeastAllocated), to("a"));
    assert_eq!(decided(Packing::MostAllocated), to("b"));
}

#[test]
fn what_keeps_a_pod_from_every_node_is_said_once() {
    let snapshot = snapshot(vec![node("a", "4", json!({}))], vec![]);
    let missing = "persistentvolumeclaim \"data\" not found";
    let decided = decide(
        &pod("p", "1", json!({})),
        Err(missing),
        None,
        &snapshot,
        Packing::default(),
        &mut Turn::default(),
    );
    let Decision::None(failure) = decided else { panic!("it fitted") };
    assert_eq!(failure.message, format!("0/1 nodes are available: {missing}."));
}

#[test]
fn room_is_kept_for_the_nominated() {
    let mut snapshot = snapshot(vec![node("a", "2", json!({}))], vec![]);
    let first = pod("first", "2", json!({"spec": {"priority": 10}, "status": {"nominatedNodeName": "a"}}));
    snapshot.nominate(&Key::of(&*first), Some("a"), &first);
    let decided = |pod: &Pod| decide(pod, Ok(&[]), None, &snapshot, Packing::default(), &mut Turn::default());
    assert!(matches!(decided(&pod("second", "1", json!({}))), Decision::None(_)));
    assert_eq!(decided(&pod("higher", "1", json!({"spec": {"priority": 20}}))), to("a"));
    assert_eq!(decided(&first), to("a"));
}

/// Every pod finds a place on a node that has room for it; the rate of the pure planner is printed (`--nocapture`).
#[test]
fn many_pods_on_a_thousand_nodes() {
    let nodes = (0..1000).map(|number| node(&format!("n{number:04}"), "32", json!({}))).collect();
    let mut snapshot = snapshot(nodes, Vec::new());
    let pods: Vec<Arc<Pod>> =
        (0..500).map(|number| pod(&format!("p{number:05}"), "100m", json!({}))).collect();
    let (mut turn, mut took) = (Turn::default(), Vec::with_capacity(pods.len()));
    let begin = std::time::Instant::now();
    for pod in &pods {
        let since = std::time::Instant::now();
        let Decision::Node(node) = decide(pod, Ok(&[]), None, &snapshot, Packing::default(), &mut turn)
        else {
            panic!("no place for {:?}", pod.metadata.name)
        };
        snapshot.assume(&Key::of(&**pod), &node, pod.clone());
        took.push(since.elapsed());
    }
    let rate = pods.len() as f64 / begin.elapsed().as_secs_f64();
    took.sort();
    let (middle, slow) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    writeln!(std::io::stdout().lock(), "{rate:.0} pods/s, p50 {middle:?}, p99 {slow:?}").unwrap();
}

#[test]
fn pods_that_are_alike_go_where_each_would_go_alone() {
    let nodes = || {
        (0..90).map(|number| {
            let cpu = if number % 7 == 0 { "8" } else { "4" };
            let mut made = (*node(&format!("n{number:03}"), cpu, json!({}))).clone();
            let labels = made.metadata.labels.as_mut().unwrap();
            let zone = ["north", "east", "south"][number % 5 % 3].to_owned();
            match number % 10 {
                9 => drop(labels.remove("kubernetes.io/hostname")),
                8 => {}
                _ => drop(labels.insert("topology.kubernetes.io/zone".to_owned(), zone)),
            }
            Arc::new(made)
        })
    };
    let run = |batched: bool, sizes: &[&str], company: Option<&LabelSelector>| {
        let mut all = snapshot(nodes().collect(), vec![]);
        let mut turn = Turn::default();
        let mut found = Vec::new();
        for number in 0..300 {
            // First in rows, then side by side.
            let size = sizes[(if number < 250 { number / 20 } else { number }) % sizes.len()];
            let one = pod(&format!("p{number}"), size, json!({"metadata": {"labels": {"app": "web"}}}));
            if !batched {
                turn = Turn::default();
            }
            if number == 150 {
                all.set_node(node("n001", "4", json!({"spec": {"unschedulable": true}})));
                all.set_node(node("n000", "64", json!({})));
                all.remove_node("n002");
            }
            if number == 200 {
                (0..50).for_each(|gone| all.pod_changed(&Key::new("default", &format!("p{gone}")), None));
            }
            let decision = decide(&one, Ok(&[]), company, &all, Packing::default(), &mut turn);
            if let Decision::Node(name) = &decision {
                all.assume(&Key::of(&*one), name, one.clone());
            }
            found.push(match decision {
                Decision::Node(name) => name,
                Decision::None(failure) => failure.message,
            });
        }
        found
    };
    let company = company("web");
    for company in [None, Some(&company)] {
        for sizes in [&["100m"][..], &["1500m", "100m", "3"]] {
            assert_eq!(run(true, sizes, company), run(false, sizes, company), "{company:?}");
        }
    }
}

#[test]
fn pods_that_are_alike_use_every_node_of_a_large_cluster() {
    let nodes = (0..500).map(|number| node(&format!("n{number:03}"), "4", json!({}))).collect();
    let mut all = snapshot(nodes, vec![]);
    let mut turn = Turn::default();
    for number in 0..500 {
        let one = pod(&format!("p{number}"), "1", json!({}));
        let Decision::Node(name) = decide(&one, Ok(&[]), None, &all, Packing::default(), &mut turn) else {
            panic!()
        };
        all.assume(&Key::of(&*one), &name, one.clone());
    }
    let most = all.nodes.values().map(|node| node.pods.len()).max();
    assert!(most.is_some_and(|most| most <= 2), "{most:?} pods on one of as many nodes as pods");
    let beside = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "shy"}}}]}});
    let shy = json!({"metadata": {"labels": {"app": "shy"}}, "spec": {"affinity": beside}});
    let mut taken = std::collections::HashSet::new();
    for number in 0..100 {
        let one = pod(&format!("shy{number}"), "100m", shy.clone());
        let Decision::Node(name) = decide(&one, Ok(&[]), None, &all, Packing::default(), &mut turn) else {
            panic!()
        };
        all.assume(&Key::of(&*one), &name, one.clone());
        assert!(taken.insert(name), "two that are shy on one node");
    }
}

#[test]
fn images_that_few_nodes_have_count_for_less() {
    let with = |name: &str, size: i64| {
        let images = json!([{"names": ["i:latest"], "sizeBytes": size}]);
        node(name, "2", json!({"status": {"images": images}}))
    };
    let many = |first: &str| -> Vec<Arc<Node>> {
        let rest = ["b", "c", "d"].map(|name| node(name, "2", json!({})));
        [with(first, 2000 << 20)].into_iter().chain(rest).collect()
    };
    let points = |nodes: Vec<Arc<Node>>| -> Vec<i64> {
        let snapshot = snapshot(nodes, vec![]);
        let pod = pod("p", "1", json!({}));
        let request = Request::new(&pod, pod.spec.as_ref().unwrap(), &[], None, &snapshot);
        let nodes: Vec<&NodeState> = snapshot.nodes.values().collect();
        let with_images = score::totals(&request, &nodes, Packing::default());
        let bare: Vec<NodeState> =
            nodes.iter().map(|node| NodeState { images: Default::default(), ..(*node).clone() }).collect();
        let without = score::totals(&request, &bare.iter().collect::<Vec<_>>(), Packing::default());
        with_images.iter().zip(without).map(|(with, without)| with - without).collect()
    };
    // 2,000 MB on one node of four count as 500; of 1,000 at most, less the 23 that are nothing.
    assert_eq!(points(many("a")), [(500 - 23) * 100 / (1000 - 23), 0, 0, 0]);
    assert_eq!(points(vec![with("a", 2000 << 20), with("b", 2000 << 20)]), [100, 100]);
}

#[test]
fn balance_is_about_what_is_asked_for() {
    let taken = pod;
    let sum = |pod: &Pod| {
        let nodes = vec![
            node("a", "4", json!({})),
            node("b", "4", json!({"status": {"allocatable": {"memory": "16Gi"}}})),
        ];
        let bound = vec![taken("x", "1", json!({"spec": {"nodeName": "a"}}))];
        let snapshot = snapshot(nodes, bound);
        let request = Request::new(pod, pod.spec.as_ref().unwrap(), &[], None, &snapshot);
        let nodes: Vec<&NodeState> = snapshot.nodes.values().collect();
        score::balance(&request, &nodes)
    };
    // On a half of the cpu and a quarter of the memory would be taken.
    let memory = json!({"spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]}});
    assert_eq!(sum(&pod("p", "1", memory)), [87, 90]);
    let silent = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(sum(&pod("p", "1", silent)), [0, 0], "a pod that asks for nothing goes anywhere");
}

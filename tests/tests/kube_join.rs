//! Two nodes on one machine: the second joins with the command that `knarr token create` prints, runs pods that
//! kubectl reaches, is drained, dies, comes back with what it kept, and goes down in good order.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::expect_used, clippy::print_stderr)]

#[path = "kube_join/certificate.rs"]
mod certificate;
#[allow(dead_code)] // Shared with the tests of pods, which use all of it.
#[path = "kube_pods/node.rs"]
mod node;
#[path = "kube_join/relay.rs"]
mod relay;
#[path = "kube_join/second.rs"]
mod second;

use knarr_tests::skip::skip;
use node::Node;
use second::{Second, Wire};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_second_node_joins_works_dies_and_comes_back() {
    let wire = Wire::lay();
    let Some(node) = Node::start_for_many_nodes() else {
        return skip("kube_join", "no kubectl on this machine");
    };
    let port = format!(
        "listen = \"0.0.0.0:{}\"\nserver_tls_bootstrap = true\n[network]\ncluster_cidr = \"{}\"\n",
        10_250,
        node.cluster_cidr()
    );
    let mut second = Second::new(&wire, &port);
    second.pull(&node.busybox());
    let words = invitation(&node);
    strangers_are_refused(&second, &words);
    second.start(&words.iter().map(String::as_str).collect::<Vec<_>>());
    it_is_a_member(&node, &second);
    it_serves_with_a_certificate_of_the_cluster(&node, &second);
    it_runs_pods(&node);
    pods_of_both_nodes_reach_each_other(&node);
    it_is_drained(&node);
    it_dies_and_comes_back(&node, &mut second);
    its_certificate_is_renewed(&node, &mut second);
    it_asks_for_nothing_but_the_published_api(&node, &wire, &mut second);
    it_goes_down_in_good_order(&node, &mut second);
}

/// What follows `knarr agent` in the printed command.
fn invitation(node: &Node) -> Vec<String> {
    let said = node.knarr(&["token", "create", "--ttl", "10m"]).ok();
    let command = said.lines().find_map(|line| line.strip_prefix("knarr agent ")).expect("a command");
    command.split(' ').map(str::to_owned).collect()
}

/// `--server URL --token TOKEN --ca-hash HASH`: nobody joins with another token, or a cluster with another CA. Without a
/// hash the token itself has to vouch for the cluster.
fn strangers_are_refused(second: &Second<'_>, words: &[String]) {
    let with = |index: usize, word: &str| {
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words[index] = word;
        second.refused(&words)
    };
    let complaint = with(3, "abcdef.0123456789abcdef");
    assert!(complaint.contains("Unauthorized"), "{complaint}");
    let complaint = with(5, &format!("sha256:{}", "0".repeat(64)));
    assert!(complaint.contains("the cluster's CA is not the one of --ca-hash"), "{complaint}");
    let complaint = second.refused(&[&words[0], &words[1], &words[2], "abcdef.0123456789abcdef"]);
    assert!(complaint.contains("cluster-info is not signed for token \"abcdef\""), "{complaint}");
    assert!(!second.path("data/node.kubeconfig").exists());
}

fn node_is(node: &Node, status: &str) {
    node.eventually(&format!("the second node is {status}"), || {
        let row = node.k(&["get", "node", "second", "--no-headers"]).ok();
        if row.split_whitespace().nth(1) == Some(status) { Ok(()) } else { Err(row) }
    });
}

fn it_is_a_member(node: &Node, second: &Second<'_>) {
    node_is(node, "Ready");
    let requests = node.k(&["get", "csr", "--no-headers"]).ok();
    let first = requests.lines().find(|line| line.contains("system:bootstrap:")).unwrap_or_default();
    assert!(
        first.contains("kube-apiserver-client-kubelet") && first.contains("Approved,Issued"),
        "{requests}"
    );
    let file = second.path("data/node.kubeconfig");
    let mode = std::fs::metadata(&file).expect("a kubeconfig").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let file = file.display().to_string();
    let who = node.k(&["--kubeconfig", &file, "auth", "can-i", "get", "nodes/second"]).out;
    assert_eq!(who.trim(), "yes");
    let others = node.k(&["--kubeconfig", &file, "auth", "can-i", "delete", "deployments"]).out;
    assert_eq!(others.trim(), "no");
    node.eventually("its lease", || {
        let lease = node.k(&["get", "lease", "second", "-n", "kube-node-lease", "-o", "json"]).out;
        let spec = serde_json::from_str::<Value>(&lease).unwrap_or_default()["spec"].clone();
        let held = spec["holderIdentity"] == "second" && spec["leaseDurationSeconds"] == 40;
        if held { Ok(()) } else { Err(spec.to_string()) }
    });
}

/// The request for it waits for a person.
fn it_serves_with_a_certificate_of_the_cluster(node: &Node, second: &Second<'_>) {
    let name = node.eventually("a serving certificate is asked for", || {
        let requests = node.k(&["get", "csr", "--no-headers"]).ok();
        let ours = requests.lines().find(|line| line.contains("kubelet-serving"));
        ours.and_then(|line| line.split_whitespace().next()).map(str::to_owned).ok_or(requests.clone())
    });
    node.k(&["certificate", "approve", &name]).ok();
    node.eventually("the serving certificate is kept", || {
        if second.path("data/kubelet-serving.pem").exists() { Ok(()) } else { Err(second.log()) }
    });
}

/// Deleted without any grace it would be gone at once, whoever confirms it.
fn sleeper(node: &Node) -> Value {
    json!({"nodeName": "second", "terminationGracePeriodSeconds": 1,
        "tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 1}],
        "containers": [{"name": "c", "image": node.busybox(),
            "command": ["sh", "-c", "echo here; exec sleep 1000"]}]})
}

fn it_runs_pods(node: &Node) {
    node.pod("far", sleeper(node));
    node.ready("far");
    node.eventually("its first line", || {
        let text = node.k(&["logs", "far"]).ok();
        if text == "here\n" { Ok(()) } else { Err(text) }
    });
    assert_eq!(node.k(&["exec", "far", "--", "echo", "through"]).ok(), "through\n");
}

/// Each node routes the other's pods to it.
fn pods_of_both_nodes_reach_each_other(node: &Node) {
    let serve = |place: &str| {
        let mut spec = sleeper(node);
        spec["nodeName"] = json!(place);
        let script = format!("mkdir /w; echo {place} > /w/index.html; exec httpd -f -p 8080 -h /w");
        spec["containers"][0]["command"] = json!(["sh", "-c", script]);
        spec["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
        spec
    };
    let places = [("here", "node"), ("there", "second")];
    for (pod, place) in places {
        node.pod(pod, serve(place));
    }
    let address = |pod: &str| node.ready(pod)["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    let addresses = places.map(|(pod, _)| address(pod));
    for (asker, (asked, place)) in [("there", (0, "node")), ("here", (1, "second"))] {
        let url = format!("http://{}:8080/", addresses[asked]);
        node.eventually(&format!("{asker} reaches {url}"), || {
            // wget's own time limit ends in a crash in some builds of busybox.
            let said = node.k(&["exec", asker, "--", "busybox", "timeout", "5", "wget", "-qO-", &url]);
            if said.out.trim() == place { Ok(()) } else { Err(format!("{said:?}")) }
        });
    }
    node.k(&["delete", "pod", "here", "there", "--wait=false"]).ok();
    node.gone("there");
}

fn it_is_drained(node: &Node) {
    node.k(&["drain", "second", "--force", "--ignore-daemonsets", "--timeout=150s"]).ok();
    node.gone("far");
    node_is(node, "Ready,SchedulingDisabled");
    node.k(&["uncordon", "second"]).ok();
}

fn it_dies_and_comes_back(node: &Node, second: &mut Second<'_>) {
    node.pod("left", sleeper(node));
    node.ready("left");
    second.kill();
    node_is(node, "NotReady");
    node.eventually("it is tainted", || {
        let taints = node.k(&["get", "node", "second", "-o", "jsonpath={.spec.taints[*].key}"]).ok();
        if taints.contains("node.kubernetes.io/unreachable") { Ok(()) } else { Err(taints) }
    });
    node.when("left", "it is evicted", |pod| pod["metadata"]["deletionTimestamp"].is_string());
    // No token any more: what was kept is enough.
    second.start(&[]);
    node_is(node, "Ready");
    node.gone("left");
}

/// A certificate most of whose time has passed is exchanged at once, by the right of the old one.
fn its_certificate_is_renewed(node: &Node, second: &mut Second<'_>) {
    second.stop();
    let file = second.path("data/node.kubeconfig");
    let kept = std::fs::read_to_string(&file).expect("a kubeconfig");
    let old = certificate::almost_over(&node.path("data/pki"), &second.path("old"), "second");
    std::fs::write(&file, certificate::replaced(&kept, &old)).expect("a kubeconfig");
    let before = node.k(&["get", "csr", "-o", "name"]).ok().lines().count();
    second.start(&[]);
    node.eventually("another certificate is kept", || {
        let now = std::fs::read_to_string(&file).unwrap_or_default();
        if now.contains(&old.certificate) || now == kept { Err(second.log()) } else { Ok(()) }
    });
    let requests = node.k(&["get", "csr", "--no-headers"]).ok();
    assert_eq!(requests.lines().count(), before + 1, "{requests}");
    let by_itself = |line: &&str| line.contains("system:node:second") && line.contains("Approved,Issued");
    assert!(requests.lines().any(|line| by_itself(&line)), "{requests}");
    let file = file.display().to_string();
    let may = node.k(&["--kubeconfig", &file, "auth", "can-i", "get", "nodes/second"]).out;
    assert_eq!(may.trim(), "yes");
    node_is(node, "Ready");
}

/// What the published roles `system:node` and `system:node-proxier` let a node do (group, resource, verbs), and two
/// rights that our own clusters add: to follow the volumes it holds and network policies, which a node does without
/// elsewhere.
const PUBLISHED: [(&str, &str, &str); 25] = [
    ("", "nodes", "create get list watch update patch"),
    ("", "nodes/status", "update patch"),
    ("", "pods", "get list watch create delete"),
    ("", "pods/status", "update patch"),
    ("", "pods/eviction", "create"),
    ("", "configmaps", "get list watch"),
    ("", "secrets", "get list watch"),
    ("", "services", "get list watch"),
    ("", "endpoints", "get list watch"),
    ("", "namespaces", "get list watch"),
    ("", "persistentvolumeclaims", "get"),
    ("", "persistentvolumes", "get list watch patch"),
    ("", "serviceaccounts", "get"),
    ("", "serviceaccounts/token", "create"),
    ("", "events", "create update patch"),
    ("events.k8s.io", "events", "create update patch"),
    ("coordination.k8s.io", "leases", "create get update patch delete"),
    ("discovery.k8s.io", "endpointslices", "get list watch"),
    ("networking.k8s.io", "networkpolicies", "get list watch"),
    ("node.k8s.io", "runtimeclasses", "get list watch"),
    ("storage.k8s.io", "csinodes", "create get update patch delete"),
    ("storage.k8s.io", "csidrivers", "get list watch"),
    ("certificates.k8s.io", "certificatesigningrequests", "create get list watch"),
    ("authentication.k8s.io", "tokenreviews", "create"),
    ("authorization.k8s.io", "subjectaccessreviews", "create"),
];

fn it_asks_for_nothing_but_the_published_api(node: &Node, wire: &Wire, second: &mut Second<'_>) {
    second.stop();
    let proxy = second.api_proxy(node.kubectl_path());
    let (port, requests) = relay::start(&wire.gateway(), proxy.address());
    let url = format!("http://{}:{port}", wire.gateway());
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]});
    std::fs::write(second.path("relay.kubeconfig"), kubeconfig.to_string()).expect("a kubeconfig");
    let file = second.path("relay.kubeconfig").display().to_string();
    second.start(&["--kubeconfig", &file]);
    node.k(&["create", "configmap", "told", "--from-literal=A=1"]).ok();
    let mut spec = sleeper(node);
    spec["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "told"}}]);
    node.pod("watched", spec);
    node.ready("watched");
    node.k(&["delete", "pod", "watched"]).ok();
    second.stop();
    let asked = requests.all();
    let private: Vec<&String> = asked.iter().filter(|request| !is_published(request)).collect();
    assert!(private.is_empty(), "{private:#?}");
    for wanted in [
        "PATCH /api/v1/namespaces/default/pods/watched/status",
        "DELETE /api/v1/namespaces/default/pods/watched",
        "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/second",
        "PATCH /api/v1/nodes/second/status",
        "POST /api/v1/namespaces/default/serviceaccounts/default/token",
    ] {
        assert!(asked.iter().any(|request| request.starts_with(wanted)), "{wanted} is not among {asked:#?}");
    }
}

/// Whether the published API has this request and lets a node make it.
fn is_published(request: &str) -> bool {
    let Some((method, path)) = request.split_once(' ') else { return false };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, "v1", rest @ ..] => (*group, rest),
        ["version"] => return method == "GET",
        _ => return false,
    };
    let rest = match rest {
        ["namespaces", _, kind, rest @ ..] => (*kind, rest),
        [kind, rest @ ..] => (*kind, rest),
        [] => return false,
    };
    let (resource, named) = match rest {
        (kind, []) => (kind.to_owned(), false),
        (kind, [_]) => (kind.to_owned(), true),
        (kind, [_, part]) => (format!("{kind}/{part}"), true),
        _ => return false,
    };
    let verb = match method {
        "GET" if query.contains("watch=true") => "watch",
        "GET" if named => "get",
        "GET" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => return false,
    };
    let allows = |(of, kind, verbs): &(&str, &str, &str)| {
        *of == group && *kind == resource && verbs.split(' ').any(|known| known == verb)
    };
    PUBLISHED.iter().any(allows)
}

fn it_goes_down_in_good_order(node: &Node, second: &mut Second<'_>) {
    second.start(&["--shutdown-grace-period", "20", "--shutdown-grace-period-critical-pods", "5"]);
    let mut spec = sleeper(node);
    spec["terminationGracePeriodSeconds"] = json!(30);
    spec["containers"][0]["command"] =
        json!(["sh", "-c", "trap 'echo bye; exit 0' TERM; touch /tmp/up; while :; do sleep 0.1; done"]);
    spec["containers"][0]["readinessProbe"] =
        json!({"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "timeoutSeconds": 30});
    node.pod("polite", spec);
    node.ready("polite");
    second.stop();
    let pod = node.get("polite");
    let status = &pod["status"];
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Terminated")), "{status}");
    assert_eq!(status["message"], "Pod was terminated in response to imminent node shutdown.");
    assert_eq!(
        status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0,
        "it said goodbye: {status}"
    );
    let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].message}";
    let message = node.k(&["get", "node", "second", "-o", ready]).ok();
    assert!(message.contains("node is shutting down"), "{message}");
}

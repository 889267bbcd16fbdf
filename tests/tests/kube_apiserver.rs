//! `knarr agent` as a node of a real Kubernetes API server: nothing that a node needs may be refused there, and what
//! kubectl shows and reaches is what it shows and reaches on a kubelet.
//!
//! Runs where `kube-apiserver` is on PATH (it is no Debian package); elsewhere a named skip.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::expect_used, clippy::print_stderr)]

#[path = "kube_apiserver/plane.rs"]
mod plane;

use knarr_tests::agent::{Agent, IMAGE};
use knarr_tests::eventually::eventually;
use knarr_tests::skip::skip;
use plane::Plane;
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);

const SETTINGS: &str = "server_tls_bootstrap = true\nregister_with_taints = [\"example.com/new=yes:NoSchedule\"]\n\
    node_labels = { \"example.com/rack\" = \"r1\" }";

#[test]
fn a_foreign_cluster_takes_us_for_a_kubelet() {
    let Some(plane) = Plane::start() else {
        return skip("kube_apiserver", "no kube-apiserver, etcd or kubectl on PATH");
    };
    prepare_cluster(&plane);
    let mut agent = Agent::new("real", &plane.kubeconfig("node"), SETTINGS);
    agent.start();
    the_node_is_registered(&plane);
    it_serves_with_a_certificate_of_the_cluster(&plane, &agent);
    a_pod_is_given_what_it_asks_for(&plane);
    kubectl_reaches_it(&plane);
    probes_and_restarts_are_told(&plane);
    labels_of_others_count(&plane);
    limits_change_in_place(&plane);
    a_static_pod_is_mirrored(&plane, &agent);
    a_new_agent_finds_everything(&plane, &mut agent);
    pods_end_in_their_time(&plane);
    nothing_was_refused(&agent);
}

/// What controllers would have made.
fn prepare_cluster(plane: &Plane) {
    eventually("the namespace is there", PATIENCE, || {
        let said = plane.k(&["get", "namespace", "default"]);
        if said.code == 0 { Ok(()) } else { Err(said.err) }
    });
    plane.k(&["create", "serviceaccount", "default"]).ok();
    let ca = format!("--from-file=ca.crt={}", plane.path("ca.crt").display());
    plane.k(&["create", "configmap", "kube-root-ca.crt", &ca]).ok();
    // Where the server is OpenShift's, every pod is shown one more.
    plane.k(&["create", "configmap", "openshift-service-ca.crt", "--from-literal=service-ca.crt=x"]).ok();
    let reach = ["create", "clusterrolebinding", "reach", "--clusterrole=system:kubelet-api-admin"];
    plane.k(&[&reach[..], &["--user=kube-apiserver-kubelet-client"]].concat()).ok();
    plane.k(&["create", "configmap", "settings", "--from-literal=KEY=one"]).ok();
    plane.k(&["create", "secret", "generic", "keys", "--from-literal=pass=hidden"]).ok();
}

fn the_node_is_registered(plane: &Plane) {
    let node = plane.get(&["node", "real"]);
    let ready =
        node["status"]["conditions"].as_array().and_then(|all| all.last().cloned()).unwrap_or_default();
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("True")), "{ready}");
    assert_eq!(node["metadata"]["labels"]["example.com/rack"], "r1");
    let taints = node["spec"]["taints"].to_string();
    assert!(taints.contains("example.com/new"), "{taints}");
    let lease = plane.get(&["lease", "real", "-n", "kube-node-lease"]);
    assert_eq!(lease["spec"]["holderIdentity"], "real");
    assert_eq!(lease["metadata"]["ownerReferences"][0]["name"], "real");
}

/// Somebody approves the request, and somebody signs it.
fn it_serves_with_a_certificate_of_the_cluster(plane: &Plane, agent: &Agent) {
    let name = eventually("a certificate is asked for", PATIENCE, || {
        let requests = plane.get(&["csr"]);
        let ours = requests["items"].as_array().and_then(|all| {
            all.iter().find(|csr| csr["spec"]["signerName"] == "kubernetes.io/kubelet-serving").cloned()
        });
        let name = ours.and_then(|csr| csr["metadata"]["name"].as_str().map(str::to_owned));
        name.ok_or_else(|| agent.log())
    });
    plane.k(&["certificate", "approve", &name]).ok();
    let request = plane.k(&["get", "csr", &name, "-o", "jsonpath={.spec.request}"]).ok();
    std::fs::write(plane.path("serving.b64"), request).expect("a file");
    plane.openssl(&["base64", "-d", "-A", "-in", "serving.b64", "-out", "serving.csr"]);
    plane.sign("serving.csr", "serving.crt");
    let signed = plane.openssl(&["base64", "-A", "-in", "serving.crt"]);
    let patch = json!({"status": {"certificate": signed.trim()}}).to_string();
    plane.k(&["patch", "csr", &name, "--subresource=status", "--type=merge", "-p", &patch]).ok();
    eventually("the certificate is kept", PATIENCE, || {
        if agent.path("data/kubelet-serving.pem").exists() { Ok(()) } else { Err(agent.log()) }
    });
}

fn create(plane: &Plane, name: &str, mut spec: Value) {
    spec["nodeName"] = json!("real");
    plane.create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}));
}

fn shell(script: &str) -> Value {
    json!({"name": "c", "image": IMAGE, "imagePullPolicy": "Never",
        "command": ["sh", "-c", script]})
}

fn when(plane: &Plane, pod: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("{pod}: {what}"), PATIENCE, || {
        let pod = plane.get(&["pod", pod]);
        if wanted(&pod) { Ok(pod) } else { Err(format!("{:#}", pod["status"])) }
    })
}

fn ready(plane: &Plane, pod: &str) -> Value {
    when(plane, pod, "it is ready", |pod| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    })
}

fn a_pod_is_given_what_it_asks_for(plane: &Plane) {
    let script = "cat /all/KEY; cat /pass/pass; echo \" $PASS $NODE\"; mkdir /w; echo ok > /w/index.html; \
        trap 'exit 0' TERM; httpd -f -p 8080 -h /w & wait";
    let mut container = shell(script);
    container["env"] = json!([{"name": "PASS", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "pass"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]);
    container["volumeMounts"] =
        json!([{"name": "all", "mountPath": "/all"}, {"name": "pass", "mountPath": "/pass"}]);
    container["resources"] = json!({"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"cpu": "200m"}});
    container["readinessProbe"] = json!({"httpGet": {"port": 8080}, "periodSeconds": 1});
    create(
        plane,
        "web",
        json!({"containers": [container], "volumes": [
        {"name": "pass", "secret": {"secretName": "keys"}},
        {"name": "all", "projected": {"sources": [{"configMap": {"name": "settings"}},
            {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}},
            {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}}]}),
    );
    let pod = ready(plane, "web");
    assert_eq!(pod["status"]["hostIP"], plane.get(&["node", "real"])["status"]["addresses"][0]["address"]);
    let token = plane.k(&["exec", "web", "--", "cat", "/all/token"]).ok();
    assert_eq!(token.split('.').count(), 3, "{token}");
    let own = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    assert_eq!(plane.k(&["exec", "web", "--", "cat", own]).ok(), "default");
    plane.k(&["patch", "configmap", "settings", "-p", "{\"data\":{\"KEY\":\"two\"}}"]).ok();
    eventually("the change arrives", PATIENCE, || {
        let seen = plane.k(&["exec", "web", "--", "cat", "/all/KEY"]).ok();
        if seen == "two" { Ok(()) } else { Err(seen) }
    });
}

fn kubectl_reaches_it(plane: &Plane) {
    assert_eq!(plane.k(&["logs", "web"]).ok(), "onehidden hidden real\n");
    assert_eq!(plane.k(&["exec", "web", "--", "wget", "-qO-", "http://127.0.0.1:8080/"]).ok(), "ok\n");
    let (file, back) = (plane.path("there"), plane.path("back"));
    std::fs::write(&file, "carried").expect("a file");
    plane.k(&["cp", &file.display().to_string(), "web:/w/there"]).ok();
    plane.k(&["cp", "web:/w/there", &back.display().to_string()]).ok();
    assert_eq!(std::fs::read_to_string(&back).unwrap_or_default(), "carried");
    let (_forward, said) = plane.background(&["port-forward", "pod/web", ":8080"], "forward.log");
    let port: u16 = said
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|port| port.parse().ok())
        .expect("a port");
    let url = format!("http://127.0.0.1:{port}/there");
    let fetched = knarr_tests::bins::run(std::process::Command::new("curl").args(["-fsS", &url])).ok();
    assert_eq!(fetched, "carried");
    let stats = plane.k(&["get", "--raw", "/api/v1/nodes/real/proxy/stats/summary"]).ok();
    assert!(stats.contains("\"web\""), "{stats}");
}

fn probes_and_restarts_are_told(plane: &Plane) {
    let mut container = shell("echo run; touch /live; sleep 1000");
    container["livenessProbe"] = json!({"exec": {"command": ["test", "-e", "/live"]}, "periodSeconds": 1,
        "failureThreshold": 1});
    container["startupProbe"] = json!({"exec": {"command": ["test", "-e", "/live"]}, "periodSeconds": 1,
        "failureThreshold": 60});
    create(plane, "sick", json!({"terminationGracePeriodSeconds": 0, "containers": [container]}));
    ready(plane, "sick");
    plane.k(&["exec", "sick", "--", "rm", "/live"]).ok();
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0);
    when(plane, "sick", "it is restarted", |pod| restarts(pod) >= 1);
    assert_eq!(plane.k(&["logs", "sick", "--previous"]).ok(), "run\n");
    for reason in ["Pulled", "Created", "Started", "Unhealthy", "Killing"] {
        let selector = format!("involvedObject.name=sick,reason={reason}");
        eventually(&format!("event {reason}"), PATIENCE, || {
            let events = plane.get(&["events", "--field-selector", &selector]);
            if events["items"].as_array().is_some_and(|all| !all.is_empty()) {
                Ok(())
            } else {
                Err(events.to_string())
            }
        });
    }
}

fn labels_of_others_count(plane: &Plane) {
    plane.k(&["label", "node", "real", "disk=ssd"]).ok();
    // The node learns of it by its own watch; a pod that comes before would be refused for good.
    let mut number = 0;
    eventually("a pod for the label runs", PATIENCE, || {
        number += 1;
        let name = format!("picky{number}");
        let spec = json!({"nodeSelector": {"disk": "ssd"}, "terminationGracePeriodSeconds": 0,
            "containers": [shell("sleep 1000")]});
        create(plane, &name, spec);
        let pod = when(plane, &name, "it is decided about", |pod| {
            ["Running", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase)
        });
        if pod["status"]["phase"] == "Running" { Ok(()) } else { Err(pod["status"].to_string()) }
    });
}

fn limits_change_in_place(plane: &Plane) {
    let resize = |cpu: &str| {
        let resources = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        let patch = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}).to_string();
        plane.k(&["patch", "pod", "web", "--subresource=resize", "-p", &patch]).ok();
    };
    resize("300m");
    when(plane, "web", "it is resized", |pod| {
        pod["status"]["containerStatuses"][0]["resources"]["limits"]["cpu"] == "300m"
    });
    resize("1000");
    let pending = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "PodResizePending").unwrap_or_default()
    };
    let pod = when(plane, "web", "it waits", |pod| pending(pod)["reason"] == "Infeasible");
    assert_eq!(pod["status"]["containerStatuses"][0]["allocatedResources"]["cpu"], "300m");
    resize("300m");
    when(plane, "web", "it waits no more", |pod| pending(pod).is_null());
}

fn a_static_pod_is_mirrored(plane: &Plane, agent: &Agent) {
    let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fixed"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [shell("sleep 1000")]}});
    std::fs::write(agent.path("manifests/fixed.json"), manifest.to_string()).expect("a manifest");
    let pod = ready(plane, "fixed-real");
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("Node"), &json!("real")));
    std::fs::remove_file(agent.path("manifests/fixed.json")).expect("a manifest");
    gone(plane, "fixed-real");
}

fn a_new_agent_finds_everything(plane: &Plane, agent: &mut Agent) {
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    let before = plane.get(&["pod", "web"]);
    agent.kill();
    agent.start();
    let after = ready(plane, "web");
    assert_eq!(id(&before), id(&after));
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0);
}

fn gone(plane: &Plane, pod: &str) {
    eventually(&format!("{pod} is gone"), PATIENCE, || {
        let pod = plane.get(&["pod", pod]);
        if pod.is_null() { Ok(()) } else { Err(format!("{:#}", pod["status"])) }
    });
}

fn pods_end_in_their_time(plane: &Plane) {
    plane.k(&["delete", "pod", "web", "--grace-period=20", "--wait=false"]).ok();
    gone(plane, "web");
    create(plane, "once", json!({"restartPolicy": "Never", "containers": [shell("exit 3")]}));
    let pod = when(plane, "once", "it fails", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    plane.k(&["delete", "pods", "--all", "--wait=false"]).ok();
    eventually("no pod is left", PATIENCE, || {
        // Of an empty list that may be missing kubectl 1.33 says nothing at all.
        let pods = plane.get(&["pods"]);
        if pods["items"].as_array().is_none_or(Vec::is_empty) { Ok(()) } else { Err(pods.to_string()) }
    });
}

/// The agent says what it was refused. What it may not follow there (endpoints, other nodes) it leaves to others, and says
/// so without a warning.
fn nothing_was_refused(agent: &Agent) {
    let log = agent.log();
    let bad = |line: &&str| {
        let lower = line.to_lowercase();
        ["forbidden", "invalid", "unauthorized", "not written", "not created", "not deleted"]
            .iter()
            .any(|word| lower.contains(word))
    };
    let bad: Vec<&str> = log.lines().filter(bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

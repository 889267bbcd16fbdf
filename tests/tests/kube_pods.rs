//! What a kubelet does with pods, seen through kubectl: one node, many pods beside each other, each of them one row of
//! the kubelet's behaviour with the words, reasons and counts that users and tools look for.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::expect_used)]

#[path = "kube_pods/ends.rs"]
mod ends;
#[path = "kube_pods/exports.rs"]
mod exports;
#[allow(dead_code)] // Shared with the tests of a second node.
#[path = "kube_pods/node.rs"]
mod node;
#[path = "kube_pods/pulls.rs"]
mod pulls;
#[path = "kube_pods/resizes.rs"]
mod resizes;
#[path = "kube_pods/room.rs"]
mod room;

use knarr_tests::skip::skip;
use node::{Node, terminated, waiting};
use serde_json::{Value, json};

fn shell(node: &Node, name: &str, script: &str) -> Value {
    json!({"name": name, "image": node.busybox(), "command": ["sh", "-c", script]})
}

/// A pod of one shell script that ends at once when it must.
fn simple(node: &Node, script: &str) -> Value {
    json!({"terminationGracePeriodSeconds": 0, "containers": [shell(node, "c", script)]})
}

#[test]
fn how_containers_begin_run_and_end() {
    let Some(mut node) = Node::start() else {
        return skip("kube_pods_lifecycle", "no kubectl on this machine");
    };
    start_lifecycle(&node);
    sidecars_run_beside_and_end_after(&node);
    init_containers_fail(&node);
    hooks_run(&node);
    probes_decide(&node);
    ends::redirects_to_others_are_told(&node);
    ends::conditions_that_hold_have_no_reason(&node);
    ends::deleted_pods_end_in_a_final_phase(&node);
    ends::another_image_leaves_the_pod_ready(&node);
    restarts_back_off(&node);
    ends::what_cannot_start_backs_off(&node);
    last_words_and_deadlines(&node);
    restart_counts_survive_the_agent(&mut node);
}

fn start_lifecycle(node: &Node) {
    let mut sidecar = shell(node, "side", "trap 'exit 0' TERM; touch /tmp/up; while :; do sleep 0.1; done");
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] = json!({"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1,
        "timeoutSeconds": 30, "failureThreshold": 60});
    node.pod(
        "sidecar",
        json!({"restartPolicy": "Never", "initContainers": [sidecar, shell(node, "after", "true")],
            "containers": [shell(node, "c", "sleep 1")]}),
    );
    let failing = |policy: &str| {
        let mut spec = simple(node, "sleep 1000");
        spec["restartPolicy"] = json!(policy);
        spec["initContainers"] = json!([shell(node, "i", "exit 1")]);
        spec
    };
    node.pod("init-never", failing("Never"));
    node.pod("init-always", failing("Always"));
    let mut hooks =
        shell(node, "c", "trap 'echo term >> /out/log; exit 0' TERM; touch /up; while :; do sleep 0.1; done");
    let write = |script: &str| json!({"exec": {"command": ["sh", "-c", format!("{script} >> /out/log")]}});
    // Without its trap it would not hear the signal.
    let post = "until [ -e /up ]; do sleep 0.1; done; echo post";
    hooks["lifecycle"] = json!({"postStart": write(post), "preStop": write("echo pre")});
    hooks["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    node.pod(
        "hooks",
        json!({"containers": [hooks], "volumes": [
            {"name": "out", "hostPath": {"path": node.path("hooks"), "type": "DirectoryOrCreate"}}]}),
    );
    let mut bad_hook = simple(node, "sleep 1000");
    bad_hook["containers"][0]["lifecycle"] =
        json!({"postStart": {"exec": {"command": ["sh", "-c", "exit 4"]}}});
    node.pod("bad-hook", bad_hook);
    let mut probed =
        simple(node, "mkdir -p /w/ready; echo ok > /w/ready/index.html; touch /live; httpd -f -p 8080 -h /w");
    let container = &mut probed["containers"][0];
    container["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    container["startupProbe"] = json!({"tcpSocket": {"port": "http"}, "periodSeconds": 1, "timeoutSeconds": 30, "failureThreshold": 60});
    container["readinessProbe"] = json!({"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1,
        "timeoutSeconds": 30, "failureThreshold": 1});
    container["livenessProbe"] = json!({"exec": {"command": ["test", "-e", "/live"]}, "periodSeconds": 1,
        "timeoutSeconds": 30, "failureThreshold": 1});
    node.pod("probed", probed);
    ends::start_redirected(node);
    node.pod("crash", simple(node, "echo run; exit 2"));
    let mut no_command = simple(node, "");
    no_command["containers"][0]["command"] = json!(["/not/there"]);
    node.pod("no-command", no_command);
    let mut watched = simple(node, "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    watched["terminationGracePeriodSeconds"] = json!(30);
    node.pod("watched", watched);
    node.pod("reimaged", simple(node, "sleep 1000"));
    let mut words = simple(node, "echo 'from the log'; exit 1");
    words["restartPolicy"] = json!("Never");
    words["containers"][0]["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    node.pod("words", words);
    let mut deadline = simple(node, "sleep 1000");
    deadline["activeDeadlineSeconds"] = json!(1);
    node.pod("deadline", deadline);
}

fn sidecars_run_beside_and_end_after(node: &Node) {
    let pod = node.when("sidecar", "it succeeds", |pod| pod["status"]["phase"] == "Succeeded");
    let init = &pod["status"]["initContainerStatuses"];
    assert_eq!(terminated(&init[0])["exitCode"], 0, "the sidecar was stopped: {init}");
    assert_eq!(init[1]["restartCount"], 0);
    assert!(node.k(&["get", "pod", "sidecar"]).ok().contains("Completed"));
}

fn init_containers_fail(node: &Node) {
    let pod = node.when("init-never", "it fails", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(terminated(&pod["status"]["initContainerStatuses"][0])["exitCode"], 1);
    let row = node.k(&["get", "pod", "init-never"]).ok();
    assert!(row.contains("Init:Error") && row.contains("0/1"), "{row}");
    node.when("init-always", "it backs off", |pod| {
        waiting(&pod["status"]["initContainerStatuses"][0])["reason"] == "CrashLoopBackOff"
    });
    node.eventually("its row says so", || {
        let row = node.k(&["get", "pod", "init-always"]).ok();
        if row.contains("Init:CrashLoopBackOff") { Ok(()) } else { Err(row) }
    });
}

fn hooks_run(node: &Node) {
    node.ready("hooks");
    node.k(&["delete", "pod", "hooks"]).ok();
    let log = std::fs::read_to_string(node.path("hooks").join("log")).unwrap_or_default();
    assert_eq!(log, "post\npre\nterm\n");
    node.event("bad-hook", "FailedPostStartHook", "PostStartHook failed");
    node.k(&["delete", "pod", "bad-hook"]).ok();
}

fn probes_decide(node: &Node) {
    node.ready("probed");
    // Asked for a folder, the server says that its name ends with a slash: only there it is missed.
    node.k(&["exec", "probed", "--", "rm", "/w/ready/index.html"]).ok();
    node.when("probed", "it is not ready", |pod| pod["status"]["containerStatuses"][0]["ready"] == false);
    node.event("probed", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404");
    node.k(&["exec", "probed", "--", "rm", "/live"]).ok();
    node.when("probed", "it is restarted", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1);
    node.event("probed", "Killing", "Container c failed liveness probe, will be restarted");
    node.ready("probed");
}

fn restarts_back_off(node: &Node) {
    let pod = node.when("crash", "it backs off", |pod| {
        waiting(&pod["status"]["containerStatuses"][0])["reason"] == "CrashLoopBackOff"
    });
    let status = &pod["status"]["containerStatuses"][0];
    let message = waiting(status)["message"].as_str().unwrap_or_default().to_owned();
    let told = message.starts_with("back-off ")
        && message.contains("s restarting failed container=c pod=crash_default(");
    assert!(told, "{message}");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 2);
    node.event("crash", "BackOff", "Back-off restarting failed container c in pod crash_default(");
    node.says("crash", |log| log == "run\n");
}

fn last_words_and_deadlines(node: &Node) {
    let pod = node.when("words", "it fails", |pod| pod["status"]["phase"] == "Failed");
    let state = terminated(&pod["status"]["containerStatuses"][0]).clone();
    assert_eq!((&state["message"], &state["reason"]), (&json!("from the log\n"), &json!("Error")));
    let pod = node.when("deadline", "it fails", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    assert_eq!(pod["status"]["message"], "Pod was active on the node longer than the specified deadline");
}

fn restart_counts_survive_the_agent(node: &mut Node) {
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    let before = node.get("probed");
    node.restart();
    let after = node.ready("probed");
    assert_eq!(id(&after), id(&before));
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 1);
}

#[test]
fn what_containers_are_given_and_what_pods_are_refused() {
    let Some(node) = Node::start() else {
        return skip("kube_pods_given", "no kubectl on this machine");
    };
    start_given(&node);
    names_and_addresses(&node);
    environment(&node);
    resizes::a_restart_grows_the_pod_too(&node);
    resizes::one_limit_grows_while_the_other_shrinks(&node);
    resizes::resources_change_in_place(&node);
    resizes::resizes_wait_for_room(&node);
    room::critical_pods_drive_others_out(&node);
    usage_is_shown(&node);
    objects_reach_running_pods(&node);
    rejections_have_their_reasons(&node);
    pulls::pull_secrets_open_registries(&node);
    exports::exports_of_nobody_hold_the_pod_back(&node);
    gates_open(&node);
    limits_of_the_disk_are_kept(&node);
    static_pods_have_mirrors(&node);
    kubectl_reaches_into_pods(&node);
    drained_nodes_are_empty(&node);
}

fn start_given(node: &Node) {
    let mut named = simple(node, "sleep 1000");
    named["hostname"] = json!("web");
    named["subdomain"] = json!("sub");
    named["hostAliases"] = json!([{"ip": "192.0.2.7", "hostnames": ["a.example", "b.example"]}]);
    named["dnsPolicy"] = json!("None");
    named["dnsConfig"] = json!({"nameservers": ["192.0.2.53"], "searches": ["x.example"],
        "options": [{"name": "ndots", "value": "2"}]});
    node.pod("named", named);
    node.k(&["create", "configmap", "settings", "--from-literal=KEY=one"]).ok();
    node.k(&["create", "secret", "generic", "keys", "--from-literal=pass=hidden"]).ok();
    let mut given = simple(node, "env | sort; sleep 1000");
    let container = &mut given["containers"][0];
    container["env"] = json!([
        {"name": "A", "value": "a"}, {"name": "B", "value": "$(A)-$(NONE)-$$(A)"},
        {"name": "PASS", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "pass"}}},
        {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": true}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}]);
    container["envFrom"] = json!([{"prefix": "P_", "configMapRef": {"name": "settings"}}]);
    container["resources"] = json!({"limits": {"cpu": "250m", "memory": "32Mi"}});
    node.pod("given", given);
    let mut follows = simple(node, "sleep 1000");
    follows["containers"][0]["volumeMounts"] = json!([{"name": "all", "mountPath": "/all"}]);
    follows["volumes"] = json!([{"name": "all", "projected": {"sources": [
        {"configMap": {"name": "settings"}}, {"secret": {"name": "keys"}},
        {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}},
        {"downwardAPI": {"items": [{"path": "notes", "fieldRef": {"fieldPath": "metadata.annotations"}}]}}]}}]);
    node.pod("follows", follows);
    let mut gated = simple(node, "sleep 1000");
    gated["readinessGates"] = json!([{"conditionType": "example.com/gate"}]);
    node.pod("gated", gated);
    let mut full = simple(node, "dd if=/dev/zero of=/v/f bs=1M count=3; sleep 1000");
    full["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    full["volumes"] = json!([{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]);
    node.pod("full", full);
    start_refused(node);
}

fn start_refused(node: &Node) {
    let mut root = simple(node, "true");
    root["securityContext"] = json!({"runAsNonRoot": true});
    node.pod("root", root);
    let mut large = simple(node, "true");
    large["nodeName"] = json!("node");
    large["containers"][0]["resources"] = json!({"requests": {"cpu": "1000"}});
    node.pod("large", large);
    let mut elsewhere = simple(node, "true");
    elsewhere["nodeName"] = json!("node");
    elsewhere["nodeSelector"] = json!({"disk": "none"});
    node.pod("elsewhere", elsewhere);
    let mut sysctl = simple(node, "true");
    sysctl["nodeName"] = json!("node");
    sysctl["securityContext"] = json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]});
    node.pod("sysctl", sysctl);
    let mut missing = simple(node, "true");
    missing["containers"][0]["image"] = json!(node.image("nothing:1"));
    node.pod("missing", missing);
}

fn names_and_addresses(node: &Node) {
    node.ready("named");
    let read = |file: &str| node.k(&["exec", "named", "--", "cat", file]).ok();
    let hosts = read("/etc/hosts");
    assert!(hosts.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"), "{hosts}");
    assert!(hosts.contains("\tweb.sub.default.svc.cluster.local\tweb\n"), "{hosts}");
    assert!(hosts.contains("# Entries added by HostAliases.\n192.0.2.7\ta.example\tb.example\n"), "{hosts}");
    assert_eq!(read("/etc/resolv.conf"), "search x.example\nnameserver 192.0.2.53\noptions ndots:2\n");
    assert_eq!(node.k(&["exec", "named", "--", "hostname"]).ok(), "web\n");
}

fn environment(node: &Node) {
    node.ready("given");
    let lines =
        ["A=a", "B=a-$(NONE)-$(A)", "PASS=hidden", "LABEL=given", "NODE=node", "CPU=250", "P_KEY=one"];
    let log = node.says("given", |log| lines.iter().all(|line| log.lines().any(|found| found == *line)));
    assert!(!log.contains("GONE="), "{log}");
}

fn usage_is_shown(node: &Node) {
    node.eventually("kubectl top shows a pod and the node", || {
        let (pod, machine) =
            (node.k(&["top", "pod", "given", "--no-headers"]), node.k(&["top", "node", "--no-headers"]));
        let shown =
            |said: &str, name: &str| said.starts_with(name) && said.contains("Mi") && said.contains('m');
        let good = shown(&pod.out, "given") && shown(&machine.out, "node");
        if good { Ok(()) } else { Err(format!("{pod:?} {machine:?}")) }
    });
}

fn objects_reach_running_pods(node: &Node) {
    node.ready("follows");
    let read = |file: &str| node.k(&["exec", "follows", "--", "cat", file]).ok();
    assert_eq!(read("/all/KEY"), "one");
    assert_eq!(read("/all/pass"), "hidden");
    assert_eq!(read("/all/token").split('.').count(), 3, "a token is a JWT");
    let change = json!({"data": {"KEY": "two", "MORE": "x"}}).to_string();
    node.k(&["patch", "configmap", "settings", "-p", &change]).ok();
    node.k(&["annotate", "pod", "follows", "note=new"]).ok();
    node.eventually("the change arrives", || {
        let seen = (read("/all/KEY"), read("/all/notes"));
        if seen.0 == "two" && seen.1.contains("note=\"new\"") { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    assert_eq!(read("/all/MORE"), "x");
    assert_eq!(node.get("follows")["status"]["containerStatuses"][0]["restartCount"], 0);
}

fn rejections_have_their_reasons(node: &Node) {
    let status = |name: &str| node.when(name, "it fails", |pod| pod["status"]["phase"] == "Failed");
    for (name, reason, message) in [
        ("large", "OutOfcpu", "Node didn't have enough resource: cpu, requested: 1000000"),
        ("elsewhere", "NodeAffinity", "node affinity/selector"),
        ("sysctl", "SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted"),
    ] {
        let pod = status(name);
        assert_eq!(pod["status"]["reason"], reason, "{}", pod["status"]);
        let text = pod["status"]["message"].as_str().unwrap_or_default();
        assert!(text.starts_with("Pod was rejected: ") && text.contains(message), "{text}");
        assert!(pod["status"]["containerStatuses"].is_null(), "nothing of it was ever here: {pod}");
        let row = node.k(&["get", "pod", name, "--no-headers"]).ok();
        assert!(row.contains(reason), "{row}");
    }
    let pod = node.when("root", "it is refused", |pod| {
        waiting(&pod["status"]["containerStatuses"][0])["reason"] == "CreateContainerConfigError"
    });
    let message = waiting(&pod["status"]["containerStatuses"][0])["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("container has runAsNonRoot and image will run as root (pod: "), "{message}");
    let pod = node.when("missing", "the pull backs off", |pod| {
        waiting(&pod["status"]["containerStatuses"][0])["reason"] == "ImagePullBackOff"
    });
    let message = waiting(&pod["status"]["containerStatuses"][0])["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("Back-off pulling image \""), "{message}");
    let said = node.k(&["logs", "missing"]);
    let words = "Error from server (BadRequest): container \"c\" in pod \"missing\" is waiting to start: ";
    assert!(said.err.contains(words) && said.err.contains("pull"), "{said:?}");
    node.event("missing", "Failed", "Error: ErrImagePull");
    node.event("missing", "Failed", "Error: ImagePullBackOff");
    node.event("missing", "BackOff", "Back-off pulling image");
}

fn gates_open(node: &Node) {
    let condition = |pod: &Value, kind: &str| {
        let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
    };
    let pod = node.when("gated", "its containers are ready", |pod| {
        condition(pod, "ContainersReady")["status"] == "True"
    });
    assert_eq!(condition(&pod, "Ready")["reason"], "ReadinessGatesNotReady");
    let gate =
        json!({"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}).to_string();
    node.k(&["patch", "pod", "gated", "--subresource=status", "-p", &gate]).ok();
    node.ready("gated");
}

fn limits_of_the_disk_are_kept(node: &Node) {
    let pod = node.when("full", "it is evicted", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(pod["status"]["reason"], "Evicted");
    let text = "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ";
    assert_eq!(pod["status"]["message"], text);
    node.event("full", "Evicted", text.trim_end());
}

fn static_pods_have_mirrors(node: &Node) {
    let mut spec = simple(node, "trap 'sleep 1; touch /last/word; exit' TERM; sleep 1000 & wait");
    spec["terminationGracePeriodSeconds"] = json!(30);
    let last = node.path("last");
    std::fs::create_dir_all(&last).expect("a directory");
    spec["volumes"] = json!([{"name": "last", "hostPath": {"path": last}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "last", "mountPath": "/last"}]);
    let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static"}, "spec": spec});
    let file = node.path("manifests").join("static.json");
    std::fs::write(node.path("manifests").join("broken.yaml"), "kind: [").expect("a manifest");
    std::fs::write(&file, manifest.to_string()).expect("a manifest");
    let first = node.ready("static-node");
    node.k(&["delete", "pod", "static-node", "--wait=false"]).ok();
    let second = node.when("static-node", "its mirror is made again", |pod| {
        pod["metadata"]["uid"] != first["metadata"]["uid"]
    });
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    let second =
        node.when("static-node", "the mirror shows it", |pod| id(pod) == id(&first) || *pod == second);
    assert_eq!(id(&node.ready("static-node")), id(&first), "the container goes on: {second}");
    let edited = manifest.to_string().replace("sleep 1000", "sleep 2000");
    std::fs::write(node.path("edited.json"), edited).expect("a manifest");
    std::fs::rename(node.path("edited.json"), &file).expect("a manifest");
    node.when("static-node", "another container runs", |pod| {
        id(pod) != id(&first) && pod["status"]["containerStatuses"][0]["ready"] == true
    });
    std::fs::remove_file(last.join("word")).expect("the first one's last word");
    std::fs::remove_file(&file).expect("a manifest");
    node.gone("static-node");
    assert!(last.join("word").exists(), "a mirror stays until its pod has ended");
    a_static_pod_may_come_back_at_once(node, &file);
}

/// Its file is there again while it still ends.
fn a_static_pod_may_come_back_at_once(node: &Node, file: &std::path::Path) {
    let script =
        "trap 'touch /last/asked; until [ -e /last/go ]; do sleep 0.1; done; exit' TERM; sleep 1000 & wait";
    let last = node.path("last");
    let mut spec = simple(node, script);
    spec["terminationGracePeriodSeconds"] = json!(600);
    spec["volumes"] = json!([{"name": "last", "hostPath": {"path": last}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "last", "mountPath": "/last"}]);
    let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static"}, "spec": spec});
    let put = || {
        std::fs::write(node.path("again.json"), manifest.to_string()).expect("a manifest");
        std::fs::rename(node.path("again.json"), file).expect("a manifest");
    };
    put();
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    let first = id(&node.ready("static-node"));
    std::fs::remove_file(file).expect("a manifest");
    node.eventually("it is asked to end", || {
        last.join("asked").exists().then_some(()).ok_or("not yet".into())
    });
    put();
    std::fs::write(last.join("go"), "").expect("a word");
    node.when("static-node", "it runs again", |pod| {
        id(pod) != first && pod["status"]["containerStatuses"][0]["ready"] == true
    });
    std::fs::remove_file(file).expect("a manifest");
    node.gone("static-node");
}

fn kubectl_reaches_into_pods(node: &Node) {
    let local = node.path("local.txt");
    std::fs::write(&local, "carried\n").expect("a file");
    let (local, back) = (local.display().to_string(), node.path("back.txt").display().to_string());
    node.k(&["cp", &local, "named:/tmp/there.txt"]).ok();
    node.k(&["cp", "named:/tmp/there.txt", &back]).ok();
    assert_eq!(std::fs::read_to_string(&back).unwrap_or_default(), "carried\n");
    node.k(&[
        "debug",
        "named",
        &format!("--image={}", node.busybox()),
        "--target=c",
        "-c",
        "dbg",
        "--",
        "sh",
        "-c",
        "ps; sleep 1000",
    ])
    .ok();
    node.when("named", "the debugger runs", |pod| {
        pod["status"]["ephemeralContainerStatuses"][0]["state"]["running"].is_object()
    });
    node.eventually("it sees the other container's processes", || {
        let log = node.k(&["logs", "named", "-c", "dbg"]).ok();
        if log.contains("sleep 1000") && log.contains("1 root") { Ok(()) } else { Err(log) }
    });
    let all = node.k(&["logs", "named", "--all-containers", "--prefix"]).ok();
    assert!(all.contains("[pod/named/dbg]"), "{all}");
}

fn drained_nodes_are_empty(node: &Node) {
    node.k(&["cordon", "node"]).ok();
    let row = node.k(&["get", "node", "node"]).ok();
    assert!(row.contains("Ready,SchedulingDisabled"), "{row}");
    node.k(&["drain", "node", "--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=50s"])
        .ok();
    let left = node.k(&["get", "pods", "--field-selector=status.phase=Running", "-o", "name"]).ok();
    assert_eq!(left.trim(), "");
    node.k(&["uncordon", "node"]).ok();
}

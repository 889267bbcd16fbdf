//! Static pods on a whole node, on the real kernel: what a manifest asks for is what runs, and nothing is left of it.
//!
//! The OCI runtime is `knarr-runtime` from the build directory, or the program that `KNARR_TEST_RUNTIME` names.

// A test may panic, and so may what it is made of; clippy's own exception covers only the test functions.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "kubelet_pods/cpus.rs"]
mod cpus;
#[path = "kubelet_pods/devices.rs"]
mod devices;
#[path = "kubelet_pods/endings.rs"]
mod endings;
#[path = "kubelet_pods/lab.rs"]
mod lab;
#[path = "kubelet_pods/listener.rs"]
mod listener;
#[path = "kubelet_pods/logs.rs"]
mod logs;
#[path = "kubelet_pods/own_users.rs"]
mod own_users;
#[path = "kubelet_pods/probes.rs"]
mod probes;
#[path = "kubelet_pods/volumes.rs"]
mod volumes;
#[path = "kubelet_pods/whole_node.rs"]
mod whole_node;

use lab::{IMAGE, containers, eventually, is_ready, phase};
use serde_json::json;

fn pod(name: &str, spec: serde_json::Value) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

fn shell(name: &str, script: &str) -> serde_json::Value {
    json!({"name": name, "image": IMAGE, "command": ["sh", "-c", script]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_pod_runs_survives_the_agent_and_goes_with_its_file() {
    lab::with(async |lab| {
        let spec = json!({"terminationGracePeriodSeconds": 0,
            "containers": [shell("one", "echo hello; sleep 1000"), shell("two", "sleep 1000")]});
        lab.write("a.json", pod("a", spec));
        let before = lab.pod_when("a", is_ready).await;
        assert_eq!(phase(&before), "Running");
        let status = before.status.clone().unwrap();
        assert!(status.pod_ip.unwrap().starts_with("10.214."));
        assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
        assert!(containers(&before)[0].container_id.as_ref().unwrap().starts_with("knarr://"));
        assert_eq!(
            eventually(async || Some(lab.log(&before, "one", 0)).filter(|l| !l.is_empty())).await.unwrap(),
            "hello\n"
        );
        lab.restart().await;
        let after = lab.pod_when("a", is_ready).await;
        let ids = |pod| {
            containers(pod).iter().map(|c| (c.container_id.clone(), c.restart_count)).collect::<Vec<_>>()
        };
        assert_eq!(ids(&after), ids(&before));
        lab.delete("a.json");
        lab.gone("a").await;
        assert_eq!(std::fs::read_dir(lab.path("data/kubelet/pods")).unwrap().count(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_and_volumes_reach_the_container() {
    lab::with(async |lab| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "from map"}});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"p": "hidden"}});
        let mut container = shell("c", "echo $A-$NAME-$IP; cat /map/k; echo; cat /secret/p; echo; echo w > /shared/x; cat /shared/x; cat /sub/x; echo; sleep 1000");
        container["env"] = json!([
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
        container["volumeMounts"] = json!([
            {"name": "map", "mountPath": "/map"}, {"name": "secret", "mountPath": "/secret"},
            {"name": "shared", "mountPath": "/shared"}, {"name": "seed", "mountPath": "/sub/x", "subPath": "k"}]);
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": [
            {"name": "map", "configMap": {"name": "m"}}, {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "shared", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "seed", "configMap": {"name": "m"}}]});
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [map, secret, pod("v", spec)]});
        lab.write("v.json", list);
        let running = lab.pod_when("v", is_ready).await;
        let ip = running.status.as_ref().unwrap().pod_ip.clone().unwrap();
        let expected = format!("from map-v-lab-{ip}\nfrom map\nhidden\nw\nfrom map\n");
        let full = async || Some(lab.log(&running, "c", 0)).filter(|log| *log == expected);
        assert!(eventually(full).await.is_some(), "{}", lab.log(&running, "c", 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_policies_and_last_words() {
    lab::with(async |lab| {
        let script = "echo last words > /dev/termination-log; exit 3";
        lab.write(
            "never.json",
            pod("never", json!({"restartPolicy": "Never", "containers": [shell("c", script)]})),
        );
        lab.write(
            "done.json",
            pod("done", json!({"restartPolicy": "OnFailure", "containers": [shell("c", "exit 0")]})),
        );
        lab.write("loop.json", pod("loop", json!({"containers": [shell("c", "exit 1")]})));
        let failed = lab.pod_when("never", |pod| phase(pod) == "Failed").await;
        let state = containers(&failed)[0].state.clone().unwrap().terminated.unwrap();
        assert_eq!((state.exit_code, state.reason.as_deref()), (3, Some("Error")));
        assert_eq!(state.message.as_deref(), Some("last words\n"));
        let done = lab.pod_when("done", |pod| phase(pod) == "Succeeded").await;
        assert_eq!(
            containers(&done)[0].state.clone().unwrap().terminated.unwrap().reason.as_deref(),
            Some("Completed")
        );
        let waits = |pod: &k8s_openapi::api::core::v1::Pod| {
            let state = containers(pod)[0].state.clone().unwrap_or_default();
            state.waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"))
        };
        let looping = lab.pod_when("loop", waits).await;
        assert_eq!(phase(&looping), "Running");
        assert!(containers(&looping)[0].restart_count >= 1);
        assert!(containers(&looping)[0].last_state.clone().unwrap().terminated.is_some());
    })
    .await;
}

/// An agent that died before the pod's hosts file was written left a pod whose containers could never be made.
#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_file_that_is_gone_is_written_for_the_next_container() {
    lab::with(async |lab| {
        let mut main = shell("c", "cat /etc/hosts; touch /v/go; while test -e /v/go; do sleep 0.1; done");
        main["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [main],
            "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["alias"]}],
            "volumes": [{"name": "v", "emptyDir": {}}]});
        lab.write("h.json", pod("h", spec));
        let running = lab.pod_when("h", is_ready).await;
        let directory = lab.path("data/kubelet/pods").join(running.metadata.uid.clone().unwrap());
        let go = directory.join("volumes/kubernetes.io~empty-dir/v/go");
        assert!(eventually(async || go.exists().then_some(())).await.is_some());
        std::fs::remove_file(directory.join("etc-hosts")).unwrap();
        std::fs::remove_file(go).unwrap();
        let again = lab.pod_when("h", |pod| containers(pod)[0].restart_count == 1 && is_ready(pod)).await;
        let says = async || Some(lab.log(&again, "c", 1)).filter(|log| log.contains("192.0.2.7\talias"));
        assert!(eventually(says).await.is_some(), "{}", lab.log(&again, "c", 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_and_probes_gate_readiness() {
    lab::with(async |lab| {
        let mut init = shell("init", "echo seen > /shared/x");
        let mut main = shell("main", "cat /shared/x; httpd -f -p 8080 -h /shared");
        for container in [&mut init, &mut main] {
            container["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared"}]);
        }
        main["readinessProbe"] =
            json!({"httpGet": {"path": "/x", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30});
        main["livenessProbe"] = json!({"exec": {"command": ["test", "-e", "/shared/x"]}, "periodSeconds": 1,
            "timeoutSeconds": 30, "failureThreshold": 1, "terminationGracePeriodSeconds": 1});
        let spec = json!({"terminationGracePeriodSeconds": 0, "initContainers": [init], "containers": [main],
            "volumes": [{"name": "shared", "emptyDir": {}}]});
        lab.write("p.json", pod("p", spec));
        let ready = lab.pod_when("p", is_ready).await;
        let init = ready.status.clone().unwrap().init_container_statuses.unwrap();
        assert_eq!(init[0].state.clone().unwrap().terminated.unwrap().exit_code, 0);
        let uid = ready.metadata.uid.clone().unwrap();
        let shared = lab.path("data/kubelet/pods").join(uid).join("volumes/kubernetes.io~empty-dir/shared/x");
        std::fs::remove_file(shared).unwrap();
        lab.pod_when("p", |pod| containers(pod)[0].restart_count >= 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_whole_period_because_a_server_took_a_moment() {
    lab::with(async |lab| {
        let mut main = shell("main", "httpd -f -p 8080");
        for probe in ["startupProbe", "readinessProbe"] {
            main[probe] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 3600, "timeoutSeconds": 30});
        }
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [main]});
        lab.write("p.json", pod("p", spec));
        lab.pod_when("p", is_ready).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_says_why() {
    lab::with(async |lab| {
        let missing = json!({"name": "c", "image": "127.0.0.1:1/nothing:1"});
        lab.write("image.json", pod("image", json!({"containers": [missing]})));
        let never = json!({"name": "c", "image": "localhost/none:1", "imagePullPolicy": "Never"});
        lab.write("never.json", pod("never", json!({"containers": [never]})));
        let mut keyed = shell("c", "true");
        keyed["env"] = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}}]);
        lab.write("key.json", pod("key", json!({"containers": [keyed]})));
        let absent = json!({"name": "c", "image": IMAGE, "command": ["/no/such/program"]});
        lab.write("program.json", pod("program", json!({"containers": [absent]})));
        lab.write("broken.json", json!("{"));
        let waiting = |reason: &'static str| {
            move |pod: &k8s_openapi::api::core::v1::Pod| {
                let state = containers(pod).first().and_then(|c| c.state.clone()).unwrap_or_default();
                state.waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some(reason))
            }
        };
        // Each of these is shown for two seconds at a time: they are looked for at once.
        tokio::join!(
            lab.pod_when("image", waiting("ErrImagePull")),
            lab.pod_when("image", waiting("ImagePullBackOff")),
            lab.pod_when("never", waiting("ErrImageNeverPull")),
            lab.pod_when("program", waiting("RunContainerError")),
        );
        let key = lab.pod_when("key", waiting("CreateContainerConfigError")).await;
        let message = containers(&key)[0].state.clone().unwrap().waiting.unwrap().message;
        assert_eq!(message.as_deref(), Some("secret \"gone\" not found"));
    })
    .await;
}

/// Also where the file was back before anybody looked.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_left_and_came_back_begins_anew() {
    lab::with(async |lab| {
        let spec =
            |script: &str| json!({"terminationGracePeriodSeconds": 0, "containers": [shell("c", script)]});
        lab.write("a.json", pod("a", spec("sleep 1000")));
        lab.write("b.json", pod("b", spec("sleep 1000")));
        let id = |pod: &k8s_openapi::api::core::v1::Pod| containers(pod)[0].container_id.clone();
        let first = lab.pod_when("a", is_ready).await;
        let other = lab.pod_when("b", is_ready).await;
        let file = lab.path("manifests/a.json");
        std::fs::rename(&file, lab.path("away")).unwrap();
        std::fs::rename(lab.path("away"), &file).unwrap();
        let second = lab.pod_when("a", |pod| is_ready(pod) && id(pod) != id(&first)).await;
        assert_eq!(second.metadata.uid, first.metadata.uid);
        assert_eq!(containers(&second)[0].restart_count, 0, "it is no restart");
        // What is put in its place, as editors and installers do, is an update.
        lab.write("b.json", pod("b", spec("sleep 1000")));
        lab.delete("a.json");
        lab.gone("a").await;
        assert_eq!(id(&lab.pod_when("b", is_ready).await), id(&other), "nothing changed for this one");
    })
    .await;
}

/// A profile that the kernel cannot enforce is not left out: the pod waits. Where the kernel can, it runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_insists_on_apparmor_waits_for_a_kernel_that_has_it() {
    lab::with(async |lab| {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        let enabled = enabled.is_ok_and(|text| text.starts_with('Y'))
            && std::path::Path::new("/sys/kernel/security/apparmor").exists();
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [shell("c", "sleep 1000")],
            "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}});
        lab.write("a.json", pod("a", spec));
        if enabled {
            lab.pod_when("a", is_ready).await;
        } else {
            let reason = |pod: &k8s_openapi::api::core::v1::Pod| pod.status.as_ref()?.reason.clone();
            let held = lab.pod_when("a", |pod| reason(pod).is_some()).await;
            assert_eq!((phase(&held), reason(&held).as_deref()), ("Pending", Some("AppArmor")));
            let message = held.status.as_ref().unwrap().message.clone().unwrap();
            assert_eq!(message, "Cannot enforce AppArmor: AppArmor is not enabled on the host");
            let waiting = containers(&held)[0].state.clone().unwrap().waiting.unwrap();
            assert_eq!(waiting.reason.as_deref(), Some("Blocked"));
        }
        lab.delete("a.json");
        lab.gone("a").await;
    })
    .await;
}

//! What concerns all pods of a node: where manifests come from, what classes of pods weigh, how pods end with the
//! machine.

use super::{lab, pod, shell};
use lab::{Lab, eventually, is_ready};
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A web server that answers every request with what the sender says.
async fn serve(body: watch::Receiver<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/pods", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _length = stream.read(&mut head).await.unwrap();
            let body = body.borrow().clone();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_come_from_a_web_server_too() {
    let spec =
        json!({"terminationGracePeriodSeconds": 0, "containers": [shell("c", "echo served; sleep 1000")]});
    let list =
        |items: serde_json::Value| json!({"apiVersion": "v1", "kind": "PodList", "items": items}).to_string();
    let (answer, body) = watch::channel(list(json!([pod("served", spec)])));
    let url = serve(body).await;
    lab::with_settings(
        |kubelet| kubelet.manifest_url = Some(url),
        async |lab: &mut Lab| {
            let served = lab.pod_when("served", is_ready).await;
            lab.log_is(&served, "c", "served\n").await;
            let source = served.metadata.annotations.unwrap().remove("kubernetes.io/config.source");
            assert_eq!(source.as_deref(), Some("http"));
            answer.send_replace(list(json!([])));
            lab.gone("served").await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_of_pods_weigh_what_they_request() {
    let settings = |kubelet: &mut knarr_agent::config::KubeletConfig| {
        kubelet.system_reserved.insert("cpu".into(), "500m".into());
        kubelet.pod_pids_limit = Some(77);
    };
    lab::with_settings(settings, async |lab: &mut Lab| {
        let mut container = shell("c", "sleep 1000");
        container["resources"] = json!({"requests": {"cpu": "250m"}});
        let spec = |container| json!({"terminationGracePeriodSeconds": 0, "containers": [container]});
        lab.write("a.json", pod("a", spec(container)));
        lab.write("b.json", pod("b", spec(shell("c", "sleep 1000"))));
        lab.pod_when("a", is_ready).await;
        let best = lab.pod_when("b", is_ready).await;
        let root = lab.config.kubelet.cgroup_root.clone();
        let read = |cgroup: &str, file: &str| read_below(&root, cgroup, file);
        let weighs = |cgroup: &str, shares: &str, weight: &str| {
            let found = read(cgroup, "cpu.shares").map_or_else(|| read(cgroup, "cpu.weight"), Some);
            let fits = found.as_deref() == Some(shares) || found.as_deref() == Some(weight);
            fits.then_some(()).ok_or(found)
        };
        let right = async || {
            (weighs("/burstable", "256", "10").is_ok() && weighs("/besteffort", "2", "1").is_ok())
                .then_some(())
        };
        assert!(eventually(right).await.is_some(), "{:?}", weighs("/burstable", "256", "10"));
        let uid = best.metadata.uid.unwrap();
        assert_eq!(read(&format!("/besteffort/pod{uid}"), "pids.max").as_deref(), Some("77"));
        let capacity = std::thread::available_parallelism().unwrap().get();
        let shares = (capacity * 1000 - 500) * 1024 / 1000;
        assert!(weighs("", &shares.to_string(), &(1 + (shares - 2) * 9999 / 262_142).to_string()).is_ok());
    })
    .await;
}

/// A file of the cgroup of all pods, or of one below it, in whichever hierarchy has it.
fn read_below(root: &str, cgroup: &str, file: &str) -> Option<String> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
    let all = hierarchies.chain([std::path::PathBuf::from("/sys/fs/cgroup")]);
    let mut paths =
        all.map(|path| path.join(format!("{}/kubepods{cgroup}/{file}", root.trim_start_matches('/'))));
    paths.find_map(|path| std::fs::read_to_string(path).ok()).map(|text| text.trim().to_owned())
}

/// What a pod asks for as a whole bounds its cgroup, and each of its containers that says nothing of its own.
#[tokio::test(flavor = "multi_thread")]
async fn containers_share_what_their_pod_asks_for() {
    lab::with(async |lab| {
        let mut own = shell("own", "sleep 1000");
        own["resources"] = json!({"limits": {"memory": "16Mi"}});
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [own, shell("shares", "sleep 1000")],
            "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}}});
        lab.write("a.json", pod("a", spec));
        let pod = lab.pod_when("a", is_ready).await;
        let status = pod.status.as_ref().unwrap();
        assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
        let uid = pod.metadata.uid.as_deref().unwrap();
        let read = |cgroup: &str, file: &str| {
            read_below(&lab.config.kubelet.cgroup_root, &format!("/burstable/pod{uid}{cgroup}"), file)
        };
        let memory = |cgroup: &str| {
            let limit = read(cgroup, "memory.limit_in_bytes").or_else(|| read(cgroup, "memory.max"));
            limit.and_then(|limit| limit.parse::<u64>().ok()).map(|bytes| bytes >> 20)
        };
        let shares = read("", "cpu.shares").or_else(|| read("", "cpu.weight"));
        assert!(["256", "10"].contains(&shares.as_deref().unwrap()), "{shares:?}");
        assert_eq!(memory(""), Some(64));
        for (name, limit) in [("own", 16), ("shares", 64)] {
            let statuses = status.container_statuses.as_ref().unwrap();
            let found = statuses.iter().find(|status| status.name == name).unwrap();
            let (_, id) = found.container_id.as_deref().unwrap().split_once("://").unwrap();
            assert_eq!(memory(&format!("/{id}")), Some(limit), "{name}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_end_with_the_machine_in_order() {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let settings = |kubelet: &mut knarr_agent::config::KubeletConfig| {
        kubelet.shutdown_grace_period_seconds = 20;
        kubelet.shutdown_grace_period_critical_pods_seconds = 10;
    };
    lab::with_settings(settings, async |lab: &mut Lab| {
        let script = "trap 'echo bye >> /out/said; exit 0' TERM; touch /out/up; while :; do sleep 0.1; done";
        let mut container = shell("c", script);
        container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
        let volume = json!([{"name": "out", "hostPath": {"path": directory.path()}}]);
        lab.write("a.json", pod("a", json!({"containers": [container], "volumes": volume})));
        lab.pod_when("a", is_ready).await;
        let up = directory.path().join("up");
        assert!(eventually(async || up.exists().then_some(())).await.is_some(), "the shell has its trap");
        lab.restart().await;
        assert_eq!(std::fs::read_to_string(directory.path().join("said")).unwrap(), "bye\n");
        // The manifest still wants it: the next agent starts it anew.
        lab.pod_when("a", is_ready).await;
    })
    .await;
}

//! The kubelet API and the streaming server behind it, as real clients use them: kubectl over SPDY (1.29) and over
//! WebSocket (1.32) through a stand-in for the API server that only rewrites paths, and plain requests for the rest.

// A test may panic, and so may what it is made of; clippy's own exception covers only the test functions.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "kubelet_api/front.rs"]
mod front;
#[allow(dead_code)] // Shared with the engine's tests, which use all of it.
#[path = "engine_pods/lab.rs"]
mod lab;

use front::{Front, KUBECTLS};
use knarr_cri::v1::*;
use std::time::Duration;

const NAMES: [(&str, &str); 4] = [
    ("io.kubernetes.pod.namespace", "default"),
    ("io.kubernetes.pod.name", "p"),
    ("io.kubernetes.pod.uid", "p-uid"),
    ("io.kubernetes.container.name", "c"),
];

/// A pod `default/p` with a container `c`, as a kubelet would have labelled them.
async fn run(lab: &lab::Lab, mut container: ContainerConfig) -> (String, String) {
    let mut pod = lab.pod("p");
    pod.labels = NAMES[..3].iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    pod.linux
        .as_mut()
        .unwrap()
        .security_context
        .as_mut()
        .unwrap()
        .namespace_options
        .as_mut()
        .unwrap()
        .network = NamespaceMode::Pod as i32;
    let sandbox = lab.run_pod(pod).await.unwrap();
    container.labels = NAMES.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let id = lab.run(&sandbox, container).await;
    (sandbox, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_execs() {
    lab::with(async |lab| {
        run(&lab, lab.container("c", &["sleep", "1000"])).await;
        let front = Front::start(&lab).await;
        for kubectl in KUBECTLS {
            let out = front.kubectl(kubectl, &["exec", "p", "--", "echo", "hi"]).await;
            assert_eq!((out.code, out.stdout.as_str()), (0, "hi\n"), "{kubectl}: {out:?}");
            let out = front
                .kubectl(kubectl, &["exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 3"])
                .await;
            assert_eq!((out.code, out.stdout.as_str()), (3, "out\n"), "{kubectl}: {out:?}");
            assert!(
                out.stderr.contains("err\n") && out.stderr.contains("command terminated with exit code 3")
            );
            let out = front.kubectl(kubectl, &["exec", "p", "--", "/no/such"]).await;
            assert!(out.code != 0 && out.stderr.contains("/no/such"), "{kubectl}: {out:?}");
            let out = front.kubectl(kubectl, &["exec", "p", "-c", "missing", "--", "true"]).await;
            assert!(out.stderr.contains("container not found (\"missing\")"), "{kubectl}: {out:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_passes_byte_for_byte_and_ends() {
    lab::with(async |lab| {
        run(&lab, lab.container("c", &["sleep", "1000"])).await;
        let front = Front::start(&lab).await;
        let data: Vec<u8> = (0..20_000_000_u32).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
        for kubectl in KUBECTLS {
            let out = front.kubectl_with(kubectl, &["exec", "-i", "p", "--", "cat"], data.clone()).await;
            assert_eq!(out.code, 0, "{kubectl}: {}", String::from_utf8_lossy(&out.stderr));
            assert!(out.stdout == data, "{kubectl}: {} bytes", out.stdout.len());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_clients_size() {
    lab::with(async |lab| {
        run(&lab, lab.container("c", &["sleep", "1000"])).await;
        let front = Front::start(&lab).await;
        for kubectl in KUBECTLS {
            // The size comes beside the input, not before it.
            let typed = "until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done; tty; exit 4\n";
            let said = front.kubectl_in_terminal(kubectl, "exec -it p -- sh", typed, (101, 33)).await;
            assert!(said.contains("/dev/pts/") && said.contains("exit code 4"), "{kubectl}: {said}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_attaches() {
    lab::with(async |lab| {
        let mut container =
            lab.container("c", &["sh", "-c", "while read x; do echo got $x; done; sleep 1000"]);
        (container.stdin, container.stdin_once) = (true, false);
        run(&lab, container).await;
        let front = Front::start(&lab).await;
        for kubectl in KUBECTLS {
            let said = front.kubectl_until(kubectl, &["attach", "-i", "p"], b"hello\n", "got hello").await;
            assert!(said.contains("got hello"), "{kubectl}: {said}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_forwards_ports() {
    lab::with(async |lab| {
        let script = "mkdir -p /tmp/w; echo served > /tmp/w/index.html; httpd -f -p 127.0.0.1:8080 -h /tmp/w";
        run(&lab, lab.container("c", &["sh", "-c", script])).await;
        let front = Front::start(&lab).await;
        let listens = "until grep -q :1F90 /proc/net/tcp; do sleep 0.1; done";
        let out = front.kubectl(KUBECTLS[0], &["exec", "p", "--", "sh", "-c", listens]).await;
        assert_eq!(out.code, 0, "{out:?}");
        for kubectl in KUBECTLS {
            let bodies = front.forwarded(kubectl, 8080, 5).await;
            assert_eq!(bodies, vec!["served\n"; 5], "{kubectl}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_and_followed() {
    lab::with(async |lab| {
        let script =
            "for i in 1 2 3; do echo line $i; done; sleep 0.5; echo line 4; sleep 0.5; echo oops >&2";
        let (_, id) = run(&lab, lab.container("c", &["sh", "-c", script])).await;
        let front = Front::start(&lab).await;
        let followed = front.get("/containerLogs/default/p/c?follow=true").await;
        assert_eq!(followed.1.lines().count(), 5, "{followed:?}");
        lab.ended(&id).await;
        assert_eq!(front.get("/containerLogs/default/p/c?tailLines=2").await.1, "line 4\noops\n");
        assert_eq!(front.get("/containerLogs/default/p/c?limitBytes=6").await.1, "line 1");
        assert_eq!(front.get("/containerLogs/default/p/c?sinceTime=2100-01-01T00:00:00Z").await.1, "");
        let stamped = front.get("/containerLogs/default/p/c?timestamps=true&tailLines=1").await.1;
        assert!(stamped.ends_with("Z oops\n") && stamped.len() > 30, "{stamped}");
        let out = front.kubectl("1.32", &["logs", "p", "--tail=1"]).await;
        assert_eq!(out.stdout, "oops\n", "{out:?}");
        let missing = front.get("/containerLogs/default/p/c?previous=true").await;
        let text = "previous terminated container \"c\" in pod \"p\" not found";
        assert_eq!((missing.0, missing.1.as_str()), (400, text));
        assert_eq!(
            front.get("/containerLogs/default/absent/c").await,
            (404, "pod does not exist".to_owned())
        );
        assert_eq!(front.get("/containerLogs/default/p/x").await.0, 404);
        assert_eq!(front.get("/containerLogs/default/p/c?tailLines=x").await.0, 400);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_survives_rotation() {
    lab::with(async |lab| {
        let mut container = lab.container("c", &["sh", "-c", "while read x; do echo $x; done"]);
        (container.stdin, container.stdin_once) = (true, true);
        let (_, id) = run(&lab, container).await;
        let front = Front::start(&lab).await;
        let mut session = knarr_agent::engine::stream_target::StreamTarget::attach_session(&*lab.engine, &id)
            .await
            .unwrap();
        session.stdin.send(b"before\n".to_vec()).await.unwrap();
        session.output.recv().await.unwrap();
        let follower = tokio::spawn(front.get_owned("/containerLogs/default/p/c?follow=true"));
        let log = lab.path("logs/c.log");
        lab.eventually(async || std::fs::read_to_string(&log).unwrap().contains("before").then_some(()))
            .await;
        lab.eventually(async || front::has_open(&log).then_some(())).await;
        std::fs::rename(&log, lab.path("logs/c.log.1")).unwrap();
        let request = ReopenContainerLogRequest { container_id: id.clone() };
        knarr_cri::RuntimeService::reopen_container_log(&*lab.engine, request).await.unwrap();
        session.stdin.send(b"after\n".to_vec()).await.unwrap();
        drop(session.stdin);
        let followed = tokio::time::timeout(Duration::from_secs(120), follower).await.unwrap().unwrap();
        assert_eq!(followed.1, "before\nafter\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_measured_where_a_container_has_them() {
    lab::with(async |lab| {
        let mut container = lab.container("c", &["sleep", "1000"]);
        let host = lab.path("claimed");
        std::fs::create_dir_all(&host).unwrap();
        container.mounts = vec![Mount {
            container_path: "/data".into(),
            host_path: host.to_string_lossy().into_owned(),
            ..Default::default()
        }];
        run(&lab, container).await;
        let front = Front::start(&lab).await;
        let summary: serde_json::Value = serde_json::from_str(&front.get("/stats/summary").await.1).unwrap();
        let volume = &summary["pods"][0]["volume"][0];
        assert_eq!(volume["name"], "data", "{summary}");
        assert_eq!(volume["pvcRef"], serde_json::json!({"name": "wanted", "namespace": "default"}));
        let capacity = volume["capacityBytes"].as_u64().unwrap();
        assert!(capacity > volume["usedBytes"].as_u64().unwrap(), "{volume}");
        let own = front.get("/metrics").await.1;
        let row =
            "kubelet_volume_stats_capacity_bytes{namespace=\"default\",persistentvolumeclaim=\"wanted\"}";
        assert!(own.contains(&format!("{row} {capacity}\n")), "{own}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_small_questions_are_answered() {
    lab::with(async |lab| {
        run(&lab, lab.container("c", &["sleep", "1000"])).await;
        let front = Front::start(&lab).await;
        assert_eq!(front.get("/healthz").await, (200, "ok".to_owned()));
        let pods: serde_json::Value = serde_json::from_str(&front.get("/pods").await.1).unwrap();
        assert_eq!((&pods["kind"], &pods["items"][0]["metadata"]["name"]), (&"PodList".into(), &"p".into()));
        let running: serde_json::Value = serde_json::from_str(&front.get("/runningpods/").await.1).unwrap();
        assert_eq!(running["items"][0]["spec"]["containers"][0]["name"], "c");
        let metrics = front.get("/metrics/resource").await.1;
        assert!(
            metrics.contains(
                "container_memory_working_set_bytes{container=\"c\",namespace=\"default\",pod=\"p\"} "
            ),
            "{metrics}"
        );
        let summary: serde_json::Value = serde_json::from_str(&front.get("/stats/summary").await.1).unwrap();
        assert_eq!(summary["pods"][0]["podRef"]["name"], "p");
        for place in [
            "/node/startTime",
            "/node/fs/capacityBytes",
            "/node/runtime/imageFs/availableBytes",
            "/node/memory/rssBytes",
            "/node/rlimit/curproc",
            "/pods/0/memory/workingSetBytes",
            "/pods/0/process_stats/process_count",
            "/pods/0/ephemeral-storage/usedBytes",
            "/pods/0/containers/0/cpu/usageCoreNanoSeconds",
            "/pods/0/containers/0/rootfs/capacityBytes",
            "/pods/0/containers/0/logs/usedBytes",
        ] {
            assert!(summary.pointer(place).is_some(), "{place} is not in {summary}");
        }
        let cadvisor = front.get("/metrics/cadvisor").await.1;
        assert!(cadvisor.contains("container_memory_working_set_bytes{container=\"c\",id=\""), "{cadvisor}");
        let own = front.get("/metrics").await.1;
        for line in
            ["kubelet_running_pods 1\n", "kubelet_running_containers{container_state=\"running\"} 1\n"]
        {
            assert!(own.contains(line), "{line} is not in:\n{own}");
        }
        assert_eq!(front.get("/metrics/probes").await.0, 200);
        let config: serde_json::Value = serde_json::from_str(&front.get("/configz").await.1).unwrap();
        assert_eq!(config["kubeletconfig"]["containerLogMaxFiles"], 5);
        assert!(front.get("/logs/").await.1.contains("c.log"), "{:?}", front.get("/logs/").await);
        assert_eq!(front.get("/logs/c.log").await.0, 200);
        assert_eq!(front.get("/logs/absent").await.0, 404);
        assert!(matches!(front.get("/logs/../../../etc/passwd").await.0, 403 | 404));
        assert_eq!(front.get("/checkpoint/default/p/c").await.0, 404, "only POST");
        assert_eq!(front.get("/no/such").await.0, 404);
        assert_eq!(front.get("/exec/default/p/c?command=true").await.0, 400);
    })
    .await;
}

/// Who scrapes the second port learns what runs and how much it uses; what reaches into a container is not there.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_read_what_harms_nobody() {
    lab::with(async |lab| {
        run(&lab, lab.container("c", &["sleep", "1000"])).await;
        let front = Front::start(&lab).await;
        assert_eq!(front.get_read_only("/healthz").await, (200, "ok".to_owned()));
        for (path, part) in [
            ("/pods", "\"PodList\""),
            ("/stats/summary", "\"workingSetBytes\""),
            ("/metrics", "kubelet_running_pods 1"),
            ("/metrics/resource", "container_memory_working_set_bytes"),
            ("/metrics/cadvisor", "container_memory_working_set_bytes"),
        ] {
            let (code, body) = front.get_read_only(path).await;
            assert!(code == 200 && body.contains(part), "{path}: {code} {body}");
        }
        for path in [
            "/configz",
            "/logs/",
            "/runningpods/",
            "/containerLogs/default/p/c",
            "/exec/default/p/c?command=id",
        ] {
            assert_ne!(front.get(path).await.0, 404, "{path} is there for those who may");
            assert_eq!(front.get_read_only(path).await.0, 404, "{path}");
        }
        for path in ["/run/default/p/c?cmd=id", "/checkpoint/default/p/c", "/pods"] {
            assert_eq!(front.post_read_only(path).await.0, 404, "{path}");
        }
    })
    .await;
}

//! Probes of every kind, and hooks that are requests, against real servers: the pods are on the host's network, the
//! servers are this test's.

use super::{lab, pod, shell};
use crate::listener::{Heads, Health, secure_web, web};
use lab::{Lab, containers, eventually, is_ready};
use serde_json::{Value, json};

fn probed(name: &str, probe: &Value) -> Value {
    let mut container = shell(name, "sleep 1000");
    container["readinessProbe"] = probe.clone();
    container["readinessProbe"]["periodSeconds"] = json!(1);
    container["readinessProbe"]["timeoutSeconds"] = json!(20);
    container["readinessProbe"]["failureThreshold"] = json!(1);
    container
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_of_every_kind_reach_their_servers() {
    let (plain, secret) = (Heads::default(), Heads::default());
    let (health, grpc) = Health::serve().await;
    let (http, https) = (web(plain.clone()).await, secure_web(secret.clone()).await);
    lab::with(async |lab: &mut Lab| {
        let headers = json!([{"name": "X-Token", "value": "t"}, {"name": "Host", "value": "named.example"}]);
        let spec = json!({"hostNetwork": true, "terminationGracePeriodSeconds": 0, "containers": [
            probed("grpc", &json!({"grpc": {"port": grpc, "service": "knarr"}})),
            probed("http", &json!({"httpGet": {"port": http, "path": "/well?a=b", "httpHeaders": headers}})),
            probed("https", &json!({"httpGet": {"port": https, "path": "/secret", "scheme": "HTTPS"}})),
            probed("tcp", &json!({"tcpSocket": {"port": http}})),
            probed("unknown", &json!({"grpc": {"port": grpc, "service": "other"}}))]});
        lab.write("p.json", pod("p", spec));
        let unready = |pod: &k8s_openapi::api::core::v1::Pod| {
            let statuses = containers(pod).into_iter();
            statuses.filter(|status| !status.ready).map(|status| status.name).collect::<Vec<_>>()
        };
        lab.pod_when("p", |pod| !containers(pod).is_empty() && unready(pod) == ["unknown"]).await;
        assert!(plain.some_has(&[
            "get /well?a=b http/1.1",
            "x-token: t",
            "host: named.example",
            "user-agent: kube-probe/"
        ]));
        assert!(secret.some_has(&["get /secret http/1.1"]));
        health.fail();
        lab.pod_when("p", |pod| unready(pod) == ["grpc", "unknown"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_may_be_requests_and_pauses() {
    let heads = Heads::default();
    let port = web(heads.clone()).await;
    lab::with(async |lab: &mut Lab| {
        let ask = |path: &str| {
            json!({"httpGet": {"port": port, "host": "127.0.0.1", "path": path,
            "httpHeaders": [{"name": "X-Why", "value": "hook"}]}})
        };
        let mut asking = shell("asking", "sleep 1000");
        asking["lifecycle"] = json!({"postStart": ask("/begun"), "preStop": ask("/ending")});
        let out = lab.path("out");
        let mut pausing = shell(
            "pausing",
            "trap 'echo term >> /out/said; exit 0' TERM; touch /out/up; while :; do sleep 0.1; done",
        );
        pausing["lifecycle"] =
            json!({"postStart": {"sleep": {"seconds": 1}}, "preStop": {"sleep": {"seconds": 1}}});
        pausing["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
        let spec = json!({"terminationGracePeriodSeconds": 20, "containers": [asking, pausing],
            "volumes": [{"name": "out", "hostPath": {"path": out, "type": "DirectoryOrCreate"}}]});
        lab.write("p.json", pod("p", spec));
        lab.pod_when("p", is_ready).await;
        assert!(heads.some_has(&["get /begun http/1.1", "x-why: hook"]));
        assert!(!heads.some_has(&["get /ending"]));
        let up = out.join("up");
        assert!(eventually(async || up.exists().then_some(())).await.is_some(), "the shell has its trap");
        lab.delete("p.json");
        lab.gone("p").await;
        assert!(heads.some_has(&["get /ending http/1.1", "x-why: hook"]));
        assert_eq!(std::fs::read_to_string(out.join("said")).unwrap(), "term\n");
    })
    .await;
}

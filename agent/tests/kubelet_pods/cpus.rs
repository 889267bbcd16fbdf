//! Processors of a container's own, on a machine that has at least two.

use super::{lab, pod, shell};
use knarr_cri::pod_resources::ListPodResourcesRequest;
use lab::{Lab, eventually, is_ready, phase};
use serde_json::{Value, json};

fn with_cpus(name: &str, cpu: &str) -> Value {
    let mut container = shell("c", "while :; do grep Cpus_allowed_list /proc/self/status; sleep 1; done");
    container["resources"] = json!({"limits": {"cpu": cpu, "memory": "32Mi"}});
    pod(name, json!({"terminationGracePeriodSeconds": 0, "containers": [container]}))
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_processors_belong_to_one_container() {
    let all = std::thread::available_parallelism().unwrap().get();
    assert!(all > 1, "no machine of ours has one processor only");
    let settings = |kubelet: &mut knarr_agent::config::KubeletConfig| {
        kubelet.cpu_manager_policy = "static".into();
        kubelet.system_reserved.insert("cpu".into(), "500m".into());
    };
    lab::with_settings(settings, async |lab: &mut Lab| {
        lab.write("shares.json", with_cpus("shares", "100m"));
        lab.pod_when("shares", is_ready).await;
        lab.write("own.json", with_cpus("own", "1"));
        let own = lab.pod_when("own", is_ready).await;
        let state = || -> Value {
            let text = std::fs::read(lab.path("data/kubelet/cpu_manager_state")).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let mine = state()["entries"][own.metadata.uid.as_deref().unwrap()]["c"].as_str().unwrap().to_owned();
        let rest = state()["defaultCpuSet"].as_str().unwrap().to_owned();
        assert!(!mine.is_empty() && mine != rest, "{}", state());
        let mut resources = super::devices::resources(lab);
        let listed = resources.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources;
        let alone = |name: &str| {
            let pod = listed.iter().find(|pod| pod.name.starts_with(name)).unwrap();
            pod.containers[0].cpu_ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
        };
        assert_eq!((alone("own"), alone("shares")), (mine.clone(), String::new()));
        let last = |pod: &k8s_openapi::api::core::v1::Pod| {
            let log = lab.log(pod, "c", 0);
            log.lines().last().and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned()
        };
        assert!(
            eventually(async || (last(&own) == mine).then_some(())).await.is_some(),
            "{} {mine}",
            last(&own)
        );
        let shares = lab.pod("shares").unwrap();
        let moved = eventually(async || (last(&shares) == rest).then_some(())).await;
        assert!(moved.is_some(), "{} {rest}", last(&shares));
        lab.write("more.json", with_cpus("more", &all.to_string()));
        let refused = lab.pod_when("more", |pod| phase(pod) == "Failed").await.status.unwrap();
        assert!(refused.reason.is_some(), "{refused:?}");
        lab.delete("own.json");
        lab.gone("own").await;
        let back = eventually(async || (last(&shares) != rest).then_some(())).await;
        assert!(back.is_some(), "{}", last(&shares));
    })
    .await;
}

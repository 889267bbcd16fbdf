//! Steps and statuses as tables, and a simulated roll-out under random trouble.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn set(replicas: i32, extra: Value) -> StatefulSet {
    let mut spec = json!({"replicas": replicas, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "s"}, "spec": spec}))
        .unwrap()
}

fn pod(ordinal: i32, revision: &str, state: &str) -> Arc<Pod> {
    let ready = if state == "ready" { "True" } else { "False" };
    let phase = match state {
        "ready" | "dying" | "unready" => "Running",
        other => other,
    };
    let name = format!("web-{ordinal}");
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {
            "controller-revision-hash": revision, "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": ordinal.to_string()}},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    if state == "dying" {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn world(set: &StatefulSet, pods: Vec<Arc<Pod>>) -> World<'_> {
    let now = "2026-01-01T01:00:00Z".parse().unwrap();
    World::of(set, set.spec.as_ref().unwrap(), ("old".into(), "new".into()), pods, now)
}

/// Steps as words: `+0new`, `-2`, `claims 1`.
fn steps(set: &StatefulSet, pods: Vec<Arc<Pod>>) -> Vec<String> {
    let ordinal = |pod: &Pod| template::ordinal_of(set, pod).unwrap();
    let word = |step: Step| match step {
        Step::Create { ordinal, revision } => format!("+{ordinal}{revision}"),
        Step::Delete(pod) => format!("-{}", ordinal(&pod)),
        Step::Claims(pod) => format!("claims {}", ordinal(&pod)),
        Step::Identify(pod) => format!("labels {}", ordinal(&pod)),
    };
    world(set, pods).steps().into_iter().map(word).collect()
}

#[test]
fn one_step_at_a_time_in_order() {
    let set = set(3, json!({}));
    let ready = |ordinal| pod(ordinal, "new", "ready");
    let cases: Vec<(Vec<Arc<Pod>>, Vec<&str>)> = vec![
        (vec![], vec!["+0new"]),
        (vec![pod(0, "new", "Pending")], vec!["claims 0"]),
        (vec![pod(0, "new", "unready")], vec![]),
        (vec![ready(0)], vec!["+1new"]),
        (vec![ready(0), pod(1, "new", "dying")], vec![]),
        (vec![pod(0, "new", "Failed"), ready(1)], vec!["-0"]),
        (vec![ready(0), ready(1), ready(2)], vec![]),
        (vec![ready(0), ready(1), ready(2), ready(3), ready(4)], vec!["-4"]),
        (vec![ready(0), ready(1), ready(2), ready(3), pod(4, "new", "dying")], vec![]),
        (vec![ready(0), ready(1), ready(2), pod(3, "new", "unready"), ready(4)], vec!["-4"]),
        (vec![ready(0), ready(1), ready(2), pod(3, "new", "unready"), pod(4, "new", "unready")], vec![]),
    ];
    for (pods, expected) in cases {
        let names: Vec<String> = pods.iter().map(|pod| pod.name_any()).collect();
        assert_eq!(steps(&set, pods), expected, "{names:?}");
    }
}

#[test]
fn parallel_sets_do_all_at_once() {
    let set = set(3, json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(steps(&set, vec![]), ["+0new", "+1new", "+2new"]);
    let pods = vec![pod(0, "new", "unready"), pod(3, "new", "ready"), pod(4, "new", "ready")];
    assert_eq!(steps(&set, pods), ["+1new", "+2new", "-4", "-3"]);
}

#[test]
fn updates_go_down_to_the_partition() {
    let ready = |ordinal, revision| pod(ordinal, revision, "ready");
    let plain = set(3, json!({}));
    assert_eq!(steps(&plain, vec![ready(0, "old"), ready(1, "old"), ready(2, "old")]), ["-2"]);
    assert_eq!(steps(&plain, vec![ready(0, "old"), ready(1, "old"), ready(2, "new")]), ["-1"]);
    assert_eq!(
        steps(&plain, vec![ready(0, "old"), ready(1, "old"), pod(2, "new", "unready")]),
        Vec::<String>::new()
    );
    let parted =
        set(3, json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}));
    assert_eq!(steps(&parted, vec![ready(0, "old"), ready(1, "old"), ready(2, "new")]), Vec::<String>::new());
    assert_eq!(steps(&parted, vec![ready(0, "old")]), ["+1old"]);
    assert_eq!(steps(&parted, vec![ready(0, "old"), ready(1, "old")]), ["+2new"]);
    let by_hand = set(2, json!({"updateStrategy": {"type": "OnDelete"}}));
    assert_eq!(steps(&by_hand, vec![ready(0, "old"), ready(1, "old")]), Vec::<String>::new());
    assert_eq!(steps(&by_hand, vec![ready(0, "old")]), ["+1new"]);
}

#[test]
fn an_update_may_take_several_at_once() {
    let update = |most: Value, pods: Vec<Arc<Pod>>| {
        let strategy =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": most, "partition": 1}});
        steps(&set(4, json!({"podManagementPolicy": "Parallel", "updateStrategy": strategy})), pods)
    };
    let old = |ordinal| pod(ordinal, "old", "ready");
    let all = || vec![old(0), old(1), old(2), old(3)];
    assert_eq!(update(json!(2), all()), ["-3", "-2"]);
    assert_eq!(update(json!("75%"), all()), ["-3", "-2", "-1"], "but for those below the partition");
    assert_eq!(update(json!("10%"), all()), ["-3"]);
    let under_way = vec![old(0), old(1), old(2), pod(3, "new", "unready")];
    assert_eq!(update(json!(2), under_way.clone()), ["-2"]);
    assert_eq!(update(json!(1), under_way), [""; 0]);
}

#[test]
fn ordinals_may_start_elsewhere() {
    let set = set(2, json!({"ordinals": {"start": 5}}));
    assert_eq!(steps(&set, vec![]), ["+5new"]);
    assert_eq!(
        steps(&set, vec![pod(5, "new", "ready"), pod(6, "new", "ready"), pod(0, "new", "ready")]),
        ["-0"]
    );
}

#[test]
fn an_update_is_done_when_all_are_new_and_ready() {
    let set = set(2, json!({}));
    let status = world(&set, vec![pod(0, "old", "ready"), pod(1, "new", "ready")]).status();
    assert_eq!(status.current_revision.as_deref(), Some("old"));
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(1), Some(1)));
    let status = world(&set, vec![pod(0, "new", "ready"), pod(1, "new", "ready")]).status();
    assert_eq!((status.current_revision.as_deref(), status.current_replicas), (Some("new"), Some(2)));
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (2, Some(2), Some(2)));
}

#[test]
fn pods_carry_names_hosts_and_claims() {
    let template = json!([{"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    let set = set(1, json!({"volumeClaimTemplates": template}));
    let pod = template::pod(&set, set.spec.as_ref().unwrap().template.clone(), "web-abc", 4);
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("web-4"), Some("web")));
    assert_eq!(pod.labels()["controller-revision-hash"], "web-abc");
    let volume = &spec.volumes.as_ref().unwrap()[0];
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "www-web-4");
    let claim = &super::super::claims::of(&set, 4)[0];
    assert_eq!((claim.name_any().as_str(), claim.labels()["app"].as_str()), ("www-web-4", "web"));
    assert!(claim.owner_references().is_empty());
}

proptest! {
    /// Whatever state pods are in, an ordered set with one step taken at a time and pods that recover comes to rest
    /// with exactly the pods asked for, all new, and never has two pods of the update down at once.
    #[test]
    fn every_beginning_ends_well(replicas in 0..6_i32, states in proptest::collection::vec(0..6_usize, 0..8), parallel: bool) {
        let words = ["absent", "ready", "unready", "Pending", "Failed", "dying"];
        let policy = if parallel { "Parallel" } else { "OrderedReady" };
        let set = set(replicas, json!({"podManagementPolicy": policy}));
        let mut pods: BTreeMap<i32, (String, &str)> = states.iter().enumerate()
            .filter(|(_, state)| **state > 0)
            .map(|(at, state)| (at as i32, ("old".to_owned(), words[*state]))).collect();
        for _ in 0..200 {
            let present = pods.iter().map(|(at, (revision, state))| pod(*at, revision, state)).collect();
            let world = world(&set, present);
            for step in world.steps() {
                match step {
                    Step::Create { ordinal, revision } => { pods.insert(ordinal, (revision, "Pending")); }
                    Step::Delete(pod) => { pods.entry(template::ordinal_of(&set, &pod).unwrap()).and_modify(|pod| pod.1 = "dying"); }
                    Step::Claims(_) | Step::Identify(_) => {}
                }
            }
            // The node does its part: the dying go, the others come up.
            pods.retain(|_, pod| pod.1 != "dying");
            pods.values_mut().filter(|pod| pod.1 != "Failed").for_each(|pod| pod.1 = "ready");
        }
        let wanted: BTreeMap<i32, (String, &str)> = (0..replicas).map(|at| (at, ("new".to_owned(), "ready"))).collect();
        prop_assert_eq!(pods, wanted);
    }
}

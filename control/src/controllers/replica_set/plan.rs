//! What a ReplicaSet does, decided from data alone: which pods count, which go first, what its status says.

use crate::controllers::pods;
use crate::controllers::runner::Next;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// Pods asked for; the default is 1.
pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn min_ready(set: &ReplicaSet) -> SignedDuration {
    SignedDuration::from_secs(set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0).into())
}

/// The `count` pods that go: unassigned before assigned, pending before running, not ready before ready, cheap
/// deletion cost first, doubled-up on a node first, shortest ready first, most restarts first, youngest first.
pub(crate) fn to_delete(
    active: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    let owner = active.first().and_then(|pod| crate::controllers::ownership::controller_of(&pod.metadata));
    for pod in related.iter().filter(|pod| pods::is_active(pod)) {
        let same = crate::controllers::ownership::controller_of(&pod.metadata).map(|o| &o.uid)
            == owner.map(|o| &o.uid);
        if let (true, Some(node)) = (same, pods::node_of(pod)) {
            *on_node.entry(node).or_default() += 1;
        }
    }
    let mut ranked: Vec<Arc<Pod>> = active.to_vec();
    ranked.sort_by_cached_key(|pod| {
        let node = pods::node_of(pod);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
        let phase_rank =
            ["Pending", "Unknown", "Running"].iter().position(|known| *known == phase).unwrap_or(1);
        let crowding = node.and_then(|node| on_node.get(node)).copied().unwrap_or(0);
        let ready_for = pods::ready_since(pod).map(|since| now.duration_since(since).as_secs());
        let created = pod.creation_timestamp().map(|Time(at)| at);
        (
            node.is_some(),
            phase_rank,
            ready_for.is_some(),
            deletion_cost(pod),
            Reverse(crowding),
            ready_for.unwrap_or(0),
            Reverse(pods::restarts(pod)),
            Reverse(created),
        )
    });
    ranked.truncate(count);
    ranked
}

fn deletion_cost(pod: &Pod) -> i32 {
    let cost = pod.annotations().get("controller.kubernetes.io/pod-deletion-cost");
    cost.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The status these pods make.
pub(super) fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    failure: Option<String>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let template =
        set.spec.as_ref().and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.clone());
    let labelled =
        |pod: &Pod| template.iter().flatten().all(|(key, value)| pod.labels().get(key) == Some(value));
    let wait = min_ready(set);
    let available = |pod: &Pod| pods::ready_since(pod).is_some_and(|since| now.duration_since(since) >= wait);
    let old = set.status.as_ref();
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: Some(count(&labelled)),
        ready_replicas: Some(count(&|pod| pods::ready_since(pod).is_some())),
        available_replicas: Some(count(&available)),
        observed_generation: set.metadata.generation,
        conditions: conditions(old, failure, now),
        terminating_replicas: None,
    }
    .without_zeros()
}

/// Zeros are left out of a status, as Go's omitempty does, so that equal statuses compare equal.
trait WithoutZeros {
    fn without_zeros(self) -> Self;
}

impl WithoutZeros for ReplicaSetStatus {
    fn without_zeros(mut self) -> Self {
        for field in
            [&mut self.fully_labeled_replicas, &mut self.ready_replicas, &mut self.available_replicas]
        {
            *field = field.filter(|count| *count != 0);
        }
        self
    }
}

/// `ReplicaFailure` while pods cannot be created or deleted; nothing else.
fn conditions(
    old: Option<&ReplicaSetStatus>,
    failure: Option<String>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let message = failure?;
    let before =
        old.and_then(|status| status.conditions.as_ref()?.iter().find(|c| c.type_ == "ReplicaFailure"));
    // The words of the first failure stay: each one that is written down would be a reason to try again at once.
    Some(vec![before.cloned().unwrap_or_else(|| ReplicaSetCondition {
        type_: "ReplicaFailure".into(),
        status: "True".into(),
        reason: Some("FailedCreate".into()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
    })])
}

/// When a ready pod will become available without anything else changing.
pub(super) fn next_look(set: &ReplicaSet, active: &[Arc<Pod>], now: Timestamp) -> Next {
    pods::next_available(active.iter(), min_ready(set), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn pod(name: &str, node: Option<&str>, phase: &str, ready: bool) -> Arc<Pod> {
        let ready = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "1", "controller": true}]},
                "spec": {"containers": [], "nodeName": node},
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn those_missed_least_go_first() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let active = [
            pod("ready-crowded", Some("a"), "Running", true),
            pod("ready-alone", Some("b"), "Running", true),
            pod("crowded-too", Some("a"), "Running", true),
            pod("not-ready", Some("c"), "Running", false),
            pod("pending", Some("d"), "Pending", false),
            pod("unassigned", None, "Pending", false),
        ];
        let names = |count| -> Vec<String> {
            to_delete(&active, &active, count, now).iter().map(|p| p.name_any()).collect()
        };
        assert_eq!(names(4), ["unassigned", "pending", "not-ready", "ready-crowded"].map(str::to_owned));
        assert_eq!(names(0), Vec::<String>::new());
    }

    #[test]
    fn the_status_counts() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": "rs", "generation": 3},
            "spec": {"replicas": 2, "minReadySeconds": 60, "selector": {}, "template": {"metadata": {}, "spec": {"containers": []}}},
        }))
        .unwrap();
        let now: Timestamp = "2026-01-01T00:00:30Z".parse().unwrap();
        let active = [pod("a", Some("n"), "Running", true), pod("b", Some("n"), "Running", false)];
        let status = status(&set, &active, None, now);
        assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (2, Some(1), None));
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(next_look(&set, &active, now), Next::After(Duration::from_secs(30)));
    }

    #[test]
    fn the_words_of_the_first_failure_stay() {
        let told = |old: Option<&ReplicaSetStatus>, message: &str| {
            let now = "2026-01-01T00:00:00Z".parse().unwrap();
            let conditions = conditions(old, Some(message.to_owned()), now);
            ReplicaSetStatus { conditions, ..ReplicaSetStatus::default() }
        };
        let first = told(None, "pods \"a-1\" is forbidden");
        assert_eq!(told(Some(&first), "pods \"a-2\" is forbidden"), first);
        assert_eq!(conditions(Some(&first), None, Timestamp::now()), None);
    }
}

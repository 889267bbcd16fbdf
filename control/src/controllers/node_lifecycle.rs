//! Nodes that stop reporting: their Ready condition becomes Unknown, they are tainted, and pods that do not tolerate
//! that are evicted after their `tolerationSeconds`.

mod first_seen;
mod heard;
mod outage;
mod pace;

use super::events::{Recorder, Severity};
use super::informer::{Key, Lister};
use super::pods;
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use first_seen::FirstSeen;
use heard::Heard;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use outage::Outage;
use pace::Pace;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A node that neither renewed its lease nor reported its status for so long is not heard of.
const GRACE: SignedDuration = SignedDuration::from_secs(50);
/// How often every node is looked at.
const PERIOD: Duration = Duration::from_secs(5);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that keep new pods away while they hold, and their taints.
const CONDITIONS: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// Woken by its nodes.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("node-lifecycle", plane);
    let controller = NodeLifecycle {
        client: wire.client(),
        nodes: wire.keys(),
        leases: wire.reads(),
        pods: wire.reads(),
        heard: Heard::default(),
        pace: Pace::default(),
        known: Mutex::default(),
        first_seen: FirstSeen::default(),
        recorder: Recorder::new(wire.client(), "node-controller"),
        evictions: Recorder::new(wire.client(), "taint-eviction-controller"),
    };
    wire.run(1, controller)
}

/// Everything one reconcile needs.
pub(crate) struct NodeLifecycle {
    pub(crate) client: Client,
    pub(crate) nodes: Lister<Node>,
    pub(crate) leases: Lister<Lease>,
    pub(crate) pods: Lister<Pod>,
    heard: Heard,
    pace: Pace,
    /// Nodes that events have told of.
    known: Mutex<BTreeSet<String>>,
    first_seen: FirstSeen,
    recorder: Recorder,
    evictions: Recorder,
}

impl Reconcile for NodeLifecycle {
    /// Looks at one node, and again in a while.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(node) = self.nodes.get(&key) else {
            self.forget(&key);
            return Ok(Next::Wait);
        };
        self.welcome(&node);
        let now = Timestamp::now();
        if self.silent_for(&node, now) > GRACE && condition(&node, "Ready") != Some("Unknown") {
            self.mark_unknown(&node, now).await?;
            return Ok(Next::After(Duration::ZERO));
        }
        let (outage, wait) = self.outage(&node, now);
        let wanted = taints(&node, outage, now);
        if wanted.as_slice() != node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
        {
            let patch =
                json!({"metadata": {"resourceVersion": node.resource_version()}, "spec": {"taints": wanted}});
            self.patch_node(&node, patch).await?;
        }
        let next = self.evict(&node, &wanted, now).await?;
        Ok(Next::After(next.min(wait)))
    }
}

impl NodeLifecycle {
    /// Of no interest around a node that is ready. A node that is not may have to wait until it is its turn to lose its
    /// pods; answers when to look again.
    fn outage(&self, node: &Node, now: Timestamp) -> (Outage, Duration) {
        if condition(node, "Ready") == Some("True") {
            return (Outage::None, PERIOD);
        }
        let (outage, interval) = outage::around(node, &self.nodes.all());
        if outage != Outage::None || condition(node, "Ready").is_none() || is_lost(node) {
            return (outage, PERIOD);
        }
        let wait = self.pace.wait(outage::zone_of(node), interval, now);
        if wait.is_zero() {
            return (Outage::None, PERIOD);
        }
        (Outage::OfMany, PERIOD.min(Duration::try_from(wait).unwrap_or(PERIOD)))
    }

    /// Tells, once, that a node is looked after from now on.
    fn welcome(&self, node: &Node) {
        let name = node.name_any();
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            self.recorder.record(node, Severity::Normal, "RegisteredNode", message);
        }
    }

    /// Tells that a node is gone.
    fn forget(&self, key: &Key) {
        if !self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key.name) {
            return;
        }
        let name = &key.name;
        self.first_seen.forget(name);
        self.heard.forget(name);
        let mut gone = Node::default();
        gone.metadata.name = Some(name.clone());
        let message = format!("Node {name} event: Removing Node {name} from Controller");
        self.recorder.record(&gone, Severity::Normal, "RemovingNode", message);
    }

    /// Since the last sign of life: the lease's renewal or the newest heartbeat of a condition.
    fn silent_for(&self, node: &Node, now: Timestamp) -> SignedDuration {
        let lease = self.leases.get(&Key::new("kube-node-lease", &node.name_any()));
        let renewed =
            lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|MicroTime(at)| *at));
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let heartbeats =
            conditions.filter_map(|condition| condition.last_heartbeat_time.as_ref().map(|Time(at)| *at));
        self.heard.silent_for(&node.name_any(), heartbeats.chain(renewed).max(), now)
    }

    async fn mark_unknown(&self, node: &Node, now: Timestamp) -> Result<(), kube::Error> {
        let mut conditions =
            node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        for kind in ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"] {
            match conditions.iter_mut().find(|condition| condition.type_ == kind) {
                Some(condition) => {
                    silence(condition, "NodeStatusUnknown", "Kubelet stopped posting node status.", now)
                }
                None => {
                    let mut condition = NodeCondition {
                        type_: kind.into(),
                        last_heartbeat_time: node.creation_timestamp(),
                        ..NodeCondition::default()
                    };
                    silence(
                        &mut condition,
                        "NodeStatusNeverUpdated",
                        "Kubelet never posted node status.",
                        now,
                    );
                    conditions.push(condition);
                }
            }
        }
        self.mark_pods_not_ready(node, now).await?;
        let message = format!("Node {} status is now: NodeNotReady", node.name_any());
        self.recorder.record(node, Severity::Normal, "NodeNotReady", message);
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = json!({"metadata": {"resourceVersion": node.resource_version()}, "status": {"conditions": conditions}});
        ignore_not_found(
            api.patch_status(&node.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await,
        )
    }

    /// Services must not send traffic to a node that nobody hears of.
    async fn mark_pods_not_ready(&self, node: &Node, now: Timestamp) -> Result<(), kube::Error> {
        for pod in self.pods_on(node) {
            if pods::ready_since(&pod).is_none() {
                continue;
            }
            let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": Time(now)});
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
            let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
            ignore_not_found(api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await)?;
            self.recorder.record(&*pod, Severity::Warning, "NodeNotReady", "Node is not ready".to_owned());
        }
        Ok(())
    }

    fn pods_on(&self, node: &Node) -> Vec<Arc<Pod>> {
        self.pods.on_node(&node.name_any())
    }

    async fn patch_node(&self, node: &Node, patch: serde_json::Value) -> Result<(), kube::Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        ignore_not_found(api.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    /// Deletes pods whose time on a node with NoExecute taints is over; answers when the next one's is.
    async fn evict(&self, node: &Node, taints: &[Taint], now: Timestamp) -> Result<Duration, kube::Error> {
        let mut next = PERIOD;
        let taints = self.first_seen.dated(&node.name_any(), taints, now);
        if taints.is_empty() {
            return Ok(next);
        }
        for pod in self.pods_on(node).into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            match stays_for(&pod, &taints, now) {
                None => {}
                Some(left) if left > SignedDuration::ZERO => {
                    next = next.min(Duration::try_from(left).unwrap_or(PERIOD));
                }
                Some(_) => self.delete(&pod, now).await?,
            }
        }
        Ok(next)
    }

    /// Ends one pod, saying on it and in an event why.
    async fn delete(&self, pod: &Pod, now: Timestamp) -> Result<(), kube::Error> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let message = format!("Marking for deletion Pod {namespace}/{name}");
        self.evictions.record(pod, Severity::Normal, "TaintManagerEviction", message);
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": Time(now)});
        let patch =
            Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}}));
        ignore_not_found(api.patch_status(&name, &PatchParams::default(), &patch).await)?;
        let parameters =
            DeleteParams::default().preconditions(Preconditions { uid: pod.uid(), resource_version: None });
        ignore_not_found(api.delete(&name, &parameters).await)
    }
}

/// Whether pods are leaving the node already.
fn is_lost(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let ours = |taint: &Taint| [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
    taints.iter().any(|taint| taint.effect == "NoExecute" && ours(taint))
}

fn silence(condition: &mut NodeCondition, reason: &str, message: &str, now: Timestamp) {
    condition.status = "Unknown".into();
    condition.reason = Some(reason.into());
    condition.message = Some(message.into());
    condition.last_transition_time = Some(Time(now));
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

/// The taints a node should have: its own, plus ours for not ready, unreachable, cordoned and under pressure. A taint that is
/// there already keeps its time. In an outage nothing is added that drives pods away.
fn taints(node: &Node, outage: Outage, now: Timestamp) -> Vec<Taint> {
    let existing = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let mut wanted: Vec<(&str, &str)> = match condition(node, "Ready") {
        Some("True") => Vec::new(),
        Some("False") => vec![(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")],
        Some(_) => vec![(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")],
        // New: it has not said anything yet.
        None => vec![(NOT_READY, "NoSchedule")],
    };
    wanted.retain(|(key, effect)| match outage {
        Outage::OfMany if *effect == "NoExecute" => {
            existing.iter().any(|taint| taint.key == *key && taint.effect == *effect)
        }
        Outage::OfAll => *effect != "NoExecute",
        Outage::None | Outage::OfMany => true,
    });
    if unschedulable {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let holds = |kind: &str| condition(node, kind) == Some("True");
    wanted.extend(CONDITIONS.into_iter().filter(|(kind, _)| holds(kind)).map(|(_, key)| (key, "NoSchedule")));
    let ours = |taint: &Taint| {
        [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
            || CONDITIONS.iter().any(|(_, key)| *key == taint.key)
    };
    let is_wanted =
        |taint: &Taint| wanted.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect);
    let mut taints: Vec<Taint> =
        existing.into_iter().filter(|taint| !ours(taint) || is_wanted(taint)).collect();
    for (key, effect) in &wanted {
        if !taints.iter().any(|taint| taint.key == *key && taint.effect == *effect) {
            let time_added = (*effect == "NoExecute" || *key != UNSCHEDULABLE).then_some(Time(now));
            taints.push(Taint { key: (*key).into(), effect: (*effect).into(), value: None, time_added });
        }
    }
    taints
}

/// How long a pod may stay under these taints: `None` is for ever. What it tolerates for a while, it tolerates so long
/// from when both were there.
fn stays_for(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<SignedDuration> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let placed = placed_at(pod);
    let mut shortest: Option<SignedDuration> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let added = taint.time_added.as_ref().map_or(now, |Time(at)| *at);
        let since = placed.map_or(added, |placed| placed.max(added));
        let left = match tolerations.iter().find(|toleration| tolerates(toleration, taint)) {
            None => SignedDuration::ZERO,
            Some(Toleration { toleration_seconds: None, .. }) => continue,
            Some(Toleration { toleration_seconds: Some(seconds), .. }) => {
                SignedDuration::from_secs((*seconds).max(0)) - now.duration_since(since)
            }
        };
        shortest = Some(shortest.map_or(left, |shortest| shortest.min(left)));
    }
    shortest
}

/// When a pod came to its node.
fn placed_at(pod: &Pod) -> Option<Timestamp> {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let scheduled = conditions.find(|one| one.type_ == "PodScheduled" && one.status == "True");
    let since = scheduled.and_then(|one| one.last_transition_time.clone());
    since.or_else(|| pod.creation_timestamp()).map(|Time(at)| at)
}

/// Whether a toleration covers a taint (an empty key with Exists covers all, an empty effect every effect).
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let of = |field: &Option<String>| field.as_deref().unwrap_or_default().to_owned();
    let (key, effect) = (of(&toleration.key), of(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match of(&toleration.operator).as_str() {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && of(&toleration.value) == of(&taint.value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(effect: &str) -> Taint {
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        Taint { key: UNREACHABLE.into(), effect: effect.into(), value: None, time_added: Some(Time(at)) }
    }

    fn pod(tolerations: serde_json::Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {}, "spec": {"containers": [], "tolerations": tolerations}}),
        )
        .unwrap()
    }

    #[test]
    fn pods_stay_as_long_as_they_tolerate() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let taints = [taint("NoExecute"), taint("NoSchedule")];
        let exists = |seconds: Option<i64>| json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        assert_eq!(stays_for(&pod(json!([])), &taints, now), Some(SignedDuration::ZERO));
        assert_eq!(stays_for(&pod(exists(Some(300))), &taints, now), Some(SignedDuration::from_secs(240)));
        assert_eq!(stays_for(&pod(exists(None)), &taints, now), None);
        assert_eq!(stays_for(&pod(json!([{"operator": "Exists"}])), &taints, now), None);
        let mut late = pod(exists(Some(300)));
        late.metadata.creation_timestamp = Some(Time(now));
        assert_eq!(stays_for(&late, &taints, now), Some(SignedDuration::from_secs(300)), "it came later");
    }

    #[test]
    fn taints_follow_the_conditions() {
        let node = |ready: &str, cordoned: bool| -> Node {
            serde_json::from_value(json!({
                "metadata": {"name": "n"},
                "spec": {"unschedulable": cordoned, "taints": [{"key": "own", "effect": "NoSchedule"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap()
        };
        let keys = |node: &Node| -> Vec<String> {
            taints(node, Outage::None, Timestamp::now())
                .into_iter()
                .map(|taint| format!("{}:{}", taint.key, taint.effect))
                .collect()
        };
        assert_eq!(keys(&node("True", false)), ["own:NoSchedule"]);
        assert_eq!(
            keys(&node("True", true)),
            ["own:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule"]
        );
        assert_eq!(keys(&node("Unknown", false)).len(), 3);
        let mut new = node("True", false);
        new.status = None;
        assert_eq!(keys(&new), ["own:NoSchedule", "node.kubernetes.io/not-ready:NoSchedule"]);
        let mut full = node("True", false);
        let pressure =
            json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]);
        full.status.as_mut().unwrap().conditions = serde_json::from_value(pressure).unwrap();
        assert_eq!(keys(&full), ["own:NoSchedule", "node.kubernetes.io/disk-pressure:NoSchedule"]);
    }

    #[test]
    fn in_an_outage_pods_are_left_where_they_are() {
        let node = |driven: bool| -> Node {
            let taints =
                if driven { json!([{"key": UNREACHABLE, "effect": "NoExecute"}]) } else { json!([]) };
            serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": taints},
                "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}))
            .unwrap()
        };
        let drives = |node: &Node, outage: Outage| {
            let all = taints(node, outage, Timestamp::now());
            assert!(all.iter().any(|taint| taint.effect == "NoSchedule"), "no new pods come in any case");
            all.iter().any(|taint| taint.effect == "NoExecute")
        };
        for (driven, outage, expected) in [
            (false, Outage::None, true),
            (false, Outage::OfMany, false),
            (true, Outage::OfMany, true),
            (true, Outage::OfAll, false),
        ] {
            assert_eq!(drives(&node(driven), outage), expected, "{driven} {outage:?}");
        }
    }
}

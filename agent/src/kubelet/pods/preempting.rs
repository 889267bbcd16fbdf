//! Critical pods that drive others out: they wait until those have ended, and are then asked about anew.

use super::{Manager, Workers};
use crate::kubelet::admission::{self, NodeLimits, PREEMPTED, Rejection};
use crate::kubelet::events::Severity;
use crate::kubelet::pod;
use crate::kubelet::pod_worker::{Command, Handle};
use crate::kubelet::pressure::is_critical;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::sync::Arc;

/// By the uid of each critical pod that waits, those of the pods that make room for it.
pub(super) type Waiting = BTreeMap<String, Vec<String>>;

/// The pods that must end before this one has room, if any; or why it can't be here at all.
pub(super) fn make_room(
    pod: &Pod,
    others: &[Arc<Pod>],
    limits: &NodeLimits,
) -> Result<Vec<Arc<Pod>>, Rejection> {
    let refs: Vec<&Pod> = others.iter().map(Arc::as_ref).collect();
    let short = admission::shortages(pod, &refs, limits);
    if let Some(shortage) = short.first().filter(|_| !is_critical(pod)) {
        return Err(shortage.rejection());
    }
    admission::suits(pod, &refs, limits)?;
    let victims = admission::victims(pod, &refs, &short).map_err(admission::unexpected)?;
    let chosen = |other: &&Arc<Pod>| victims.iter().any(|victim| pod::uid(victim) == pod::uid(other));
    Ok(others.iter().filter(chosen).cloned().collect())
}

impl Manager {
    /// Ends the victims; the pod is asked about again when they have gone.
    pub(super) fn preempt(&mut self, pod: &Pod, victims: &[Arc<Pod>]) {
        for victim in victims {
            tracing::info!(pod = pod::described(pod), victim = pod::described(victim), "{PREEMPTED}");
            self.host.recorder.pod(victim, Severity::Warning, "Preempting", PREEMPTED);
            let (reason, message) = ("Preempting".to_owned(), PREEMPTED.to_owned());
            self.workers.send(pod::uid(victim), Command::Fail { reason, message, grace: None });
        }
        let uids = victims.iter().map(|victim| pod::uid(victim).to_owned()).collect();
        self.waiting.insert(pod::uid(pod).to_owned(), uids);
    }

    /// Asks about those again for whom room was made.
    pub(super) fn admit_waiting(&mut self) {
        let gone =
            |workers: &Workers, uid: &String| !workers.get(uid).as_ref().is_some_and(Handle::takes_room);
        let ready = |victims: &[String]| victims.iter().all(|uid| gone(&self.workers, uid));
        let ready = self.waiting.iter().filter(|(_, victims)| ready(victims)).map(|(uid, _)| uid.clone());
        for uid in ready.collect::<Vec<_>>() {
            self.waiting.remove(&uid);
            if let Some(pod) = self.wanted.get(&uid).map(|wanted| wanted.pod.clone()) {
                self.start(pod);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::json;

    fn pod(name: &str, priority: i32, cpu: &str, more: serde_json::Value) -> Arc<Pod> {
        let mut spec = json!({"priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let pod = json!({"metadata": {"name": name, "uid": name}, "spec": spec});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn who_is_critical_gets_room_unless_something_else_is_wrong() {
        let allocatable = [("cpu", "1"), ("pods", "2")];
        let allocatable =
            allocatable.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).into();
        let limits = NodeLimits { allocatable, ..NodeLimits::default() };
        let others = [pod("a", 0, "600m", json!({})), pod("b", 0, "100m", json!({}))];
        let room = |pod: &Pod| {
            let made = make_room(pod, &others[..1], &limits).map_err(|(reason, _)| reason)?;
            Ok::<_, String>(made.iter().map(|pod| pod::uid(pod).to_owned()).collect::<Vec<_>>())
        };
        let critical = 2_000_000_000;
        assert_eq!(room(&pod("p", critical, "100m", json!({}))), Ok(vec![]));
        assert_eq!(room(&pod("p", 0, "500m", json!({}))), Err("OutOfcpu".into()));
        assert_eq!(room(&pod("p", critical, "500m", json!({}))), Ok(vec!["a".into()]));
        assert_eq!(room(&pod("p", critical, "2", json!({}))), Err("UnexpectedAdmissionError".into()));
        let picky = pod("p", critical, "500m", json!({"nodeSelector": {"disk": "ssd"}}));
        assert_eq!(room(&picky), Err("NodeAffinity".into()), "nobody ends for a pod that can't be here");
        let one_more = make_room(&pod("p", critical, "10m", json!({})), &others, &limits).unwrap();
        assert_eq!(one_more.len(), 1, "the number of pods counts too");
    }
}

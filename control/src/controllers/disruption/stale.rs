//! Pods that were to be ended and then were not: whoever wrote `DisruptionTarget` on one may have failed to delete it, or
//! have changed its mind. After two minutes the condition is taken back, so that nobody takes an end of the pod much
//! later for a disruption.

use super::DELETION_TIMEOUT;
use crate::controllers::informer::{Key, Lister};
use crate::controllers::pods;
use crate::controllers::runner::{Next, Reconcile, ignore_not_found};
use crate::controllers::wiring::{Plane, Task, Wire};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::time::Duration;

/// The kubelet ends pods itself, however long that takes.
const BY_KUBELET: &str = "TerminationByKubelet";

/// Woken by pods that are to be ended.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("stale-disruption", plane);
    wire.woken_by::<Pod>(|_, pod, queue| {
        if let Some(pod) = pod.filter(|pod| targeted(pod).is_some()) {
            queue.add(Key::of(&**pod));
        }
    });
    let controller = Stale { client: wire.client(), pods: wire.reads() };
    wire.run(1, controller)
}

/// Everything one reconcile needs; keys are pods.
struct Stale {
    client: Client,
    pods: Lister<Pod>,
}

impl Reconcile for Stale {
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(pod) = self.pods.get(&key) else { return Ok(Next::Wait) };
        let now = Timestamp::now();
        let Some(left) = left(&pod, now) else { return Ok(Next::Wait) };
        if !left.is_zero() {
            return Ok(Next::After(left));
        }
        let condition =
            json!({"type": "DisruptionTarget", "status": "False", "lastTransitionTime": Time(now)});
        // What was decided on an old copy must not stand.
        let metadata = json!({"uid": pod.uid(), "resourceVersion": pod.resource_version()});
        let patch = Patch::Strategic(json!({"metadata": metadata, "status": {"conditions": [condition]}}));
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        ignore_not_found(api.patch_status(&key.name, &PatchParams::default(), &patch).await)?;
        Ok(Next::Wait)
    }
}

/// Since when a pod that is not on its way out is to be ended.
fn targeted(pod: &Pod) -> Option<Timestamp> {
    let condition = pods::condition(pod, "DisruptionTarget")?;
    let counts =
        condition.status == "True" && condition.reason.as_deref() != Some(BY_KUBELET) && pods::is_active(pod);
    let since = condition.last_transition_time.as_ref();
    counts.then(|| since.map_or(Timestamp::UNIX_EPOCH, |Time(at)| *at))
}

/// How long it may still take to be on its way out.
fn left(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let left = DELETION_TIMEOUT - now.duration_since(targeted(pod)?);
    Some(Duration::try_from(left).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_ends_is_stale() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let pod = |status: &str, reason: &str, phase: &str, deleted: Option<&str>| -> Pod {
            let condition = json!({"type": "DisruptionTarget", "status": status, "reason": reason,
                "lastTransitionTime": "2026-01-01T00:09:00Z"});
            serde_json::from_value(json!({"metadata": {"deletionTimestamp": deleted},
                "status": {"phase": phase, "conditions": [condition]}}))
            .unwrap()
        };
        let evicted = pod("True", "EvictionByEvictionAPI", "Running", None);
        assert_eq!(left(&evicted, now), Some(Duration::from_secs(60)));
        for later in ["2026-01-01T00:11:00Z", "2026-01-01T03:00:00Z"] {
            assert_eq!(left(&evicted, later.parse().unwrap()), Some(Duration::ZERO), "{later}");
        }
        for other in [
            pod("False", "EvictionByEvictionAPI", "Running", None),
            pod("True", BY_KUBELET, "Running", None),
            pod("True", "PreemptionByScheduler", "Failed", None),
            pod("True", "DeletionByTaintManager", "Running", Some("2026-01-01T00:09:30Z")),
            Pod::default(),
        ] {
            assert_eq!(left(&other, now), None, "{other:?}");
        }
    }
}

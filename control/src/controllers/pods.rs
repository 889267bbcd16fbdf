//! What controllers read off a pod.

use super::runner::Next;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{EphemeralVolumeSource, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::sync::Arc;
use std::time::Duration;

/// The node it is bound to.
pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

/// One of its conditions.
pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// Since when it is ready, if it is.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |Time(at)| *at))
}

/// Restarts of all its containers.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|container| container.restart_count).sum()
}

/// Restarts of the containers that run before them.
pub(crate) fn restarts_before(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_ref());
    statuses.into_iter().flatten().map(|container| container.restart_count).sum()
}

/// Its phase; a pod without a status is pending.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Its containers have ended for good.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor on its way out.
pub(crate) fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !is_terminal(pod)
}

/// Ready for at least this long.
pub(crate) fn is_available(pod: &Pod, min_ready: SignedDuration, now: Timestamp) -> bool {
    ready_since(pod).is_some_and(|since| now.duration_since(since) >= min_ready)
}

/// When the first of these pods becomes available without anything else changing.
pub(crate) fn next_available<'a>(
    pods: impl Iterator<Item = &'a Arc<Pod>>,
    min_ready: SignedDuration,
    now: Timestamp,
) -> Next {
    let left = |pod: &Arc<Pod>| {
        Some(min_ready - now.duration_since(ready_since(pod)?)).filter(|left| left.is_positive())
    };
    match pods.filter_map(left).min() {
        Some(left) => Next::After(Duration::try_from(left).unwrap_or_default()),
        None => Next::Wait,
    }
}

/// When the last of its containers ended; its deletion or its creation where nothing says.
pub(crate) fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ended =
        statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    let meta = &pod.metadata;
    let fallback = meta.deletion_timestamp.as_ref().or(meta.creation_timestamp.as_ref());
    ended.map(|Time(at)| *at).max().or_else(|| fallback.map(|Time(at)| *at))
}

/// Names of the claims it uses, those of its generic ephemeral volumes as well.
pub(crate) fn claims(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let named =
        volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone()));
    named.chain(ephemeral_volumes(pod).map(|(name, _)| name))
}

/// Its generic ephemeral volumes, each with the name of its claim.
pub(crate) fn ephemeral_volumes(pod: &Pod) -> impl Iterator<Item = (String, &EphemeralVolumeSource)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let name = format!("{}-{}", pod.metadata.name.as_deref()?, volume.name);
        Some((name, volume.ephemeral.as_ref()?))
    })
}

//! Questions that everything in the kubelet half asks of a pod object: its names, its containers by kind, its
//! policies. The object itself stays as the API defines it; absent fields are read with the API's defaults, because
//! manifests from files never passed an API server that would have filled them in.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use std::time::Duration;

/// Annotation of the API object that mirrors a static pod; its value is the static pod's hash.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Annotation with the hash of a static pod's manifest.
pub const HASH_ANNOTATION: &str = "kubernetes.io/config.hash";
/// Annotation that names where a pod came from: `api`, `file` or `http`.
pub const SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";
/// Annotation with the time at which a pod was first seen.
pub const SEEN_ANNOTATION: &str = "kubernetes.io/config.seen";

/// What a container is to its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs to completion before the next one.
    Init,
    /// An init container that goes on running (restartPolicy Always).
    Sidecar,
    /// One of `spec.containers`.
    Main,
    /// Added to a running pod for debugging; never restarted.
    Ephemeral,
}

/// `spec.restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    #[allow(missing_docs)]
    Always,
    #[allow(missing_docs)]
    OnFailure,
    #[allow(missing_docs)]
    Never,
}

/// The pod's uid; empty only for an object that no source has accepted.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The pod's name.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's namespace.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// `NAME_NAMESPACE(UID)`: how messages of the kubelet name a pod.
pub fn described(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// The spec; an object without one has no containers and is refused on arrival.
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// One annotation.
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// True for the API object that only shows a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR_ANNOTATION).is_some()
}

/// True for a pod that comes from a file or URL, not from an API server.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE_ANNOTATION).is_some_and(|source| source != "api") && !is_mirror(pod)
}

/// Whether the API object is being deleted.
pub fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Succeeded or Failed, as last reported.
pub fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Uses the node's own network.
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

/// `spec.restartPolicy`, Always where absent.
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    match spec(pod).restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// How long the pod's processes may take to end: the deletion's own figure, else the spec's, else 30 s.
pub fn grace_period(pod: &Pod) -> Duration {
    let deletion = pod.metadata.deletion_grace_period_seconds.filter(|_| is_deleted(pod));
    let seconds = deletion.or(spec(pod).termination_grace_period_seconds).unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Init containers in order, each with its kind.
pub fn init_containers(pod: &Pod) -> impl DoubleEndedIterator<Item = (Kind, &Container)> {
    let containers = spec(pod).init_containers.as_deref().unwrap_or_default();
    containers.iter().map(|container| match container.restart_policy.as_deref() {
        Some("Always") => (Kind::Sidecar, container),
        _ => (Kind::Init, container),
    })
}

/// Init containers, then main ones.
pub fn containers(pod: &Pod) -> impl Iterator<Item = (Kind, &Container)> {
    init_containers(pod).chain(spec(pod).containers.iter().map(|container| (Kind::Main, container)))
}

/// Ephemeral containers in the shape of ordinary ones, with the container whose processes each may see.
pub fn ephemeral_containers(pod: &Pod) -> Vec<(Container, Option<String>)> {
    let list = spec(pod).ephemeral_containers.as_deref().unwrap_or_default();
    list.iter()
        .filter_map(|ephemeral| {
            let value = serde_json::to_value(ephemeral).ok()?;
            Some((serde_json::from_value(value).ok()?, ephemeral.target_container_name.clone()))
        })
        .collect()
}

/// The container of that name, of any kind.
pub fn find_container(pod: &Pod, wanted: &str) -> Option<(Kind, Container)> {
    containers(pod)
        .find(|(_, container)| container.name == wanted)
        .map(|(kind, c)| (kind, c.clone()))
        .or_else(|| {
            let ephemeral =
                ephemeral_containers(pod).into_iter().find(|(container, _)| container.name == wanted);
            ephemeral.map(|(container, _)| (Kind::Ephemeral, container))
        })
}

/// Hash of what cannot change while a container runs (its name and image), in the kubelet's eight hex digits.
pub fn container_hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let text = format!("{{\"name\":\"{}\",\"image\":\"{image}\"}}", container.name);
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

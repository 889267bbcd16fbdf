//! Keys of the labels and annotations that kubelets put on sandboxes and containers. They are the kubelet's memory
//! across restarts and what foreign tools (crictl, log collectors, cAdvisor) look for, so the names are fixed.

/// Label: the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's uid.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: the container's name in the pod's spec.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation: hash of the container's spec.
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
/// Annotation: how often a container of this name was started before.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: path inside the container of its last words.
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation: `File` or `FallbackToLogsOnError`.
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: the container's ports, as JSON.
pub const CONTAINER_PORTS: &str = "io.kubernetes.container.ports";
/// Annotation: the preStop hook, as JSON, for a pod whose object is gone.
pub const PRE_STOP_HANDLER: &str = "io.kubernetes.container.preStopHandler";
/// Annotation: the grace period in seconds, for a pod whose object is gone.
pub const TERMINATION_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Annotation of our own: the container has processors for itself, and so no quota.
pub const OWN_PROCESSORS: &str = "knarr.io/own-processors";
/// Annotation of our own: the memory that a container asked for that is restarted when it asks for another amount.
pub const MEMORY_REQUEST: &str = "knarr.io/memory-request";

//! The Node object that stands for this machine: what it says of itself, and how healthy it is. Pure; the task that
//! writes it is `node_status`.

use crate::kubelet::devices::Offered;
use crate::kubelet::local_volumes::DIRECTORY_ANNOTATION;
use crate::kubelet::machine::Machine;
use crate::kubelet::resources::Amounts;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use knarr_cri::v1::{Image, RuntimeFeatures, RuntimeHandler};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The Kubernetes version this node announces.
pub const KUBELET_VERSION: &str = "v1.33.0+knarr";
/// Most images listed, and most names of each.
const MAX_IMAGES: usize = 50;
const MAX_NAMES: usize = 5;

/// What never changes while the agent runs.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Of the Node object.
    pub name: String,
    #[allow(missing_docs)]
    pub host_name: String,
    /// Primary first.
    pub addresses: Vec<String>,
    #[allow(missing_docs)]
    pub machine: Machine,
    #[allow(missing_docs)]
    pub max_pods: u32,
    /// Labels of its own choice.
    pub labels: BTreeMap<String, String>,
    /// What a new node registers with.
    pub taints: Vec<Taint>,
    /// For everything that is not a pod.
    pub reserved: Amounts,
    /// Where the cluster may make volumes.
    pub volumes_dir: PathBuf,
    /// Of the kubelet API.
    pub port: u16,
    /// `knarr://0.1.0`.
    pub runtime_version: String,
}

/// What may change.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Why the node cannot run pods; empty when it can.
    pub not_ready: Vec<String>,
    /// Less memory is available than eviction allows.
    pub memory_pressure: bool,
    #[allow(missing_docs)]
    pub disk_pressure: bool,
    #[allow(missing_docs)]
    pub pid_pressure: bool,
    #[allow(missing_docs)]
    pub images: Vec<Image>,
    #[allow(missing_docs)]
    pub handlers: Vec<RuntimeHandler>,
    /// What the runtime can do whatever the handler.
    pub features: Option<RuntimeFeatures>,
    /// Devices of plugins.
    pub devices: Offered,
}

/// Labels that every kubelet gives its node, and those of its settings.
pub fn labels(identity: &Identity) -> BTreeMap<String, String> {
    let architecture = identity.machine.architecture.as_str();
    let own = [
        ("beta.kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("kubernetes.io/hostname", &identity.host_name),
        ("kubernetes.io/os", "linux"),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()));
    identity.labels.clone().into_iter().chain(own).collect()
}

/// What somebody made of the labels that tell on what the node runs, put right again.
pub fn lost_labels(identity: &Identity, node: &Node) -> BTreeMap<String, String> {
    let present = |key: &String| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let mut own = labels(identity);
    own.retain(|key, value| {
        ["kubernetes.io/os", "kubernetes.io/arch"].contains(&key.as_str()) && present(key) != Some(value)
    });
    own
}

/// Annotations that this node gives itself.
pub fn annotations(identity: &Identity) -> BTreeMap<String, String> {
    let attach = "volumes.kubernetes.io/controller-managed-attach-detach";
    let directory = identity.volumes_dir.display().to_string();
    [(attach.to_string(), "true".to_string()), (DIRECTORY_ANNOTATION.to_string(), directory)].into()
}

/// The object as this node registers it.
pub fn new_node(identity: &Identity, health: &Health, now: Timestamp) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(identity.name.clone()),
            labels: Some(labels(identity)),
            annotations: Some(annotations(identity)),
            ..Default::default()
        },
        spec: Some(NodeSpec {
            taints: Some(identity.taints.clone()).filter(|taints| !taints.is_empty()),
            ..Default::default()
        }),
        status: Some(status(identity, health, &[], now)),
    }
}

/// The status; `previous` conditions give the times of their last change.
pub fn status(
    identity: &Identity,
    health: &Health,
    previous: &[NodeCondition],
    now: Timestamp,
) -> NodeStatus {
    let mut addresses: Vec<NodeAddress> = identity
        .addresses
        .iter()
        .map(|address| NodeAddress { address: address.clone(), type_: "InternalIP".to_string() })
        .collect();
    addresses.push(NodeAddress { address: identity.host_name.clone(), type_: "Hostname".to_string() });
    NodeStatus {
        addresses: Some(addresses),
        capacity: Some(with(identity.machine.capacity(identity.max_pods), &health.devices.capacity)),
        allocatable: Some(with(
            identity.machine.allocatable(identity.max_pods, &identity.reserved),
            &health.devices.allocatable,
        )),
        conditions: Some(conditions(health, previous, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(identity.port) }),
        }),
        images: Some(images(&health.images)),
        node_info: Some(system_info(identity)),
        runtime_handlers: Some(health.handlers.iter().map(handler).collect()),
        features: health.features.as_ref().map(|features| NodeFeatures {
            supplemental_groups_policy: Some(features.supplemental_groups_policy),
        }),
        ..Default::default()
    }
}

fn with(mut amounts: Amounts, more: &Amounts) -> Amounts {
    amounts.extend(more.clone());
    amounts
}

fn system_info(identity: &Identity) -> NodeSystemInfo {
    let machine = &identity.machine;
    NodeSystemInfo {
        architecture: machine.architecture.clone(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: identity.runtime_version.clone(),
        kernel_version: machine.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.to_string(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_string(),
        os_image: machine.os_image.clone(),
        system_uuid: machine.system_uuid.clone(),
        ..Default::default()
    }
}

fn handler(handler: &RuntimeHandler) -> NodeRuntimeHandler {
    let features = handler.features.as_ref().map(|features| NodeRuntimeHandlerFeatures {
        recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
        user_namespaces: Some(features.user_namespaces),
    });
    NodeRuntimeHandler { name: Some(handler.name.clone()), features }
}

/// The largest ones, with their names: digests first, as a kubelet lists them.
fn images(all: &[Image]) -> Vec<ContainerImage> {
    let mut sorted: Vec<&Image> = all.iter().collect();
    sorted.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    sorted
        .into_iter()
        .take(MAX_IMAGES)
        .map(|image| ContainerImage {
            names: Some(image.repo_digests.iter().chain(&image.repo_tags).take(MAX_NAMES).cloned().collect()),
            size_bytes: i64::try_from(image.size).ok(),
        })
        .collect()
}

fn conditions(health: &Health, previous: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let pressure = |kind, bad, word_bad, word_good, text_bad, text_good| {
        let (status, reason, message) =
            if bad { ("True", word_bad, text_bad) } else { ("False", word_good, text_good) };
        condition(kind, status, reason, message, previous, now)
    };
    let mut list = vec![
        pressure(
            "MemoryPressure",
            health.memory_pressure,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
            "kubelet has insufficient memory available",
            "kubelet has sufficient memory available",
        ),
        pressure(
            "DiskPressure",
            health.disk_pressure,
            "KubeletHasDiskPressure",
            "KubeletHasNoDiskPressure",
            "kubelet has disk pressure",
            "kubelet has no disk pressure",
        ),
        pressure(
            "PIDPressure",
            health.pid_pressure,
            "KubeletHasInsufficientPID",
            "KubeletHasSufficientPID",
            "kubelet has insufficient PID available",
            "kubelet has sufficient PID available",
        ),
    ];
    list.push(if health.not_ready.is_empty() {
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status", previous, now)
    } else {
        let message = health.not_ready.join(", ");
        condition("Ready", "False", "KubeletNotReady", &message, previous, now)
    });
    list
}

fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    previous: &[NodeCondition],
    now: Timestamp,
) -> NodeCondition {
    let same = previous.iter().find(|condition| condition.type_ == kind && condition.status == status);
    let since = same.and_then(|condition| condition.last_transition_time.clone());
    NodeCondition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason: Some(reason.to_string()),
        message: Some(message.to_string()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_last_and_keeps_its_time() {
        let identity = Identity {
            name: "n".into(),
            host_name: "h".into(),
            addresses: vec!["10.0.0.1".into()],
            machine: Machine { processors: 2, memory: 4 << 30, disk: 10 << 30, ..Default::default() },
            max_pods: 110,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            reserved: Amounts::new(),
            volumes_dir: "/v".into(),
            port: 10250,
            runtime_version: "knarr://1".into(),
        };
        let mut node = new_node(&identity, &Health::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(lost_labels(&identity, &node), BTreeMap::new());
        let changed = node.metadata.labels.get_or_insert_default();
        for key in ["kubernetes.io/os", "kubernetes.io/hostname"] {
            changed.insert(key.into(), "other".into());
        }
        let lost = [("kubernetes.io/os".to_string(), "linux".to_string())].into();
        assert_eq!(lost_labels(&identity, &node), lost, "names are anybody's");
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = status(&identity, &Health::default(), &[], at(1)).conditions.unwrap();
        let second = status(&identity, &Health::default(), &first, at(9)).conditions.unwrap();
        assert_eq!(second.last().unwrap().type_, "Ready");
        assert_eq!(second.last().unwrap().last_transition_time, Some(Time(at(1))));
        let sick = Health { not_ready: vec!["x".into()], ..Default::default() };
        let third = status(&identity, &sick, &second, at(10)).conditions.unwrap();
        assert_eq!(
            (third[3].status.as_str(), third[3].last_transition_time.clone()),
            ("False", Some(Time(at(10))))
        );
    }
}

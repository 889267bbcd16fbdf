//! The status of a pod, computed from its spec, what the runtime shows, what probes say and why containers wait.
//! Pure: the same input gives the same status, so comparing it with the last one written tells whether to write.

mod conditions;
mod container;
mod phase;
mod replacement;
#[cfg(test)]
mod tests;

pub use conditions::PASSING;
pub use phase::Phase;
pub use replacement::next_told;

use crate::kubelet::observed::ObservedPod;
use crate::kubelet::plan::{Ending, Memory, Waiting};
use crate::kubelet::pod::{self, Kind};
use crate::kubelet::resources;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;

/// What a status depends on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    #[allow(missing_docs)]
    pub pod: &'a Pod,
    /// The status that was reported last: times of transitions are carried over from it.
    pub previous: &'a PodStatus,
    #[allow(missing_docs)]
    pub observed: &'a ObservedPod,
    #[allow(missing_docs)]
    pub memory: &'a Memory,
    /// By container name, from the plan.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Last words of dead containers, by id.
    pub messages: &'a BTreeMap<String, String>,
    #[allow(missing_docs)]
    pub ending: Option<&'a Ending>,
    /// Why the node holds the pod back: `status.reason` and `status.message`.
    pub blocked: Option<&'a (String, String)>,
    /// Nothing runs any more and nothing will.
    pub stopped: bool,
    /// Addresses of the node, primary first.
    pub host_ips: &'a [String],
    /// The runtime's name: the scheme of container ids.
    pub runtime_name: &'a str,
    /// When this node took the pod.
    pub start_time: Timestamp,
    #[allow(missing_docs)]
    pub now: Timestamp,
}

/// The status of a pod that the node has refused: nothing of it was ever here.
pub fn rejected(pod: &Pod, (reason, message): &(String, String), now: Timestamp) -> PodStatus {
    PodStatus {
        phase: Some(Phase::Failed.name().to_string()),
        reason: Some(reason.clone()),
        message: Some(message.clone()),
        start_time: Some(Time(now)),
        qos_class: Some(resources::qos(pod).name().to_string()),
        observed_generation: pod.metadata.generation,
        ..Default::default()
    }
}

/// Computes the status.
pub fn pod_status(inputs: Inputs<'_>) -> PodStatus {
    let of_kind = |wanted: &[Kind]| -> Vec<ContainerStatus> {
        let all = pod::containers(inputs.pod).filter(|(kind, _)| wanted.contains(kind));
        all.map(|(kind, container)| container::status(inputs, kind, container)).collect()
    };
    let init = of_kind(&[Kind::Init, Kind::Sidecar]);
    let mut main = of_kind(&[Kind::Main]);
    if inputs.stopped && inputs.ending.is_some() && phase::is_initialized(inputs, &init) {
        main.iter_mut().for_each(container::end);
    }
    let ephemeral: Vec<ContainerStatus> = pod::ephemeral_containers(inputs.pod)
        .iter()
        .map(|(container, _)| container::status(inputs, Kind::Ephemeral, container))
        .collect();
    let phase = phase::phase(inputs, &init, &main);
    // Why the node ends it is told with the end: until then it runs, as a kubelet shows it.
    let failure = inputs.ending.and_then(|ending| ending.failure.clone()).filter(|_| phase == Phase::Failed);
    let failure = failure.or_else(|| inputs.blocked.cloned().filter(|_| !phase.is_final()));
    let kept = |field: &Option<String>| field.clone().filter(|_| phase == Phase::Failed);
    let pod_ips = pod_ips(inputs);
    let mut status = PodStatus {
        phase: Some(phase.name().to_string()),
        reason: failure.as_ref().map(|(reason, _)| reason.clone()).or_else(|| kept(&inputs.previous.reason)),
        message: failure.map(|(_, message)| message).or_else(|| kept(&inputs.previous.message)),
        host_ip: inputs.host_ips.first().cloned(),
        host_ips: Some(inputs.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: pod_ips.first().cloned(),
        pod_ips: (!pod_ips.is_empty()).then(|| pod_ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: Some(Time(inputs.start_time)),
        qos_class: Some(resources::qos(inputs.pod).name().to_string()),
        observed_generation: inputs.pod.metadata.generation,
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        ..Default::default()
    };
    status.conditions = Some(conditions::conditions(inputs, phase, &status));
    status
}

/// Addresses of the sandbox; those of the node for a host-network pod. A finished pod keeps what it had.
fn pod_ips(inputs: Inputs<'_>) -> Vec<String> {
    match inputs.observed.ready_sandbox() {
        Some(_) if pod::host_network(inputs.pod) => inputs.host_ips.to_vec(),
        Some(sandbox) => sandbox.ips.clone(),
        None => inputs.previous.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
    }
}

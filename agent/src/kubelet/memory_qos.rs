//! Memory as a quality of service, where cgroup version 2 has its controller (a kubelet's feature gate `MemoryQoS`): what
//! pods request is theirs (`memory.min`), and a container that nears its limit is slowed down before it is killed
//! (`memory.high`). The formula is that of KEP-2570 in its second alpha; a container whose limit is its request is never
//! slowed down.

use crate::config::KubeletConfig;
use crate::kubelet::pod;
use crate::kubelet::pod_cgroup::{Hierarchy, protects_memory};
use crate::kubelet::resources::{self, Amounts, Qos};
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use std::collections::HashMap;
use std::sync::Arc;

/// The file of what is never taken away.
pub const MIN: &str = "memory.min";
/// The file of what is slowed down beyond.
pub const HIGH: &str = "memory.high";

/// How memory is protected and throttled on this node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryQos {
    /// How far between request and limit throttling begins; above 0, at most 1.
    pub factor: f64,
    /// Bytes that pods may have, in place of a limit that a container does not have.
    pub allocatable: i64,
}

/// Bytes. Where pages are larger the kernel rounds down once more.
const PAGE: i64 = 4096;

impl MemoryQos {
    /// From the configuration; nothing where it is off or the machine cannot do it. The error names the key.
    pub fn of(
        config: &KubeletConfig,
        allocatable: &Amounts,
        hierarchies: &[Hierarchy],
    ) -> Result<Option<Self>, String> {
        let factor = config.memory_throttling_factor;
        if !(factor > 0.0 && factor <= 1.0) {
            return Err("memory_throttling_factor must be above 0 and at most 1".into());
        }
        if !config.memory_qos {
            return Ok(None);
        }
        if !protects_memory(hierarchies) {
            tracing::warn!("kubelet.memory_qos: there is no memory controller of cgroup version 2 here");
            return Ok(None);
        }
        let allocatable = allocatable.get("memory").and_then(resources::value).unwrap_or(0);
        Ok(Some(Self { factor, allocatable }))
    }

    /// Files of a container's cgroup and their values.
    pub fn container(&self, requirements: Option<&ResourceRequirements>) -> HashMap<String, String> {
        let bytes = |milli: Option<i64>| milli.unwrap_or(0) / 1000;
        let request = bytes(resources::request(requirements, "memory"));
        let limit = bytes(resources::limit(requirements, "memory"));
        let min = (request > 0).then(|| (MIN.to_owned(), request.to_string()));
        let high = self.high(request, limit).map(|high| (HIGH.to_owned(), high.to_string()));
        min.into_iter().chain(high).collect()
    }

    fn high(&self, request: i64, limit: i64) -> Option<i64> {
        if request == limit && request > 0 {
            return None;
        }
        let top = if limit > 0 { limit } else { self.allocatable };
        // Whole bytes of a machine's memory are exact in a double.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        let begin = (request as f64 + (top - request) as f64 * self.factor) as i64;
        let high = begin / PAGE * PAGE;
        (top > 0 && high > request).then_some(high)
    }
}

/// `memory.min` of a pod: all that its containers request.
pub fn pod_min(pod: &Pod) -> i64 {
    resources::pod_request(pod, "memory") / 1000
}

/// `memory.min` of whole classes of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassMins {
    /// The Guaranteed pods and the Burstable ones, whose cgroup lies below.
    pub all: i64,
    #[allow(missing_docs)]
    pub burstable: i64,
}

/// Those of the pods that have not ended.
pub fn class_mins(pods: &[Arc<Pod>]) -> ClassMins {
    let sum = |class: Qos| -> i64 {
        let running = pods.iter().filter(|pod| !pod::is_finished(pod) && resources::qos(pod) == class);
        running.map(|pod| pod_min(pod)).sum()
    };
    let burstable = sum(Qos::Burstable);
    ClassMins { all: sum(Qos::Guaranteed) + burstable, burstable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NODE: MemoryQos = MemoryQos { factor: 0.9, allocatable: 1000 << 20 };

    #[test]
    fn the_formula_of_the_proposal() {
        let mebi = |count: i64| count << 20;
        for (request, limit, high) in [
            (mebi(100), mebi(200), Some(mebi(190))),
            (0, mebi(200), Some(mebi(180))),
            // Without a limit it is the node's memory.
            (mebi(100), 0, Some(mebi(910))),
            (0, 0, Some(mebi(900))),
            // Guaranteed memory is never slowed down.
            (mebi(100), mebi(100), None),
            // Whole pages; less than one between them is nothing.
            (4096, 8192, None),
            (10_000, 30_000, Some(24_576)),
            (mebi(2000), 0, None),
        ] {
            assert_eq!(NODE.high(request, limit), high, "{request} {limit}");
        }
        assert_eq!(MemoryQos { allocatable: 0, ..NODE }.high(0, 0), None);
    }

    #[test]
    fn files_of_a_container() {
        let files = |resources: serde_json::Value| {
            let requirements: ResourceRequirements = serde_json::from_value(resources).unwrap();
            let mut files: Vec<_> = NODE.container(Some(&requirements)).into_iter().collect();
            files.sort();
            files.into_iter().map(|(file, value)| format!("{file}={value}")).collect::<Vec<_>>().join(" ")
        };
        let burstable = json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "200Mi"}});
        assert_eq!(files(burstable), "memory.high=199229440 memory.min=104857600");
        // A limit alone is the request too.
        assert_eq!(files(json!({"limits": {"memory": "200Mi"}})), "memory.min=209715200");
        assert_eq!(files(json!({"requests": {"cpu": "1"}})), "memory.high=943718400");
    }

    #[test]
    fn a_class_protects_what_its_pods_request() {
        let pod = |resources: serde_json::Value, phase: &str| -> Arc<Pod> {
            let pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": phase},
                "spec": {"containers": [{"name": "c", "resources": resources}]}}));
            Arc::new(pod.unwrap())
        };
        let burstable = json!({"requests": {"memory": "1000"}});
        let guaranteed = json!({"limits": {"cpu": "1", "memory": "1Ki"}});
        let pods = [
            pod(burstable.clone(), "Running"),
            pod(burstable, "Failed"),
            pod(guaranteed, "Pending"),
            pod(json!({}), "Running"),
        ];
        assert_eq!(class_mins(&pods), ClassMins { all: 2024, burstable: 1000 });
    }
}

//! The cgroups of whole classes of pods: `kubepods` may use what the node does not reserve for itself, `burstable`
//! weighs as much as its pods request together, `besteffort` next to nothing. Without this a pod that requests nothing
//! would weigh as much as one that reserves a processor.

use crate::kubelet::memory_qos::{self, ClassMins};
use crate::kubelet::pod;
use crate::kubelet::pod_cgroup::{self, Hierarchy};
use crate::kubelet::resources::{self, Amounts, Qos};
use k8s_openapi::api::core::v1::Pod;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the classes weigh, in cpu shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// The sum of the requests of its pods.
    pub burstable: i64,
    /// What is protected of their memory; not where that is off.
    pub memory: Option<ClassMins>,
}

/// Weights for these pods; those that have ended count no more.
pub fn weights(pods: &[Arc<Pod>], protect_memory: bool) -> Weights {
    let running = pods.iter().filter(|pod| !pod::is_finished(pod));
    let burstable = running.filter(|pod| resources::qos(pod) == Qos::Burstable);
    let milli: i64 = burstable.map(|pod| resources::pod_request(pod, "cpu")).sum();
    let memory = protect_memory.then(|| memory_qos::class_mins(pods));
    Weights { burstable: resources::cpu_shares(milli), memory }
}

/// Writes the weights. A class without any pod yet has no cgroup, and needs none. Blocks.
pub fn write(hierarchies: &[Hierarchy], root: &str, weights: Weights) {
    let parent = pod_cgroup::parent(root);
    for (class, shares) in [("burstable", weights.burstable), ("besteffort", 2)] {
        set(hierarchies, &format!("{parent}/{class}"), "cpu.shares", shares);
        set(hierarchies, &format!("{parent}/{class}"), "cpu.weight", resources::cpu_weight(shares));
    }
    if let Some(mins) = weights.memory {
        set(hierarchies, &parent, memory_qos::MIN, mins.all);
        set(hierarchies, &format!("{parent}/burstable"), memory_qos::MIN, mins.burstable);
    }
}

/// Bounds all pods together by what the node can give away. Blocks.
pub fn bound(hierarchies: &[Hierarchy], root: &str, capacity: &Amounts, reserved: &Amounts) {
    let parent = pod_cgroup::parent(root);
    let left = |resource: &str| {
        let milli = |amounts: &Amounts| amounts.get(resource).and_then(resources::milli);
        Some(milli(capacity)? - milli(reserved).unwrap_or(0)).filter(|left| *left > 0)
    };
    if let Some(milli) = left("cpu") {
        let shares = resources::cpu_shares(milli);
        set(hierarchies, &parent, "cpu.shares", shares);
        set(hierarchies, &parent, "cpu.weight", resources::cpu_weight(shares));
    }
    if let Some(milli) = left("memory").filter(|_| reserved.contains_key("memory")) {
        set(hierarchies, &parent, "memory.limit_in_bytes", milli / 1000);
        set(hierarchies, &parent, "memory.max", milli / 1000);
    }
}

/// Writes one file in whichever hierarchy has it.
fn set(hierarchies: &[Hierarchy], cgroup: &str, file: &str, value: i64) {
    for path in
        hierarchies.iter().map(|hierarchy| file_of(hierarchy, cgroup, file)).filter(|path| path.exists())
    {
        if let Err(error) = write_one(&path, value) {
            tracing::warn!("{}: {error}", path.display());
        }
    }
}

fn file_of(hierarchy: &Hierarchy, cgroup: &str, file: &str) -> PathBuf {
    pod_cgroup::directory(hierarchy, cgroup).join(file)
}

fn write_one(path: &Path, value: i64) -> std::io::Result<()> {
    std::fs::write(path, value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_class_weighs_what_its_pods_request() {
        let pod = |resources: serde_json::Value, phase: &str| -> Arc<Pod> {
            let pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": phase},
                "spec": {"containers": [{"name": "c", "resources": resources}]}}));
            Arc::new(pod.unwrap())
        };
        let burstable = json!({"requests": {"cpu": "500m"}});
        let guaranteed =
            json!({"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "1", "memory": "1Mi"}});
        assert_eq!(weights(&[], false).burstable, 2);
        let pods = [
            pod(burstable.clone(), "Running"),
            pod(burstable.clone(), "Pending"),
            pod(burstable, "Succeeded"),
            pod(guaranteed, "Running"),
            pod(json!({}), "Running"),
        ];
        assert_eq!(weights(&pods, false).burstable, 1024);
    }
}

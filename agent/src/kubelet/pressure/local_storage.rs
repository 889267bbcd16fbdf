//! Limits that a pod sets itself on its use of the node's disk: `sizeLimit` of emptyDir volumes, and
//! `ephemeral-storage` of containers and of the whole pod. A pod that is over one is evicted; the words are the
//! kubelet's. Pure.

use super::usage::{Usage, is_on_disk};
use crate::kubelet::pod;
use crate::kubelet::resources;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const RESOURCE: &str = "ephemeral-storage";

/// Why the pod must go, if so.
pub(super) fn excess(pod: &Pod, usage: &Usage) -> Option<String> {
    volume(pod, usage).or_else(|| whole(pod, usage)).or_else(|| container(pod, usage))
}

fn exceeds(bytes: u64, limit: i64) -> bool {
    limit > 0 && i64::try_from(bytes).unwrap_or(i64::MAX) > limit
}

fn volume(pod: &Pod, usage: &Usage) -> Option<String> {
    pod::spec(pod).volumes.iter().flatten().filter(|volume| is_on_disk(volume)).find_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        let used = usage.volumes.get(&volume.name)?.bytes;
        exceeds(used, resources::value(limit)?).then(|| {
            format!(
                "Usage of EmptyDir volume \"{}\" exceeds the limit \"{}\". ",
                volume.name,
                canonical(limit)
            )
        })
    })
}

fn whole(pod: &Pod, usage: &Usage) -> Option<String> {
    let limits = pod::containers(pod)
        .filter_map(|(_, container)| resources::limit(container.resources.as_ref(), RESOURCE));
    let limit = limits.sum::<i64>() / 1000;
    exceeds(usage.disk().bytes, limit).then(|| {
        let text = knarr_api::quantity::Quantity::from_bytes(limit);
        format!("Pod ephemeral local storage usage exceeds the total limit of containers {text}. ")
    })
}

fn container(pod: &Pod, usage: &Usage) -> Option<String> {
    pod::containers(pod).find_map(|(_, container)| {
        let limit = container.resources.as_ref()?.limits.as_ref()?.get(RESOURCE)?;
        let used = usage.containers.get(&container.name)?.disk.bytes;
        exceeds(used, resources::value(limit)?).then(|| {
            format!(
                "Container {} exceeded its local ephemeral storage limit \"{}\". ",
                container.name,
                canonical(limit)
            )
        })
    })
}

fn canonical(quantity: &Quantity) -> String {
    resources::parse(quantity).map_or_else(|| quantity.0.clone(), |amount| amount.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::usage::{ContainerUsage, Disk};
    use super::*;
    use serde_json::json;

    #[test]
    fn each_limit_has_its_words() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1024Ki"}}, {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1"}}],
            "containers": [{"name": "a", "resources": {"limits": {"ephemeral-storage": "2Mi"}}}, {"name": "b"}]}}))
        .unwrap();
        let disk = |bytes| Disk { bytes, inodes: 1 };
        let usage = |volume, a, b| Usage {
            volumes: [("v".to_string(), disk(volume)), ("m".to_string(), disk(9))].into(),
            containers: [("a", a), ("b", b)]
                .map(|(name, bytes)| (name.to_string(), ContainerUsage { memory: 0, disk: disk(bytes) }))
                .into(),
            ..Usage::default()
        };
        let mi = 1 << 20;
        let cases = [
            (usage(mi, mi - 100, 0), None),
            (usage(mi + 1, 0, 0), Some("Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ")),
            (
                usage(mi, mi, mi),
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "),
            ),
        ];
        for (usage, expected) in cases {
            assert_eq!(excess(&pod, &usage).as_deref(), expected);
        }
        let alone = container(&pod, &usage(0, 3 * mi, 0)).unwrap();
        assert_eq!(alone, "Container a exceeded its local ephemeral storage limit \"2Mi\". ");
    }
}

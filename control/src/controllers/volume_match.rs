//! Which volume serves which claim: class, modes, size, labels, and the node it can be reached from.

use super::ownership;
use crate::scheduler::node_selector;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knarr_api::quantity;
use std::collections::BTreeMap;
use std::sync::Arc;

/// On a claim: the node that the scheduler chose for its first pod.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// The smallest volume that serves an unbound claim, reserved ones before others; with a node, only those that can
/// be reached from it.
pub(crate) fn find(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    node: Option<&Node>,
) -> Option<Arc<PersistentVolume>> {
    let serves = |volume: &&Arc<PersistentVolume>| {
        suits(claim, volume) && node.is_none_or(|node| reaches(volume, node))
    };
    volumes
        .iter()
        .filter(serves)
        .min_by_key(|volume| (!is_reserved(claim, volume), capacity(volume)))
        .cloned()
}

/// Whether a volume is set aside for this claim.
pub(crate) fn is_reserved(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (reference.uid.as_deref().unwrap_or_default().is_empty() || reference.uid == claim.metadata.uid)
}

/// Whether a volume can be used on a node.
pub(crate) fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    affinity.is_none_or(|required| node_selector::matches(&required.node_selector_terms, node))
}

fn suits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let (Some(wanted), Some(spec)) = (&claim.spec, &volume.spec) else { return false };
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let free = spec.claim_ref.is_none() || is_reserved(claim, volume);
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let class = |class: &Option<String>| class.clone().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let labelled = |selector| ownership::selects(selector, volume.metadata.labels.as_ref());
    free && volume.metadata.deletion_timestamp.is_none()
        && !matches!(phase, "Released" | "Failed")
        && wanted.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && class(&wanted.storage_class_name) == class(&spec.storage_class_name)
        && mode(&wanted.volume_mode) == mode(&spec.volume_mode)
        && wanted.selector.as_ref().is_none_or(labelled)
        && capacity(volume) >= requested(claim)
}

fn capacity(volume: &PersistentVolume) -> i64 {
    bytes(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

fn requested(claim: &PersistentVolumeClaim) -> i64 {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    bytes(resources.and_then(|resources| resources.requests.as_ref()))
}

fn bytes(amounts: Option<&BTreeMap<String, Quantity>>) -> i64 {
    let Some(Quantity(text)) = amounts.and_then(|amounts| amounts.get("storage")) else { return 0 };
    text.parse::<quantity::Quantity>().map_or(0, |amount| amount.units())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::ResourceExt;
    use serde_json::{Value, json};

    fn volume(name: &str, size: &str, extra: Value) -> Arc<PersistentVolume> {
        let mut spec =
            json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "s"});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let object = json!({"metadata": {"name": name, "labels": {"disk": name}}, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn claim(extra: Value) -> PersistentVolumeClaim {
        let mut spec = json!({"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"], "storageClassName": "s"});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn the_smallest_that_serves() {
        let affinity = json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
            [{"key": "host", "operator": "In", "values": ["a"]}]}]}}});
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "b", "labels": {"host": "b"}}})).unwrap();
        let volumes = [
            volume("tiny", "500Mi", json!({})),
            volume("large", "5Gi", json!({})),
            volume("local", "1Gi", affinity),
            volume("taken", "1Gi", json!({"claimRef": {"name": "x", "namespace": "n", "uid": "x"}})),
            volume(
                "reserved",
                "9Gi",
                json!({"claimRef": {"name": "c", "namespace": "n"}, "storageClassName": "r"}),
            ),
            volume("block", "1Gi", json!({"volumeMode": "Block", "storageClassName": "b"})),
        ];
        let name = |extra: Value, node: Option<&Node>| {
            find(&claim(extra), &volumes, node).map(|found| found.name_any())
        };
        for (extra, expected) in [
            (json!({}), Some("local")),
            (json!({"selector": {"matchLabels": {"disk": "large"}}}), Some("large")),
            (json!({"accessModes": ["ReadWriteMany"]}), None),
            (json!({"storageClassName": "r"}), Some("reserved")),
            (json!({"storageClassName": "b"}), None),
            (json!({"storageClassName": "b", "volumeMode": "Block"}), Some("block")),
            (json!({"resources": {"requests": {"storage": "6Gi"}}}), None),
        ] {
            assert_eq!(name(extra.clone(), None).as_deref(), expected, "{extra}");
        }
        assert_eq!(name(json!({}), Some(&node)).as_deref(), Some("large"));
    }
}

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

/// The smallest volume that serves an unbound claim; with a node, only those that can be reached from it. One that is set
/// aside for the claim is taken before any other, or none is.
pub(crate) fn find(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    node: Option<&Node>,
) -> Option<Arc<PersistentVolume>> {
    let reached = |volume: &&Arc<PersistentVolume>| node.is_none_or(|node| reaches(volume, node));
    let suiting = || volumes.iter().filter(|volume| suits(claim, volume));
    if let Some(reserved) = suiting().find(|volume| is_reserved(claim, volume)) {
        return Some(reserved).filter(reached).cloned();
    }
    suiting().filter(reached).min_by_key(|volume| capacity(volume)).cloned()
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

/// Of a volume that is set aside for the claim neither the class nor the labels matter.
fn suits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    match mismatch(claim, volume) {
        Some(Mismatch::Class) | None if is_reserved(claim, volume) => true,
        None => is_free(volume) && is_selected(claim, volume),
        Some(_) => false,
    }
}

fn is_free(volume: &PersistentVolume) -> bool {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let is_claimed = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
    !is_claimed && !matches!(phase, "Released" | "Failed")
}

fn is_selected(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_none_or(|selector| ownership::selects(selector, volume.metadata.labels.as_ref()))
}

/// Why a volume cannot be what a claim asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    Deleted,
    Size,
    Class,
    VolumeMode,
    AccessModes,
}

impl Mismatch {
    /// In the words of Kubernetes.
    pub(crate) fn words(self, volume: &PersistentVolume) -> String {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        match self {
            Self::Deleted => format!("the volume is marked for deletion {name:?}"),
            Self::Size => "requested PV is too small".to_owned(),
            Self::Class => "storageClassName does not match".to_owned(),
            Self::VolumeMode => "incompatible volumeMode".to_owned(),
            Self::AccessModes => "incompatible accessMode".to_owned(),
        }
    }
}

/// The first thing that keeps a claim from a volume, whoever the volume belongs to. The class comes last.
pub(crate) fn mismatch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<Mismatch> {
    let (wanted, spec) = (claim.spec.as_ref()?, volume.spec.as_ref()?);
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let class = |class: &Option<String>| class.clone().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let faults = [
        (volume.metadata.deletion_timestamp.is_some(), Mismatch::Deleted),
        (capacity(volume) < requested(claim), Mismatch::Size),
        (mode(&wanted.volume_mode) != mode(&spec.volume_mode), Mismatch::VolumeMode),
        (!wanted.access_modes.iter().flatten().all(|mode| modes.contains(mode)), Mismatch::AccessModes),
        (class(&wanted.storage_class_name) != class(&spec.storage_class_name), Mismatch::Class),
    ];
    faults.into_iter().find(|(is_fault, _)| *is_fault).map(|(_, fault)| fault)
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
            volume("block", "1Gi", json!({"volumeMode": "Block", "storageClassName": "b"})),
        ];
        let name = |extra: Value, node: Option<&Node>| {
            find(&claim(extra), &volumes, node).map(|found| found.name_any())
        };
        for (extra, expected) in [
            (json!({}), Some("local")),
            (json!({"selector": {"matchLabels": {"disk": "large"}}}), Some("large")),
            (json!({"accessModes": ["ReadWriteMany"]}), None),
            (json!({"storageClassName": "b"}), None),
            (json!({"storageClassName": "b", "volumeMode": "Block"}), Some("block")),
            (json!({"resources": {"requests": {"storage": "6Gi"}}}), None),
        ] {
            assert_eq!(name(extra.clone(), None).as_deref(), expected, "{extra}");
        }
        assert_eq!(name(json!({}), Some(&node)).as_deref(), Some("large"));
    }

    #[test]
    fn what_is_set_aside_is_taken_whatever_its_class() {
        let reserved = |size: &str, extra: Value| {
            let mut all = json!({"claimRef": {"name": "c", "namespace": "n"}, "storageClassName": "other"});
            all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            [volume("free", "1Gi", json!({})), volume("reserved", size, all)]
        };
        let labelled = json!({"selector": {"matchLabels": {"disk": "free"}}});
        let name = |volumes: &[Arc<PersistentVolume>], claim: &PersistentVolumeClaim, node: Option<&Node>| {
            find(claim, volumes, node).map(|found| found.name_any())
        };
        let plain = claim(json!({}));
        assert_eq!(name(&reserved("9Gi", json!({})), &plain, None).as_deref(), Some("reserved"));
        assert_eq!(name(&reserved("9Gi", json!({})), &claim(labelled), None).as_deref(), Some("reserved"));
        assert_eq!(name(&reserved("1Mi", json!({})), &plain, None).as_deref(), Some("free"), "too small");
        let block = json!({"volumeMode": "Block"});
        assert_eq!(name(&reserved("9Gi", block), &plain, None).as_deref(), Some("free"));
        let far = json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
            [{"key": "host", "operator": "In", "values": ["a"]}]}]}}});
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "b"}})).unwrap();
        assert_eq!(name(&reserved("9Gi", far), &plain, Some(&node)), None, "no other in its place");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let found = |claimed: Value, size: &str, extra: Value| {
            let volume = volume("v", size, extra);
            mismatch(&claim(claimed), &volume).map(|fault| fault.words(&volume))
        };
        let none = || json!({});
        assert_eq!(found(none(), "1Gi", none()), None);
        for (claimed, size, extra, expected) in [
            (none(), "1Mi", none(), "requested PV is too small"),
            (json!({"storageClassName": "x"}), "1Gi", none(), "storageClassName does not match"),
            (json!({"volumeMode": "Block"}), "1Gi", none(), "incompatible volumeMode"),
            (json!({"accessModes": ["ReadWriteMany"]}), "1Gi", none(), "incompatible accessMode"),
        ] {
            assert_eq!(found(claimed, size, extra).as_deref(), Some(expected));
        }
    }
}

//! Volumes made on demand: a directory below the node's own data, usable on that node only.
//!
//! The node's agent names that place in an annotation and removes the directory when the volume goes; a finalizer
//! keeps the volume until it has.

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

/// Who makes the volumes of the default class.
pub(crate) const PROVISIONER: &str = "knarr.io/local-path";
/// On a node: the directory its volumes are in.
const DIRECTORY: &str = "knarr.io/volumes-dir";
const FINALIZER: &str = "knarr.io/local-volume";
const USUAL_DIRECTORY: &str = "/var/lib/knarr/volumes";

/// The volume for a claim on a node, or why there can be none.
pub(super) fn volume(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &Node,
) -> Result<PersistentVolume, String> {
    let wanted = claim.spec.clone().unwrap_or_default();
    if wanted.volume_mode.as_deref() == Some("Block") {
        return Err(refusal(class, "block volumes are not supported"));
    }
    if wanted.selector.is_some() {
        return Err(refusal(class, "claim.Spec.Selector is not supported"));
    }
    let name = format!("pvc-{}", claim.uid().unwrap_or_default());
    let place = node.annotations().get(DIRECTORY);
    let directory = place.map_or(USUAL_DIRECTORY, String::as_str).trim_end_matches('/');
    let path = format!("{directory}/{name}_{}_{}", claim.namespace().unwrap_or_default(), claim.name_any());
    let metadata = ObjectMeta {
        name: Some(name),
        annotations: Some([("pv.kubernetes.io/provisioned-by".to_owned(), PROVISIONER.to_owned())].into()),
        // Without an agent that removes directories the volume could never go.
        finalizers: place.map(|_| vec![FINALIZER.to_owned()]),
        ..ObjectMeta::default()
    };
    let spec = PersistentVolumeSpec {
        access_modes: wanted.access_modes,
        capacity: wanted.resources.and_then(|resources| resources.requests),
        claim_ref: Some(reference(claim)),
        host_path: Some(HostPathVolumeSource { path, type_: Some("DirectoryOrCreate".to_owned()) }),
        mount_options: class.mount_options.clone(),
        node_affinity: Some(VolumeNodeAffinity { required: Some(only(node)) }),
        persistent_volume_reclaim_policy: class.reclaim_policy.clone(),
        storage_class_name: class.metadata.name.clone(),
        volume_mode: Some("Filesystem".to_owned()),
        ..PersistentVolumeSpec::default()
    };
    Ok(PersistentVolume { metadata, spec: Some(spec), status: None })
}

fn refusal(class: &StorageClass, why: &str) -> String {
    format!("failed to provision volume with StorageClass {:?}: {why}", class.name_any())
}

/// The claim, as its volume names it.
pub(super) fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        name: claim.metadata.name.clone(),
        namespace: claim.metadata.namespace.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        field_path: None,
    }
}

fn only(node: &Node) -> NodeSelector {
    let host = node.labels().get("kubernetes.io/hostname").cloned().unwrap_or_else(|| node.name_any());
    let requirement = NodeSelectorRequirement {
        key: "kubernetes.io/hostname".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![host]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    NodeSelector { node_selector_terms: vec![term] }
}

/// The class that claims without one get.
pub(crate) fn default_class() -> StorageClass {
    let mark = ("storageclass.kubernetes.io/is-default-class".to_owned(), "true".to_owned());
    StorageClass {
        metadata: ObjectMeta {
            name: Some("local-path".to_owned()),
            annotations: Some([mark].into()),
            ..ObjectMeta::default()
        },
        provisioner: PROVISIONER.to_owned(),
        reclaim_policy: Some("Delete".to_owned()),
        volume_binding_mode: Some("WaitForFirstConsumer".to_owned()),
        ..StorageClass::default()
    }
}

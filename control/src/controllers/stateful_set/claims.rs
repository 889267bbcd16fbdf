//! The claims of a stateful set's pods: one per template and ordinal, `www-web-0`, kept when the pod goes unless the
//! set's retention policy says otherwise.

use crate::controllers::ownership;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

/// The claims that the pod of one ordinal mounts.
pub(super) fn of(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let templates = spec.volume_claim_templates.iter().flatten();
    templates
        .map(|template| {
            let mut labels = template.metadata.labels.clone().unwrap_or_default();
            labels.extend(spec.selector.match_labels.clone().into_iter().flatten());
            let mut metadata = ObjectMeta {
                name: Some(name(set, &template.name_any(), ordinal)),
                namespace: set.namespace(),
                labels: Some(labels),
                annotations: template.metadata.annotations.clone(),
                ..ObjectMeta::default()
            };
            let owners = owners(set, None, &metadata);
            metadata.owner_references = Some(owners.to_vec()).filter(|owners| !owners.is_empty());
            PersistentVolumeClaim { metadata, spec: template.spec.clone(), status: None }
        })
        .collect()
}

/// The name of one claim.
pub(super) fn name(set: &StatefulSet, template: &str, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", set.name_any())
}

/// The owners a claim should have: those that are not ours, the set if its claims go with it, and `going`, the pod
/// that is scaled away, if claims go with that.
pub(super) fn owners(set: &StatefulSet, going: Option<&Pod>, claim: &ObjectMeta) -> Vec<OwnerReference> {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |choice: Option<&String>| choice.is_some_and(|choice| choice == "Delete");
    let with_set = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    let with_pod = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let pods = format!("{}-", set.name_any());
    let ours = |owner: &&OwnerReference| {
        Some(&owner.uid) == set.metadata.uid.as_ref()
            || (owner.kind == "Pod" && owner.name.starts_with(&pods))
    };
    let mut owners: Vec<OwnerReference> =
        claim.owner_references.iter().flatten().filter(|owner| !ours(owner)).cloned().collect();
    match going {
        Some(pod) if with_pod => {
            let mut owner = ownership::controlled_by(pod);
            owner.controller = None;
            owner.block_owner_deletion = None;
            owners.push(owner);
        }
        _ if with_set => owners.push(ownership::controlled_by(set)),
        _ => {}
    }
    owners
}

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
            let owners = owners(set, Member { ordinal, pod: None, goes: false }, &metadata);
            metadata.owner_references = Some(owners.to_vec()).filter(|owners| !owners.is_empty());
            PersistentVolumeClaim { metadata, spec: template.spec.clone(), status: None }
        })
        .collect()
}

/// The name of one claim.
pub(super) fn name(set: &StatefulSet, template: &str, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", set.name_any())
}

/// The ordinal a claim belongs to, the pod that is there, and whether it is scaled away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) ordinal: i32,
    pub(super) pod: Option<&'a Pod>,
    pub(super) goes: bool,
}

/// The owners a claim should have: those that are not ours, and the set if its claims go with it, or the pod that is
/// scaled away if they go with that. One that belongs to an earlier set or pod of the same name is left to go with it,
/// and another controller is not joined.
pub(super) fn owners(set: &StatefulSet, member: Member<'_>, claim: &ObjectMeta) -> Vec<OwnerReference> {
    let owners = claim.owner_references.as_deref().unwrap_or_default();
    let name = pod_name(set, member.ordinal);
    let of_set = |owner: &OwnerReference| owner.kind == "StatefulSet" && owner.name == set.name_any();
    let of_pod = |owner: &OwnerReference| owner.kind == "Pod" && owner.name == name;
    let is_stale = |owner: &OwnerReference| {
        (of_set(owner) && Some(&owner.uid) != set.metadata.uid.as_ref())
            || (of_pod(owner) && Some(&owner.uid) != member.pod.and_then(|pod| pod.metadata.uid.as_ref()))
    };
    if owners.iter().any(is_stale) {
        return owners.to_vec();
    }
    let others = owners.iter().filter(|owner| !of_set(owner) && !of_pod(owner));
    let mut others: Vec<OwnerReference> = others.cloned().collect();
    if others.iter().any(|owner| owner.controller == Some(true)) {
        return others;
    }
    let (with_set, with_pod) = policy(set);
    match member.pod.filter(|_| member.goes) {
        Some(pod) if with_pod => others.push(ownership::controlled_by(pod)),
        _ if with_set => others.push(ownership::controlled_by(set)),
        _ => {}
    }
    others
}

/// Whether claims go with the set, and with a pod that is scaled away.
fn policy(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |choice: Option<&String>| choice.is_some_and(|choice| choice == "Delete");
    (
        deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
        deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
    )
}

fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name_any())
}

/// Why a claim that is there is none for a new pod of this ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    Going,
    /// It goes with the pod of that name that was there before.
    OfAnother,
}

/// Whether a new pod has to wait until a claim is gone.
pub(super) fn unfit(set: &StatefulSet, ordinal: i32, claim: &ObjectMeta) -> Option<Unfit> {
    let name = pod_name(set, ordinal);
    let mut owners = claim.owner_references.iter().flatten();
    if policy(set).1 && owners.any(|owner| owner.kind == "Pod" && owner.name == name) {
        return Some(Unfit::OfAnother);
    }
    claim.deletion_timestamp.is_some().then_some(Unfit::Going)
}

/// The ordinal of the set's pod that a claim of this name belongs to.
pub(super) fn ordinal_of(set: &StatefulSet, claim: &str) -> Option<i32> {
    let templates = set.spec.as_ref()?.volume_claim_templates.iter().flatten();
    templates.into_iter().find_map(|template| {
        let rest = claim.strip_prefix(&format!("{}-{}-", template.name_any(), set.name_any()))?;
        rest.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(deleted: &str, scaled: &str) -> StatefulSet {
        let spec = json!({"serviceName": "s", "selector": {}, "template": {},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled},
            "volumeClaimTemplates": [{"metadata": {"name": "www"}}]});
        serde_json::from_value(json!({"metadata": {"name": "web", "uid": "set"}, "spec": spec})).unwrap()
    }

    fn owner(kind: &str, name: &str, uid: &str) -> Value {
        let version = if kind == "Pod" { "v1" } else { "apps/v1" };
        json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true})
    }

    fn claim(owners: &[Value]) -> ObjectMeta {
        serde_json::from_value(json!({"name": "www-web-1", "ownerReferences": owners})).unwrap()
    }

    #[test]
    fn claims_belong_to_what_they_go_with() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-1", "uid": "pod"}})).unwrap();
        let (of_set, of_pod) = (owner("StatefulSet", "web", "set"), owner("Pod", "web-1", "pod"));
        let (early_set, early_pod) = (owner("StatefulSet", "web", "early"), owner("Pod", "web-1", "early"));
        let (foreign, mut weak) = (owner("Backup", "b", "b"), of_pod.clone());
        weak["controller"] = Value::Null;
        let one = std::slice::from_ref::<Value>;
        for (policy, goes, before, after) in [
            (("Retain", "Retain"), false, &[][..], vec![]),
            (("Retain", "Retain"), true, &[of_set.clone(), of_pod.clone()], vec![]),
            (("Delete", "Retain"), false, &[], vec![&of_set]),
            (("Delete", "Retain"), true, one(&of_set), vec![&of_set]),
            (("Retain", "Delete"), false, one(&of_pod), vec![]),
            (("Retain", "Delete"), true, &[], vec![&of_pod]),
            (("Retain", "Delete"), true, one(&weak), vec![&of_pod]),
            (("Delete", "Delete"), false, one(&of_pod), vec![&of_set]),
            (("Delete", "Delete"), true, one(&of_set), vec![&of_pod]),
            (("Delete", "Delete"), true, one(&early_set), vec![&early_set]),
            (("Delete", "Delete"), false, one(&early_pod), vec![&early_pod]),
            (("Delete", "Delete"), false, &[foreign.clone(), of_set.clone()], vec![&foreign]),
        ] {
            let member = Member { ordinal: 1, pod: Some(&pod), goes };
            let owners = owners(&set(policy.0, policy.1), member, &claim(before));
            assert_eq!(json!(owners), json!(after), "{policy:?} {goes} {before:?}");
        }
    }

    #[test]
    fn a_new_pod_waits_for_claims_that_go() {
        let early = claim(&[owner("Pod", "web-1", "early")]);
        assert_eq!(unfit(&set("Retain", "Delete"), 1, &early), Some(Unfit::OfAnother));
        assert_eq!(unfit(&set("Retain", "Retain"), 1, &early), None);
        let mut going = claim(&[]);
        assert_eq!(unfit(&set("Retain", "Delete"), 1, &going), None);
        going.deletion_timestamp = Some(serde_json::from_value("2026-01-01T00:00:00Z".into()).unwrap());
        assert_eq!(unfit(&set("Retain", "Retain"), 1, &going), Some(Unfit::Going));
        let set = set("Retain", "Retain");
        let ordinals = ["www-web-1", "www-web-12", "www-web-x", "data-web-1", "www-other-1"];
        assert_eq!(ordinals.map(|name| ordinal_of(&set, name)), [Some(1), Some(12), None, None, None]);
    }
}

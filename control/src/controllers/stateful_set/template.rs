//! The pod of a stateful set: the template with a name, a host name, labels and volumes that belong to its ordinal.

use super::claims;
use crate::controllers::history::LABEL;
use crate::controllers::pod_control::pod_of;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodSpec, PodTemplateSpec, Volume};
use kube::ResourceExt;
use std::collections::BTreeMap;

/// The pod of one ordinal, of the template of `revision`.
pub(super) fn pod(set: &StatefulSet, template: PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = pod_of(set, template);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name(set, ordinal));
    pod.labels_mut().extend(identity(set, ordinal));
    pod.labels_mut().insert(LABEL.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name(set, ordinal));
    spec.subdomain =
        set.spec.as_ref().and_then(|spec| spec.service_name.clone()).filter(|name| !name.is_empty());
    mount_claims(set, spec, ordinal);
    pod
}

/// Labels by which others find the pod of one ordinal.
pub(super) fn identity(set: &StatefulSet, ordinal: i32) -> BTreeMap<String, String> {
    [
        ("statefulset.kubernetes.io/pod-name".to_owned(), name(set, ordinal)),
        ("apps.kubernetes.io/pod-index".to_owned(), ordinal.to_string()),
    ]
    .into()
}

fn name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name_any())
}

/// A claim stands in for a volume of the same name.
fn mount_claims(set: &StatefulSet, spec: &mut PodSpec, ordinal: i32) {
    let templates = set.spec.iter().flat_map(|spec| spec.volume_claim_templates.iter().flatten());
    let mut volumes: Vec<Volume> = templates
        .map(|template| {
            let claim_name = claims::name(set, &template.name_any(), ordinal);
            let claim = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
            Volume { name: template.name_any(), persistent_volume_claim: Some(claim), ..Volume::default() }
        })
        .collect();
    let others = spec.volumes.take().unwrap_or_default();
    let is_claim = |volume: &Volume| volumes.iter().any(|claim| claim.name == volume.name);
    let others: Vec<Volume> = others.into_iter().filter(|volume| !is_claim(volume)).collect();
    volumes.extend(others);
    spec.volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
}

/// The ordinal of a pod, if its name is one of this set's.
pub(super) fn ordinal_of(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let name = pod.metadata.name.as_deref()?;
    let number = name.strip_prefix(&set.name_any())?.strip_prefix('-')?;
    number.parse().ok().filter(|ordinal: &i32| *ordinal >= 0 && ordinal.to_string() == number)
}

//! The pod of a job: the template with the counting finalizer, and for an indexed job its index in name, host name,
//! annotation, label and environment.

use super::per_index::Failures;
use super::tracking::FINALIZER;
use crate::controllers::pod_control::pod_of;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodSpec};
use kube::ResourceExt;

/// The index, as annotation and as label.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// A pod of the job; `failures` is how often its index has failed, where that is limited.
pub(super) fn pod(job: &Job, index: Option<i32>, failures: Option<Failures>) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = pod_of(job, template);
    pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
    if let Some(index) = index {
        number(job, &mut pod, index);
    }
    if let Some(failures) = failures {
        pod.annotations_mut().insert(FAILURES.to_owned(), failures.counted.to_string());
        if failures.ignored > 0 {
            pod.annotations_mut().insert(IGNORED.to_owned(), failures.ignored.to_string());
        }
    }
    pod
}

fn number(job: &Job, pod: &mut Pod, index: i32) {
    let name = format!("{}-{index}", job.name_any());
    pod.metadata.generate_name = Some(format!("{name}-"));
    pod.annotations_mut().insert(INDEX.to_owned(), index.to_string());
    pod.labels_mut().insert(INDEX.to_owned(), index.to_string());
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(name);
        containers(spec).for_each(tell_index);
    }
}

fn containers(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten())
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == VARIABLE) {
        return;
    }
    let field =
        ObjectFieldSelector { api_version: None, field_path: format!("metadata.annotations['{INDEX}']") };
    variables.push(EnvVar {
        name: VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    });
}

/// The index of a pod.
pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    pod.annotations().get(INDEX)?.parse().ok()
}

/// How often the index of a pod had failed before it.
pub(super) fn failures_of(pod: &Pod) -> Failures {
    let count = |name| pod.annotations().get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    Failures { counted: count(FAILURES), ignored: count(IGNORED) }
}

//! The template from which a workload makes pods: `spec.template` of deployments, jobs and their like.

use super::faults::Faults;
use super::{fields, pod_spec, validation};
use serde_json::{Map, Value};

/// Defaults of `template` inside the spec of a workload.
pub(super) fn defaults(workload_spec: &mut Value) {
    let template = fields::child(workload_spec, "template");
    if let Some(spec) = template.and_then(|template| fields::child(template, "spec")) {
        pod_spec::template_defaults(spec);
    }
}

/// Every fault of the template at the dotted `path` of `object`.
pub(super) fn validate_lasting(object: &Value, path: &str, kind: &str, faults: &mut Faults) {
    validate(object, path, &["Always"], faults);
    let field = format!("{path}.spec.activeDeadlineSeconds");
    if validation::at(object, &field).is_some_and(|found| !found.is_null()) {
        faults.forbidden(field, &format!("activeDeadlineSeconds in {kind} is not Supported"));
    }
}

/// Every fault of the template at the dotted `path`.
pub(super) fn validate(object: &Value, path: &str, restart_policies: &[&str], faults: &mut Faults) {
    let empty = Value::Object(Map::new());
    validation::labels(object, &format!("{path}.metadata.labels"), faults);
    let spec = validation::at(object, &format!("{path}.spec")).unwrap_or(&empty);
    pod_spec::validate(spec, &format!("{path}.spec"), restart_policies, faults);
    if !fields::list(spec, "/ephemeralContainers").is_empty() {
        let field = format!("{path}.spec.ephemeralContainers");
        faults.forbidden(field, "ephemeral containers not allowed in pod template");
    }
}

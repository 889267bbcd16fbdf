//! Ingress classes: which program serves which ingresses.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, ingress_backends, validation};
use knarr_api::names;
use serde_json::{Value, json};

/// As long as the name of a controller may be, bytes.
const MAX_CONTROLLER: usize = 250;

pub(super) fn row() -> Resource {
    Row::cluster("networking.k8s.io", "v1", "IngressClass", "ingressclasses")
        .columns(vec![
            name(),
            text("Controller", "The program.", |object| fields::text(object, "/spec/controller").to_owned()),
            text("Parameters", "Its settings.", |object| {
                let part =
                    |field: &str| fields::text(object, &format!("/spec/parameters/{field}")).to_owned();
                match (part("apiGroup"), part("kind")) {
                    (_, kind) if kind.is_empty() => cells::NONE.to_owned(),
                    (group, kind) if group.is_empty() => format!("{kind}/{}", part("name")),
                    (group, kind) => format!("{kind}.{group}/{}", part("name")),
                }
            }),
            age(),
        ])
        .rules(Rules { has_generation: true, defaults, validate, validate_update, ..Rules::NONE })
        .done()
}

fn defaults(class: &mut Value) {
    if let Some(parameters) = class.pointer_mut("/spec/parameters") {
        fields::fill_text(parameters, "scope", "Cluster");
    }
}

fn validate(class: &Value, faults: &mut Faults) {
    match fields::text(class, "/spec/controller") {
        "" => faults.required("spec.controller", ""),
        controller if controller.len() > MAX_CONTROLLER => faults.too_long("spec.controller", MAX_CONTROLLER),
        controller => validation::domain_path("spec.controller", controller, faults),
    }
    let Some(parameters) = class.pointer("/spec/parameters") else { return };
    ingress_backends::reference(parameters, "spec.parameters", faults);
    let (scope, namespace) = (fields::text(parameters, "/scope"), fields::text(parameters, "/namespace"));
    match (scope, namespace) {
        ("Namespace", "") => {
            faults.required("spec.parameters.namespace", "`parameters.scope` is set to 'Namespace'");
        }
        ("Namespace", namespace) => {
            validation::named("spec.parameters.namespace", namespace, names::dns1123_label, faults);
        }
        ("Cluster", "") => {}
        ("Cluster", _) => {
            faults.forbidden("spec.parameters.namespace", "`parameters.scope` is set to 'Cluster'");
        }
        (other, _) => faults.not_supported("spec.parameters.scope", other, &["Cluster", "Namespace"]),
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let controller = |class: &Value| json!(fields::text(class, "/spec/controller"));
    if controller(new) != controller(old) {
        faults.immutable("spec.controller", &controller(new));
    }
}

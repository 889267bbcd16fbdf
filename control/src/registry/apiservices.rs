//! API services: which group versions this server serves itself.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, validation};
use crate::server::now;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use knarr_api::names;
use serde_json::{Value, json};

pub(super) fn row() -> Resource {
    Row::cluster("apiregistration.k8s.io", "v1", "APIService", "apiservices")
        .category("api-extensions")
        .status()
        .columns(vec![
            name(),
            text("Service", "Who serves it.", |object| {
                let part = |field: &str| fields::text(object, &format!("/spec/service/{field}")).to_owned();
                if object.pointer("/spec/service").is_some() {
                    format!("{}/{}", part("namespace"), part("name"))
                } else {
                    "Local".to_owned()
                }
            }),
            text("Available", "Whether it answers.", available),
            age(),
        ])
        .rules(Rules {
            name: knarr_api::names::path_segment,
            defaults,
            on_create,
            validate,
            validate_status_update,
            ..Rules::NONE
        })
        .done()
}

fn defaults(object: &mut Value) {
    if let Some(service) = object.pointer_mut("/spec/service").filter(|service| service.is_object()) {
        fields::fill_int(service, "port", 443);
    }
}

fn available(object: &Value) -> String {
    match cells::condition(object, "Available") {
        None => "Unknown".to_owned(),
        Some(condition) if fields::text(condition, "/status") == "True" => "True".to_owned(),
        Some(condition) => {
            format!("{} ({})", fields::text(condition, "/status"), fields::text(condition, "/reason"))
        }
    }
}

/// What we serve ourselves is there at once.
fn on_create(object: &mut Value) {
    if object.pointer("/spec/service").is_none_or(Value::is_null) {
        object["status"]["conditions"] = json!([{
            "type": "Available", "status": "True", "reason": "Local", "lastTransitionTime": now(),
            "message": "Local APIServices are always available",
        }]);
    }
}

fn validate(object: &Value, faults: &mut Faults) {
    let text = |path: &str| fields::text(object, path);
    let (group, version) = (text("/spec/group"), text("/spec/version"));
    let wanted = format!("{version}.{group}");
    if text("/metadata/name") != wanted {
        let rule = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        faults.invalid("metadata.name", &object["metadata"]["name"], &rule);
    }
    if group.is_empty() && version != "v1" {
        faults.required("spec.group", "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        validation::named("spec.group", group, names::dns1123_subdomain, faults);
    }
    validation::named("spec.version", version, names::dns1035_label, faults);
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = fields::int(object, &format!("/spec/{field}")).unwrap_or(0);
        if priority <= 0 || priority > most {
            let rule = format!("must be positive and less than {most}");
            faults.invalid(format!("spec.{field}"), &json!(priority), &rule);
        }
    }
    validate_service(object, faults);
}

fn validate_service(object: &Value, faults: &mut Faults) {
    let bundle = fields::text(object, "/spec/caBundle");
    let skips = object["spec"]["insecureSkipTLSVerify"] == true;
    let Some(service) = object.pointer("/spec/service").filter(|service| service.is_object()) else {
        if !bundle.is_empty() {
            let size = STANDARD.decode(bundle).map_or(0, |bytes| bytes.len());
            let rule = "local APIServices may not have a caBundle";
            faults.invalid("spec.caBundle", &json!(format!("{size} bytes")), rule);
        }
        if skips {
            let rule = "local APIServices may not have insecureSkipTLSVerify";
            faults.invalid("spec.insecureSkipTLSVerify", &json!(true), rule);
        }
        return;
    };
    for field in ["namespace", "name"] {
        if fields::text(service, &format!("/{field}")).is_empty() {
            faults.required(format!("spec.service.{field}"), "");
        }
    }
    let port = fields::int(service, "/port").unwrap_or(0);
    if !(1..=65535).contains(&port) {
        let rule = "port is not valid: must be between 1 and 65535, inclusive";
        faults.invalid("spec.service.port", &json!(port), rule);
    }
    if skips && !bundle.is_empty() {
        faults.invalid("spec.insecureSkipTLSVerify", &json!(true), "may not be true if caBundle is present");
    }
}

fn validate_status_update(object: &Value, _: &Value, faults: &mut Faults) {
    const STATES: [&str; 3] = ["False", "True", "Unknown"];
    for (index, condition) in fields::list(object, "/status/conditions").iter().enumerate() {
        let status = fields::text(condition, "/status");
        if !STATES.contains(&status) {
            faults.not_supported(format!("status.conditions[{index}].status"), status, &STATES);
        }
    }
}

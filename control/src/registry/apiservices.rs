//! API services: which group versions this server serves itself.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, fields};
use serde_json::Value;

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
        .rules(Rules { name: knarr_api::names::path_segment, defaults, ..Rules::NONE })
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

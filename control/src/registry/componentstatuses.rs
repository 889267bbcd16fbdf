//! Component statuses: whether the parts of the control plane work. Made when asked for, never stored.

use super::columns::{name, text};
use super::row::Row;
use super::{Resource, fields};

pub(super) fn row() -> Resource {
    Row::cluster("", "v1", "ComponentStatus", "componentstatuses")
        .short(&["cs"])
        .verbs(&["get", "list"])
        .columns(vec![
            name(),
            text("Status", "Whether it works.", |object| {
                match fields::text(object, "/conditions/0/status") {
                    "True" => "Healthy".to_owned(),
                    "False" => "Unhealthy".to_owned(),
                    _ => "Unknown".to_owned(),
                }
            }),
            text("Message", "What it says.", |object| {
                fields::text(object, "/conditions/0/message").to_owned()
            }),
            text("Error", "Why it does not work.", |object| {
                fields::text(object, "/conditions/0/error").to_owned()
            }),
        ])
        .done()
}

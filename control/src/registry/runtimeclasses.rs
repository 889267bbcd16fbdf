//! Runtime classes: names for container runtimes that pods may choose.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation};
use serde_json::Value;

pub(super) fn row() -> Resource {
    Row::cluster("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
        .columns(vec![
            name(),
            text("Handler", "What the node calls the runtime.", |class| {
                fields::text(class, "/handler").to_owned()
            }),
            age(),
        ])
        .rules(Rules {
            validate: |class: &Value, faults: &mut Faults| match fields::text(class, "/handler") {
                "" => faults.required("handler", ""),
                handler => validation::dns_label("handler", handler, faults),
            },
            validate_update: |new, old, faults| validation::unchanged(new, old, "handler", faults),
            ..Rules::NONE
        })
        .done()
}

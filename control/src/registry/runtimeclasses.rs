//! Runtime classes: names for container runtimes that pods may choose.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{
    Resource, faults::Faults, fields, pod_placement, resource_names, resources, validation, warnings,
};
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
            validate,
            validate_update: |new, old, faults| validation::unchanged(new, old, "handler", faults),
            warnings: warn,
            ..Rules::NONE
        })
        .done()
}

fn validate(class: &Value, faults: &mut Faults) {
    match fields::text(class, "/handler") {
        "" => faults.required("handler", ""),
        handler => validation::dns_label("handler", handler, faults),
    }
    // Kubernetes names the field as if the amounts were limits.
    for (name, amount) in fields::pairs(class, "/overhead/podFixed") {
        let field = format!("overhead.limits[{name}]");
        resource_names::of_container(&field, name, faults);
        resources::amount_of(&field, name, amount, faults);
    }
    if let Some(scheduling) = class.get("scheduling") {
        validation::labels(class, "scheduling.nodeSelector", faults);
        pod_placement::tolerations(scheduling, "scheduling", faults);
    }
}

fn warn(class: &Value) -> Vec<String> {
    let labels = fields::pairs(class, "/scheduling/nodeSelector");
    labels.filter_map(|(key, _)| warnings::of_label(key, "scheduling.nodeSelector")).collect()
}

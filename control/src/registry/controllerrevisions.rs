//! Controller revisions: the templates that stateful and daemon sets had before.

use super::columns::{age, integer, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, validation};
use serde_json::Value;

pub(super) fn row() -> Resource {
    Row::namespaced("apps", "v1", "ControllerRevision", "controllerrevisions")
        .columns(vec![
            name(),
            text("Controller", "Whose template it is.", controller),
            integer("Revision", "Its number in the order of changes.", |object| {
                fields::int(object, "/revision").unwrap_or(0)
            }),
            age(),
        ])
        .rules(Rules { validate, validate_update, ..Rules::NONE })
        .done()
}

fn controller(object: &Value) -> String {
    let owners = fields::list(object, "/metadata/ownerReferences");
    let Some(owner) = owners.iter().find(|owner| fields::flag(owner, "/controller")) else {
        return cells::NONE.to_owned();
    };
    let group = fields::text(owner, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    let kind = fields::text(owner, "/kind").to_lowercase();
    let dot = if group.is_empty() { "" } else { "." };
    format!("{kind}{dot}{group}/{}", fields::text(owner, "/name"))
}

fn validate(object: &Value, faults: &mut Faults) {
    validation::not_negative(object, "revision", faults);
    if object.get("data").is_none() {
        faults.required("data", "data is mandatory");
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    validation::unchanged(new, old, "data", faults);
}

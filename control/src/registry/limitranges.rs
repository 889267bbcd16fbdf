//! Limit ranges: what pods of a namespace get when they do not say, and may not exceed.

use super::columns::{created_at, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, fields};
use serde_json::Value;

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "LimitRange", "limitranges")
        .short(&["limits"])
        .columns(vec![name(), created_at()])
        .rules(Rules { defaults, ..Rules::NONE })
        .done()
}

/// A limit that is not given is the largest one allowed, a request that is not given is the limit, else the smallest.
fn defaults(object: &mut Value) {
    let Some(spec) = fields::child(object, "spec") else { return };
    for item in fields::each(spec, "limits").filter(|item| fields::text(item, "/type") == "Container") {
        for (field, sources) in [("default", ["max", ""]), ("defaultRequest", ["default", "min"])] {
            for source in sources {
                let given = item.get(source).and_then(Value::as_object).cloned().unwrap_or_default();
                let Some(target) = fields::child(item, field) else { continue };
                for (name, amount) in given {
                    fields::fill(target, &name, amount);
                }
            }
        }
    }
}

//! CSI nodes: which storage drivers a node has.

use super::columns::{age, integer, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation, volume_sources};
use knarr_api::names;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(super) fn row() -> Resource {
    Row::cluster("storage.k8s.io", "v1", "CSINode", "csinodes")
        .columns(vec![
            name(),
            integer("Drivers", "Number of drivers.", |object| {
                fields::list(object, "/spec/drivers").len() as i64
            }),
            age(),
        ])
        .rules(Rules { validate, ..Rules::NONE })
        .done()
}

fn validate(node: &Value, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, driver) in fields::list(node, "/spec/drivers").iter().enumerate() {
        let path = format!("spec.drivers[{index}]");
        let name = fields::text(driver, "/name");
        volume_sources::driver(name, &format!("{path}.name"), faults);
        volume_sources::needed(driver, &["nodeID"], &path, faults);
        if !seen.insert(name) {
            faults.duplicate(format!("{path}.name"), &json!(name));
        }
        let keys = fields::list(driver, "/topologyKeys");
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].contains(key) {
                faults.duplicate(path.as_str(), key);
            }
            let key = key.as_str().unwrap_or_default();
            if key.is_empty() {
                faults.required(path.as_str(), "");
            }
            validation::named(&path, key, names::qualified_name, faults);
        }
    }
}

//! CSI storage capacities: how much room a driver has left for a class. Kubernetes has no columns of its own for them.

use super::columns::{created_at, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, resources, validation};
use knarr_api::names;
use serde_json::Value;

pub(super) fn row() -> Resource {
    Row::namespaced("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities")
        .columns(vec![name(), created_at()])
        .rules(Rules { validate, validate_update, ..Rules::NONE })
        .done()
}

fn validate(capacity: &Value, faults: &mut Faults) {
    let class = fields::text(capacity, "/storageClassName");
    validation::named("storageClassName", class, names::dns1123_subdomain, faults);
    for field in ["capacity", "maximumVolumeSize"] {
        if let Some(amount) = capacity.get(field) {
            resources::amount_of(field, "storage", amount, faults);
        }
    }
    if let Some(nodes) = capacity.get("nodeTopology") {
        validation::label_selector(nodes, "nodeTopology", faults);
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    for field in ["nodeTopology", "storageClassName"] {
        validation::unchanged(new, old, field, faults);
    }
}

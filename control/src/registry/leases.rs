//! Leases: heartbeats of nodes and the chair of leader elections.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields};
use serde_json::{Value, json};

pub(super) fn row() -> Resource {
    Row::namespaced("coordination.k8s.io", "v1", "Lease", "leases")
        .columns(vec![
            name(),
            text("Holder", "Who holds it.", |lease| fields::text(lease, "/spec/holderIdentity").to_owned()),
            age(),
        ])
        .rules(Rules { validate, ..Rules::NONE })
        .done()
}

fn validate(lease: &Value, faults: &mut Faults) {
    for field in ["leaseDurationSeconds", "leaseTransitions"] {
        let least = i64::from(field == "leaseDurationSeconds");
        if let Some(value) = fields::int(lease, &format!("/spec/{field}")).filter(|value| *value < least) {
            let rule =
                if least == 1 { "must be greater than 0" } else { "must be greater than or equal to 0" };
            faults.invalid(format!("spec.{field}"), &json!(value), rule);
        }
    }
}

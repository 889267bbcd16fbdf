//! Certificate signing requests: a key that wants a certificate of the cluster.

use super::cells::NONE;
use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, certificate_rules, faults::Faults, fields};
use serde_json::Value;

pub(super) fn row() -> Resource {
    Row::cluster("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests")
        .short(&["csr"])
        .status()
        .part("approval")
        .columns(vec![
            name(),
            age(),
            text("SignerName", "Who should sign.", |request| {
                fields::text(request, "/spec/signerName").to_owned()
            }),
            text("Requestor", "Who asks.", |request| fields::text(request, "/spec/username").to_owned()),
            text("RequestedDuration", "How long it should be valid.", |request| {
                fields::int(request, "/spec/expirationSeconds")
                    .map_or_else(|| NONE.to_owned(), cells::duration)
            }),
            text("Condition", "How far it is.", condition),
        ])
        .rules(Rules {
            validate_create: certificate_rules::validate_new,
            validate_update: certificate_rules::validate_update,
            validate_status_update,
            selectable,
            on_part,
            ..Rules::NONE
        })
        .done()
}

fn condition(request: &Value) -> String {
    let held = |kind: &str| cells::condition(request, kind).is_some();
    let mut words = match (held("Approved"), held("Denied")) {
        (_, true) => "Denied",
        (true, false) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if held("Failed") {
        words.push_str(",Failed");
    }
    if !fields::text(request, "/status/certificate").is_empty() {
        words.push_str(",Issued");
    }
    words
}

/// Through `/approval` go the conditions that decide, nothing else.
fn on_part(part: &str, new: &Value, result: &mut Value, faults: &mut Faults) {
    if part != "approval" {
        return;
    }
    let old = result.clone();
    let mut conditions = Value::from(fields::list(new, "/status/conditions").to_vec());
    let known = fields::list(&old, "/status/conditions");
    let now = crate::server::now();
    for condition in conditions.as_array_mut().into_iter().flatten() {
        // A condition that stays keeps its times, also where the client left them out.
        if let Some(same) = known.iter().find(|old| old.get("type") == condition.get("type")) {
            fields::copy_missing(condition, same, &["lastUpdateTime", "lastTransitionTime"]);
        }
        fields::fill(condition, "lastUpdateTime", now.clone());
        fields::fill(condition, "lastTransitionTime", now.clone());
    }
    fields::set_in(result, "status", "conditions", conditions);
    certificate_rules::validate_status(result, faults);
    certificate_rules::validate_decisions(result, &old, true, faults);
}

fn validate_status_update(new: &Value, old: &Value, faults: &mut Faults) {
    certificate_rules::validate_status(new, faults);
    certificate_rules::validate_decisions(new, old, false, faults);
}

fn selectable(request: &Value, field: &str) -> Option<String> {
    (field == "spec.signerName").then(|| fields::text(request, "/spec/signerName").to_owned())
}

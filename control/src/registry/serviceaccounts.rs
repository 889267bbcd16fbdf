//! Service accounts: the identities of pods.

use super::columns::{age, integer, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, fields, warnings};
use serde_json::Value;

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "ServiceAccount", "serviceaccounts")
        .short(&["sa"])
        .subresource("token", Some(("authentication.k8s.io", "v1", "TokenRequest")), &["create"])
        .columns(vec![
            name(),
            integer("Secrets", "Number of secrets that its pods may use.", |object| {
                fields::list(object, "/secrets").len() as i64
            }),
            age(),
        ])
        .rules(Rules { warnings: warn, ..Rules::NONE })
        .done()
}

fn warn(account: &Value) -> Vec<String> {
    let key = "kubernetes.io/enforce-mountable-secrets";
    let words = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
    warnings::of_annotation(account, key, words).into_iter().collect()
}

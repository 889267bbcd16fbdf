//! Service accounts: the identities of pods.

use super::columns::{age, integer, name};
use super::row::Row;
use super::{Resource, fields};

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
        .done()
}

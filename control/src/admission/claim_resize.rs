//! A claim grows only once it is bound, and where its class says that its volumes can.

use super::{Operation, Write};
use crate::registry::fields;
use crate::server::Server;
use knarr_api::quantity::Quantity;
use knarr_api::{Status, meta};
use serde_json::Value;

const CLASSES: &str = "storage.k8s.io/storageclasses/";

pub(super) async fn check(server: &Server, write: Write<'_>, claim: &Value) -> Result<(), Status> {
    let Some(old) = write.old.filter(|_| write.operation == Operation::Update) else { return Ok(()) };
    if !write.is("", "persistentvolumeclaims") || asked(claim) <= asked(old) {
        return Ok(());
    }
    if fields::text(old, "/status/phase") != "Bound" {
        return Err(write.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let (class, before) = (class_of(claim), class_of(old));
    let class = match class.is_empty() || class != before {
        true => None,
        false => server.object_at(&format!("{CLASSES}{class}")).await?,
    };
    if class.is_some_and(|class| fields::flag(&class, "/allowVolumeExpansion")) {
        return Ok(());
    }
    Err(write.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}

fn asked(claim: &Value) -> Option<Quantity> {
    fields::text(claim, "/spec/resources/requests/storage").parse().ok()
}

fn class_of(claim: &Value) -> &str {
    let older = meta::annotation(claim, "volume.beta.kubernetes.io/storage-class");
    older.unwrap_or_else(|| fields::text(claim, "/spec/storageClassName"))
}

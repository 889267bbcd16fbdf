//! What kubectl applied before it let the server do so: `kubectl apply` without `--server-side` writes what it sent
//! into an annotation. Who goes over to `--server-side` takes these fields without a conflict, as long as nobody has
//! changed them since.

use super::{UNOWNED, Writer, owned_part, walk};
use crate::meta;
use crate::patch::PatchField;
use crate::patch::field_set::FieldSet;
use serde_json::Value;

/// Holds the configuration that was applied last, as JSON.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The one manager that goes over: others who find such fields conflict.
const KUBECTL: &str = "kubectl";

/// Fields of `live` that `writer` applied from its own side, and that still have the values it gave them.
pub(super) fn fields(live: &Value, writer: &Writer, field: &PatchField) -> FieldSet {
    let noted = meta::annotation(live, LAST_APPLIED).filter(|_| writer.manager == KUBECTL);
    let Some(applied) = noted.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return FieldSet::default();
    };
    if applied["apiVersion"] != writer.api_version {
        return FieldSet::default();
    }
    let since = walk::compare_owned(&applied, live, field, &UNOWNED);
    walk::fields_of(&owned_part(&applied), field).difference(&since.changed).difference(&since.removed)
}

//! A claim or volume in use is not taken from under its pods: both start with a finalizer, which a controller removes
//! once nobody uses them (`controllers/volume_protection.rs`).

use super::Write;
use knarr_api::meta;
use serde_json::Value;

/// What holds a claim.
pub(crate) const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
/// What holds a volume.
pub(crate) const OF_VOLUMES: &str = "kubernetes.io/pv-protection";

pub(super) fn fill_in(write: Write<'_>, object: &mut Value) {
    for (plural, finalizer) in [("persistentvolumeclaims", OF_CLAIMS), ("persistentvolumes", OF_VOLUMES)] {
        if write.creates("", plural) && !meta::finalizers(object).any(|found| found == finalizer) {
            let mut all: Vec<String> = meta::finalizers(object).map(str::to_owned).collect();
            all.push(finalizer.to_owned());
            meta::set_finalizers(object, all);
        }
    }
}

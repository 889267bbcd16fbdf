//! CSI storage capacities: how much room a driver has left for a class. Kubernetes has no columns of its own for them.

use super::Resource;
use super::columns::{created_at, name};
use super::row::Row;

pub(super) fn row() -> Resource {
    Row::namespaced("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities")
        .columns(vec![name(), created_at()])
        .done()
}

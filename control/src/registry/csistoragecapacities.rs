//! CSI storage capacities: how much room a driver has left for a class.

use super::columns::{age, name, text};
use super::row::Row;
use super::{Resource, cells, fields};

pub(super) fn row() -> Resource {
    Row::namespaced("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities")
        .columns(vec![
            name(),
            text("StorageClassName", "The class.", |object| {
                fields::text(object, "/storageClassName").to_owned()
            }),
            text("Capacity", "Room left.", |object| cells::int_or_text(object, "/capacity", "<unset>")),
            age(),
        ])
        .done()
}

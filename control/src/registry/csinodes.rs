//! CSI nodes: which storage drivers a node has.

use super::columns::{age, integer, name};
use super::row::Row;
use super::{Resource, fields};

pub(super) fn row() -> Resource {
    Row::cluster("storage.k8s.io", "v1", "CSINode", "csinodes")
        .columns(vec![
            name(),
            integer("Drivers", "Number of drivers.", |object| {
                fields::list(object, "/spec/drivers").len() as i64
            }),
            age(),
        ])
        .done()
}

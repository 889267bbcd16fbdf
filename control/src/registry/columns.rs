//! Making printer columns: the few shapes that the Tables of all kinds are composed of.

use super::cells;
use super::{Cell, Column, fields};
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;

impl Column {
    /// Shown with `-o wide` only.
    pub(super) fn wide(mut self) -> Column {
        self.priority = 1;
        self
    }
}

/// The identifying column of every kind.
pub(super) fn name() -> Column {
    let mut column = text("Name", "Name of the object, unique among its kind in its namespace.", |object| {
        fields::text(object, "/metadata/name").to_owned()
    });
    column.format = "name";
    column
}

/// The columns of `/scale`, whatever is scaled.
pub(crate) fn scale() -> Vec<Column> {
    vec![
        name(),
        integer("Desired", "Replicas that are asked for.", |scale| {
            fields::int(scale, "/spec/replicas").unwrap_or(0)
        }),
        integer("Available", "Replicas that are there.", |scale| {
            fields::int(scale, "/status/replicas").unwrap_or(0)
        }),
        age(),
    ]
}

/// How long the object has existed.
pub(super) fn age() -> Column {
    timed("Age", "Time since the object was created.", |object, now| {
        cells::since(fields::text(object, "/metadata/creationTimestamp"), now)
    })
}

/// When the object was created.
pub(super) fn created_at() -> Column {
    let mut column = text("Created At", "Time at which the object was created.", |object| {
        fields::text(object, "/metadata/creationTimestamp").to_owned()
    });
    column.kind = "date";
    column
}

/// A text made from the object alone.
pub(super) fn text(name: &'static str, description: &'static str, cell: fn(&Value) -> String) -> Column {
    column(name, "string", description, Arc::new(move |object, _| cell(object).into()))
}

/// A number made from the object alone.
pub(super) fn integer(name: &'static str, description: &'static str, cell: fn(&Value) -> i64) -> Column {
    column(name, "integer", description, Arc::new(move |object, _| cell(object).into()))
}

/// A text that depends on the present moment.
pub(super) fn timed(
    name: &'static str,
    description: &'static str,
    cell: fn(&Value, Timestamp) -> String,
) -> Column {
    column(name, "string", description, Arc::new(move |object, now| cell(object, now).into()))
}

/// The names and images of the containers of a workload, and its selector where `with_selector`.
pub(super) fn workload(with_selector: bool) -> Vec<Column> {
    let mut columns = vec![
        text("Containers", "Names of the containers in the pod template.", |object| {
            cells::container_fields(object, "/spec/template/spec", "name")
        })
        .wide(),
        text("Images", "Images of the containers in the pod template.", |object| {
            cells::container_fields(object, "/spec/template/spec", "image")
        })
        .wide(),
    ];
    if with_selector {
        columns.push(
            text("Selector", "Labels of the pods that belong to it.", |object| {
                cells::label_selector(object, "/spec/selector")
            })
            .wide(),
        );
    }
    columns
}

fn column(name: &'static str, kind: &'static str, description: &'static str, cell: Cell) -> Column {
    Column { name: name.into(), kind, format: "", description: description.into(), priority: 0, cell }
}

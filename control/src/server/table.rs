//! Table answers: what `kubectl get` prints, made of a resource's printer columns.

use super::query::Query;
use crate::registry::Resource;
use jiff::Timestamp;
use knarr_api::Status;
use serde_json::{Value, json};

/// `includeObject`: how much of the object goes along with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    pub(crate) fn from_query(query: &Query) -> Result<Self, Status> {
        match query.get("includeObject") {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("Object") => Ok(Self::Object),
            Some("None") => Ok(Self::None),
            Some(other) => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// The row of one object.
pub(crate) fn row(resource: &Resource, object: Value, include: Include) -> Value {
    let now = Timestamp::now();
    let cells: Vec<Value> = resource.columns.iter().map(|column| (column.cell)(&object, now)).collect();
    match include {
        Include::None => json!({"cells": cells}),
        Include::Object => json!({"cells": cells, "object": object}),
        Include::Metadata => json!({"cells": cells, "object": super::answer::metadata_only(&object, "v1")}),
    }
}

/// The columns, as definitions.
pub(crate) fn columns(resource: &Resource) -> Value {
    let column = |column: &crate::registry::Column| {
        json!({
            "name": column.name, "type": column.kind, "format": column.format,
            "description": column.description, "priority": column.priority,
        })
    };
    resource.columns.iter().map(column).collect()
}

/// A whole Table; a watch repeats the column definitions only in its first one.
pub(crate) fn table(
    resource: &Resource,
    version: &str,
    metadata: Value,
    rows: Vec<Value>,
    define: bool,
) -> Value {
    let definitions = if define { columns(resource) } else { json!([]) };
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows,
    })
}

//! `matchPolicy: Equivalent`: a rule that names one version of a resource is about writes through any other, and what
//! has a say sees the object in the version that it names.

use super::Write;
use crate::registry::Resource;
use crate::server::{Server, stored};
use knarr_api::Status;
use serde_json::Value;
use std::sync::Arc;

/// In which version a configuration sees a write; without one, as it is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Lens(Option<Arc<Resource>>);

/// A write as seen through a lens.
#[derive(Debug)]
pub(super) struct Seen {
    resource: Arc<Resource>,
    object: Value,
    old: Option<Value>,
}

impl Lens {
    /// Of another version than the written one.
    pub(super) fn of(resource: Arc<Resource>) -> Self {
        Self(Some(resource))
    }

    /// The write in the version of the lens; nothing where that is the written one.
    pub(super) async fn see(
        &self,
        server: &Server,
        write: Write<'_>,
        object: &Value,
    ) -> Result<Option<Seen>, Status> {
        let Some(resource) = self.0.clone() else { return Ok(None) };
        let convert = |object: Value| server.converted(write.resource, &resource, object);
        let old = match write.old {
            Some(old) => Some(convert(old.clone()).await?),
            None => None,
        };
        let object = convert(object.clone()).await?;
        Ok(Some(Seen { resource, object, old }))
    }
}

impl Seen {
    /// What is seen instead of `write` and `object`.
    pub(super) fn instead<'a>(
        seen: &'a Option<Self>,
        write: Write<'a>,
        object: &'a Value,
    ) -> (Write<'a>, &'a Value) {
        match seen {
            Some(seen) => (seen.write(write), &seen.object),
            None => (write, object),
        }
    }

    /// The write in the version that is seen.
    pub(super) fn write<'a>(&'a self, write: Write<'a>) -> Write<'a> {
        Write { resource: &self.resource, sent: write.sent(), old: self.old.as_ref(), ..write }
    }

    /// The object, to be changed.
    pub(super) fn take(&mut self) -> Value {
        std::mem::take(&mut self.object)
    }

    /// A changed object in the version that was written.
    pub(super) async fn back(
        &self,
        server: &Server,
        write: Write<'_>,
        object: Value,
    ) -> Result<Value, Status> {
        server.converted(&self.resource, write.resource, object).await
    }
}

/// Other versions of the resource that is written, as they are served.
pub(super) fn others(server: &Server, write: Write<'_>) -> Vec<Arc<Resource>> {
    let kept = stored::resource_prefix(write.resource);
    let same =
        |row: &Arc<Resource>| (&row.group, &row.version) == (&write.resource.group, &write.resource.version);
    let rows = server.table.all().into_iter();
    rows.filter(|row| stored::resource_prefix(row) == kept && !same(row)).collect()
}

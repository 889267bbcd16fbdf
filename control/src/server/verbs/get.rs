//! GET of one object.

use super::super::change::At;
use super::super::{Call, Server, answer, stored};
use crate::server::Answer;
use knarr_api::Status;

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    super::list::reach(server, call).await?;
    let at = At { resource: &call.resource, namespace: call.path.namespace(), name: call.path.name() };
    let entry = match server.computed_one(call).await? {
        Some(entry) => entry,
        None => server.entry(at).await?,
    };
    answer::object(call, 200, stored::encoded(&call.resource, &entry))
}

//! DELETE of every object that a list would show.

use super::super::change::{At, Manner};
use super::super::selection::Selection;
use super::super::{Call, Server, stored};
use super::delete::Options;
use crate::server::Answer;
use knarr_api::{Status, meta};

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let options = Options::read(call)?;
    let selection = Selection::of(call)?;
    let shape = super::list::shape(call)?;
    let (entries, metadata) = super::list::select(server, call, &selection).await?;
    let resource = &call.resource;
    let manner = Manner {
        dry_run: super::dry_run(call) || options.is_dry_run(),
        writer: None,
        by: Some(call.user.clone()),
        options: options.told(),
    };
    let mut gone = Vec::with_capacity(entries.len());
    for entry in entries {
        let object = stored::decode(resource, &entry);
        let at = At { resource, namespace: meta::namespace(&object), name: meta::name(&object) };
        match super::delete::delete(server, at, &options, &manner).await {
            Ok(_) => gone.push(entry),
            // Somebody else was faster.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    super::list::answer(call, shape, gone, metadata)
}

//! DELETE of every object that a list would show.

use super::super::change::{At, Manner};
use super::super::selection::Selection;
use super::super::{Call, Server, answer, stored};
use super::delete::Options;
use crate::server::Answer;
use knarr_api::{Status, meta};
use serde_json::{Value, json};

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let options = Options::read(call)?;
    let selection = Selection::of(call)?;
    let (entries, metadata) = super::list::select(server, call, &selection).await?;
    let resource = &call.resource;
    let manner = Manner {
        dry_run: super::dry_run(call) || options.is_dry_run(),
        writer: None,
        by: Some(call.user.clone()),
    };
    let mut items: Vec<Value> = Vec::with_capacity(entries.len());
    for entry in entries {
        let object = stored::decode(resource, &entry);
        let at = At { resource, namespace: meta::namespace(&object), name: meta::name(&object) };
        match super::delete::delete(server, at, &options, &manner).await {
            Ok(_) => items.push(object),
            // Somebody else was faster.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let list = json!({
        "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
        "metadata": metadata, "items": items,
    });
    Ok(answer::value(200, call.accept.encoding(), &list))
}

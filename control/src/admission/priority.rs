//! Priority classes: a pod names a class, the class gives it its number. At most one class is the default.

use super::{Operation, Write};
use crate::registry::fields;
use crate::server::Server;
use knarr_api::{Status, meta};
use serde_json::Value;

const CLASSES: &str = "scheduling.k8s.io/priorityclasses/";

pub(super) async fn fill_in(server: &Server, write: Write<'_>, pod: &mut Value) -> Result<(), Status> {
    let class = class_of(server, write, fields::text(pod, "/spec/priorityClassName")).await?;
    let wanted = class.as_ref().and_then(|class| fields::int(class, "/value")).unwrap_or(0);
    let given = fields::int(pod, "/spec/priority").unwrap_or(0);
    if given != 0 && given != wanted {
        return Err(write.forbidden(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {wanted} from the given PriorityClass name"
        )));
    }
    let policy = match class.as_ref().map(|class| fields::text(class, "/preemptionPolicy")) {
        None | Some("") => "PreemptLowerPriority",
        Some(policy) => policy,
    };
    let given = fields::text(pod, "/spec/preemptionPolicy");
    if !given.is_empty() && given != policy {
        return Err(write.forbidden(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    if let Some(class) = &class {
        fields::set_in(pod, "spec", "priorityClassName", meta::name(class).into());
    }
    fields::set_in(pod, "spec", "priority", wanted.into());
    fields::set_in(pod, "spec", "preemptionPolicy", policy.into());
    Ok(())
}

/// The class of that name, or the default one where no name is given.
async fn class_of(server: &Server, write: Write<'_>, name: &str) -> Result<Option<Value>, Status> {
    if name.is_empty() {
        return default_class(server).await;
    }
    let found = server.object_at(&format!("{CLASSES}{name}")).await?;
    let missing = || write.forbidden(&format!("no PriorityClass with name {name} was found"));
    found.ok_or_else(missing).map(Some)
}

/// Of several default classes (made at the same time) the lowest counts.
async fn default_class(server: &Server) -> Result<Option<Value>, Status> {
    let mut classes = server.objects_below(CLASSES).await?;
    classes.retain(|class| fields::flag(class, "/globalDefault"));
    Ok(classes.into_iter().min_by_key(|class| fields::int(class, "/value")))
}

/// A second default class is refused.
pub(super) async fn check_class(server: &Server, write: Write<'_>, object: &Value) -> Result<(), Status> {
    let concerned = write.operation != Operation::Delete
        && write.is("scheduling.k8s.io", "priorityclasses")
        && fields::flag(object, "/globalDefault");
    if !concerned {
        return Ok(());
    }
    match default_class(server).await? {
        Some(other) if meta::name(&other) != write.name => Err(write.forbidden(&format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            meta::name(&other)
        ))),
        _ => Ok(()),
    }
}

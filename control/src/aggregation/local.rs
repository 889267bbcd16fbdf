//! The APIServices of what we serve ourselves: one for each group version, so that everybody sees who serves what. Those
//! of custom resources come and go with their definitions. One by the name of a usage service (`metrics.k8s.io`) is left
//! for those who bring a server of their own for it, whose installers want to be the first.
//!
//! Ours say so by a label, and are made what they must be again: those of custom resources at once, the others when the
//! server starts. Who takes the label away has taken the group version over.

use crate::discovery::{group_priority, version_priority};
use crate::registry::{Resource, fields};
use crate::server::Server;
use knarr_api::{Status, meta};
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Says when an APIService is made what it must be.
const KEPT: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Of those of our own groups, and of those of custom resources.
const AT_START: &str = "onstart";
const ALWAYS: &str = "true";
const GROUP: &str = "apiregistration.k8s.io";

/// The APIServices of Kubernetes' own groups.
pub(crate) fn builtin(rows: &[std::sync::Arc<Resource>]) -> Vec<Value> {
    let own = rows.iter().filter(|row| row.custom.is_none());
    let own = own.filter(|row| !matches!(&*row.group, GROUP | "metrics.k8s.io"));
    let versions: BTreeSet<(&str, &str)> = own.map(|row| (&*row.group, &*row.version)).collect();
    versions.into_iter().map(|(group, version)| object(group, version, AT_START)).collect()
}

fn object(group: &str, version: &str, kept: &str) -> Value {
    json!({
        "metadata": {"name": format!("{version}.{group}"), "labels": {KEPT: kept}},
        "spec": {
            "group": group, "version": version,
            "groupPriorityMinimum": group_priority(group), "versionPriority": version_priority(group, version),
        },
    })
}

/// Gives one that is kept by us, and still says so, the content it must have.
pub(crate) fn restore(found: &mut Value, wanted: &Value) {
    if meta::label(found, KEPT) == meta::label(wanted, KEPT) && found["spec"] != wanted["spec"] {
        found["spec"] = wanted["spec"].clone();
    }
}

/// Whether somebody has changed one of a custom resource that is still ours.
pub(super) fn is_changed(object: &Value) -> bool {
    let (group, version) = super::key_of(object);
    meta::label(object, KEPT) == Some(ALWAYS)
        && object["spec"] != self::object(&group, &version, ALWAYS)["spec"]
}

/// Makes those of custom resources what the table of resources says.
pub(crate) async fn sync(server: &Server, client: &Client) {
    if let Err(status) = try_sync(server, client).await {
        tracing::warn!("API services of custom resources: {}", status.message);
    }
}

async fn try_sync(server: &Server, client: &Client) -> Result<(), Status> {
    let Some(row) = server.table.find(GROUP, "v1", "apiservices") else { return Ok(()) };
    let rows = server.table.all();
    let custom = rows.iter().filter(|row| row.custom.is_some());
    let wanted: BTreeSet<(&str, &str)> = custom.map(|row| (&*row.group, &*row.version)).collect();
    let found = server.objects_below(&format!("{GROUP}/apiservices/")).await?;
    let names: BTreeSet<&str> = found.iter().map(meta::name).collect();
    for (group, version) in &wanted {
        let object = object(group, version, ALWAYS);
        if !names.contains(meta::name(&object)) {
            server.ensure(&row, "", object).await?;
        }
    }
    for object in found.iter().filter(|object| meta::label(object, KEPT) == Some(ALWAYS)) {
        let served = (fields::text(object, "/spec/group"), fields::text(object, "/spec/version"));
        if !wanted.contains(&served) {
            discard(client, meta::name(object)).await?;
        } else if is_changed(object) {
            reset(client, object).await?;
        }
    }
    Ok(())
}

async fn reset(client: &Client, object: &Value) -> Result<(), Status> {
    let (group, version) = super::key_of(object);
    let mut object = object.clone();
    object["spec"] = self::object(&group, &version, ALWAYS)["spec"].take();
    let object: DynamicObject = serde_json::from_value(object).map_err(Status::internal)?;
    match super::follow::api(client).replace(&object.name_any(), &PostParams::default(), &object).await {
        // Whoever was faster wakes us again.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        reset => reset.map(drop).map_err(Status::internal),
    }
}

async fn discard(client: &Client, name: &str) -> Result<(), Status> {
    match super::follow::api(client).delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        gone => gone.map(drop).map_err(Status::internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Table;

    #[test]
    fn each_group_version_of_ours_has_one() {
        let all = builtin(&Table::builtin().all());
        let spec = |name: &str| {
            let found = all.iter().find(|object| meta::name(object) == name);
            found.map(|object| {
                (object["spec"]["groupPriorityMinimum"].clone(), object["spec"]["versionPriority"].clone())
            })
        };
        assert_eq!(spec("v1."), Some((json!(18000), json!(1))));
        assert_eq!(spec("v1.apps"), Some((json!(17800), json!(15))));
        assert_eq!(spec("v2.autoscaling"), Some((json!(17500), json!(30))));
        assert_eq!(spec("v1.apiregistration.k8s.io"), None);
        assert_eq!(spec("v1beta1.metrics.k8s.io"), None);
    }

    #[test]
    fn what_says_that_it_is_ours_is_made_so_again() {
        let wanted = object("apps", "v1", AT_START);
        let taken = |label: Value| {
            let mut object = wanted.clone();
            object["metadata"]["labels"][KEPT] = label;
            object["spec"]["service"] = json!({"namespace": "n", "name": "s"});
            object
        };
        let mut found = taken(AT_START.into());
        restore(&mut found, &wanted);
        assert_eq!(found, wanted);
        let mut found = taken("false".into());
        restore(&mut found, &wanted);
        assert_eq!(found["spec"]["service"]["name"], "s");
        assert!(is_changed(&taken(ALWAYS.into())));
        assert!(!is_changed(&taken("false".into())) && !is_changed(&object("apps", "v1", ALWAYS)));
    }
}

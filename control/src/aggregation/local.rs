//! The APIServices of what we serve ourselves: one for each group version, so that everybody sees who serves what. Those
//! of custom resources come and go with their definitions. One by the name of a usage service (`metrics.k8s.io`) is left
//! for those who bring a server of their own for it, whose installers want to be the first.

use crate::discovery::{group_priority, version_priority};
use crate::registry::{Resource, fields};
use crate::server::Server;
use knarr_api::{Status, meta};
use kube::Client;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Says who keeps an APIService: `onstart` or `true`.
const KEPT: &str = "kube-aggregator.kubernetes.io/automanaged";
const GROUP: &str = "apiregistration.k8s.io";

/// The APIServices of Kubernetes' own groups.
pub(crate) fn builtin(rows: &[std::sync::Arc<Resource>]) -> Vec<Value> {
    let own = rows.iter().filter(|row| row.custom.is_none());
    let own = own.filter(|row| !matches!(&*row.group, GROUP | "metrics.k8s.io"));
    let versions: BTreeSet<(&str, &str)> = own.map(|row| (&*row.group, &*row.version)).collect();
    versions.into_iter().map(|(group, version)| object(group, version, "onstart")).collect()
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
        let object = object(group, version, "true");
        if !names.contains(meta::name(&object)) {
            server.ensure(&row, "", object).await?;
        }
    }
    for object in found.iter().filter(|object| meta::label(object, KEPT) == Some("true")) {
        let served = (fields::text(object, "/spec/group"), fields::text(object, "/spec/version"));
        if !wanted.contains(&served) {
            discard(client, meta::name(object)).await?;
        }
    }
    Ok(())
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
}

//! `knarr up --apply`: the manifests of a directory, created or merged, so that a sample needs no kubectl.

use crate::output;
use anyhow::{Context, bail};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For what is being deleted, with its pods.
const DELETION_TIMEOUT: Duration = Duration::from_secs(60);

/// One applied object, to be deleted again.
pub(crate) struct Applied {
    api: Api<DynamicObject>,
    name: String,
    title: String,
}

/// Applies every document of every `.yaml`, `.yml` and `.json` file, in the order of file names.
pub(crate) async fn apply(client: &Client, path: &Path) -> anyhow::Result<Vec<Applied>> {
    let mut applied = Vec::new();
    for file in manifests(path)? {
        let text = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        for object in documents(&text).with_context(|| format!("{}", file.display()))? {
            let one = apply_object(client, object).await.with_context(|| format!("{}", file.display()))?;
            output::line(&one.title);
            applied.push(one);
        }
    }
    Ok(applied)
}

/// Deletes what was applied, last first, and goes on after an error.
pub(crate) async fn delete(applied: Vec<Applied>) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for object in applied.into_iter().rev() {
        match object.api.delete(&object.name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => failures.push(format!("delete {}: {error}", object.title)),
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
}

fn manifests(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let wanted = |file: &PathBuf| {
        file.extension().and_then(|e| e.to_str()).is_some_and(|e| ["yaml", "yml", "json"].contains(&e))
    };
    let entries = std::fs::read_dir(path).with_context(|| format!("{}", path.display()))?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .filter(|file| file.as_ref().map_or(true, wanted))
        .collect::<Result<_, _>>()?;
    files.sort();
    Ok(files)
}

fn documents(text: &str) -> anyhow::Result<Vec<DynamicObject>> {
    // `defaultMode: 0644` means what it means to kubectl.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let values: Vec<Option<serde_json::Value>> = serde_saphyr::from_multiple_with_options(text, options)?;
    values.into_iter().flatten().map(|value| Ok(serde_json::from_value(value)?)).collect()
}

async fn apply_object(client: &Client, object: DynamicObject) -> anyhow::Result<Applied> {
    let types = object.types.clone().context("apiVersion and kind are required")?;
    let name = object.metadata.name.clone().context("metadata.name is required")?;
    let gvk = GroupVersionKind::try_from(&types)?;
    let (resource, capabilities) = kube::discovery::pinned_kind(client, &gvk).await?;
    let api = api_of(client, &object, &resource, capabilities.scope);
    let action = match living(&api, &name).await? {
        None => api
            .create(
                &PostParams { field_manager: Some("knarr-apply".into()), ..PostParams::default() },
                &object,
            )
            .await
            .map(|_| "created")?,
        Some(live) => api.patch(&name, &PatchParams::default(), &Patch::Merge(&object)).await.map(|new| {
            if new.resource_version() == live.resource_version() { "unchanged" } else { "configured" }
        })?,
    };
    let group = if gvk.group.is_empty() { String::new() } else { format!(".{}", gvk.group) };
    let title = format!("{}{group}/{name} {action}", gvk.kind.to_lowercase());
    Ok(Applied { api, name, title })
}

/// The object that is there. One that is on its way out, such as what was applied before, is waited for until it is gone.
async fn living(api: &Api<DynamicObject>, name: &str) -> anyhow::Result<Option<DynamicObject>> {
    let Some(live) = api.get_opt(name).await? else { return Ok(None) };
    if live.metadata.deletion_timestamp.is_none() {
        return Ok(Some(live));
    }
    let uid = live.uid().unwrap_or_default();
    let gone = await_condition(api.clone(), name, conditions::is_deleted(&uid));
    tokio::time::timeout(DELETION_TIMEOUT, gone)
        .await
        .with_context(|| format!("{name} is still being deleted"))??;
    Ok(api.get_opt(name).await?)
}

fn api_of(
    client: &Client,
    object: &DynamicObject,
    resource: &ApiResource,
    scope: Scope,
) -> Api<DynamicObject> {
    match (scope, &object.metadata.namespace) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, resource),
        (Scope::Namespaced, None) => Api::namespaced_with(client.clone(), "default", resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_documents_are_skipped() {
        let text = "---\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n---\n";
        let objects = documents(text).unwrap();
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0].metadata.name.as_deref(), Some("a"));
    }

    #[test]
    fn only_manifests_are_read_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["2.yaml", "1.yml", "notes.txt", "3.json"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let names: Vec<_> =
            manifests(directory.path()).unwrap().iter().map(|f| f.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["1.yml", "2.yaml", "3.json"]);
    }
}

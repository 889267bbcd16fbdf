//! Takes back the directories of persistent volumes that the cluster made on this node, when their objects are
//! deleted: the cluster cannot reach the disk, so a finalizer keeps the object until the node has done its part.

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use std::io;
use std::path::{Component, Path, PathBuf};
use tokio_stream::StreamExt;

/// Annotation of a Node: where the cluster may make volumes on it.
pub const DIRECTORY_ANNOTATION: &str = "knarr.io/volumes-dir";
const FINALIZER: &str = "knarr.io/local-volume";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Watches until it is cancelled; `directory` holds all volumes of this node.
pub async fn run(client: kube::Client, node: String, directory: PathBuf) {
    let volumes: Api<PersistentVolume> = Api::all(client);
    let watch = watcher(volumes.clone(), watcher::Config::default()).default_backoff();
    let mut changes = std::pin::pin!(watch.touched_objects());
    while let Some(change) = changes.next().await {
        let volume = match change {
            Ok(volume) => volume,
            // Elsewhere nodes may not follow volumes, and no cluster but ours makes any that wait for a node.
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 403 => return,
            Err(error) => {
                tracing::debug!("watch of persistent volumes: {error}");
                continue;
            }
        };
        if !is_ours(&volume, &node) {
            continue;
        }
        if let Err(error) = take_back(&volumes, &volume, &directory).await {
            let name = volume.metadata.name.unwrap_or_default();
            tracing::warn!(volume = name, "not reclaimed: {error}");
        }
    }
}

/// Being deleted, and waiting for this node.
fn is_ours(volume: &PersistentVolume, node: &str) -> bool {
    let meta = &volume.metadata;
    let waits = meta.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    let mut terms = affinity.into_iter().flat_map(|affinity| &affinity.node_selector_terms);
    let here = terms.any(|term| {
        term.match_expressions.iter().flatten().any(|expression| {
            expression.key == HOSTNAME && expression.values.iter().flatten().any(|value| value == node)
        })
    });
    meta.deletion_timestamp.is_some() && waits && here
}

async fn take_back(
    volumes: &Api<PersistentVolume>,
    volume: &PersistentVolume,
    directory: &Path,
) -> Result<(), String> {
    let spec = volume.spec.as_ref();
    let host_path = spec.and_then(|spec| spec.host_path.as_ref()).map(|source| source.path.clone());
    let path = host_path.or_else(|| Some(spec?.local.as_ref()?.path.clone())).unwrap_or_default();
    let path = inside(directory, Path::new(&path))
        .ok_or_else(|| format!("{path:?} is not a directory below {}", directory.display()))?;
    let removed =
        tokio::task::spawn_blocking(move || remove(&path)).await.map_err(|error| error.to_string())?;
    removed.map_err(|error| error.to_string())?;
    let left: Vec<&String> =
        volume.metadata.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER).collect();
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({"metadata": {"uid": volume.metadata.uid, "finalizers": left,
        "resourceVersion": volume.metadata.resource_version}});
    let patched = volumes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    match patched {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).map_err(|error| error.to_string()),
    }
}

/// The path, if it lies directly below `directory` by its text alone; nothing else is ever removed.
fn inside(directory: &Path, path: &Path) -> Option<PathBuf> {
    let name = path.strip_prefix(directory).ok()?;
    let mut parts = name.components();
    let only = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    only.then(|| path.to_path_buf())
}

/// Links below are removed, not followed.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_directly_below_is_ever_removed() {
        let directory = Path::new("/data/volumes");
        for (path, expected) in [
            ("/data/volumes/pvc-1", true),
            ("/data/volumes", false),
            ("/data/volumes/../x", false),
            ("/data/volumes/a/b", false),
            ("/etc", false),
            ("", false),
        ] {
            assert_eq!(inside(directory, Path::new(path)).is_some(), expected, "{path}");
        }
    }

    #[test]
    fn a_deleted_volume_of_this_node_is_ours() {
        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": "v", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FINALIZER]},
            "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": HOSTNAME, "operator": "In", "values": ["n"]}]}]}}}}))
        .unwrap();
        assert!(is_ours(&volume, "n") && !is_ours(&volume, "other"));
        let mut living = volume;
        living.metadata.deletion_timestamp = None;
        assert!(!is_ours(&living, "n"));
    }
}

//! `knarr down`: takes back everything that a node made on this machine, whether it ended well or not. Nothing here
//! stops at an error, and doing it twice is harmless.

use super::start_engine;
use crate::config::Config;
use crate::engine::{image_store, network};
use crate::kubelet::paths::Paths;
use crate::kubelet::{labels, log_files, pod_cgroup, volumes};
use crate::node_routes;
use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knarr_cri::RuntimeService;
use knarr_cri::v1::ListPodSandboxRequest;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Removes pods, networks, mounts, cgroups and the state directory; images and the cluster's store stay. Returns
/// everything that could not be removed.
pub async fn remove_everything(config: &Config) -> Vec<anyhow::Error> {
    let config = Arc::new(config.clone());
    let mut errors = Vec::new();
    match start_engine(&config).await {
        Ok(engine) => {
            let logs = log_directories(&*engine, &config).await;
            errors.extend(engine.remove_all().await);
            errors.extend(
                logs.iter().filter_map(|(logs, links)| log_files::remove(logs, links).err()).map(Into::into),
            );
        }
        Err(error) => errors.push(error.context("engine")),
    }
    errors.extend(unmount_layers(&config).context("images").err());
    match network::open(&config) {
        Ok(network) => errors.extend(network.remove_all().await.context("network").err()),
        Err(error) => errors.push(error.context("network")),
    }
    let files = tokio::task::spawn_blocking(move || remove_files(&config)).await;
    errors.extend(files.unwrap_or_else(|error| vec![error.into()]));
    errors
}

/// Without this the data directory could not be removed.
fn unmount_layers(config: &Config) -> anyhow::Result<()> {
    if config.data_dir.join("images").exists() {
        image_store::open(config)?.unmount_layers()?;
    }
    Ok(())
}

/// The logs of every pod that the engine has.
async fn log_directories(engine: &dyn RuntimeService, config: &Config) -> Vec<(PathBuf, log_files::Links)> {
    let paths = Paths::new(&config.kubelet_dir(), &config.pod_logs_dir);
    let sandboxes = engine.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap_or_default().items;
    let pods =
        sandboxes.into_iter().filter(|sandbox| sandbox.labels.contains_key(labels::POD_UID)).map(|sandbox| {
            let label = |key: &str| sandbox.labels.get(key).cloned();
            let metadata = ObjectMeta {
                name: label(labels::POD_NAME),
                namespace: label(labels::POD_NAMESPACE),
                uid: label(labels::POD_UID),
                annotations: Some(sandbox.annotations.clone().into_iter().collect()),
                ..Default::default()
            };
            Pod { metadata, ..Default::default() }
        });
    pods.map(|pod| (paths.logs(&pod), paths.log_links(&pod))).collect()
}

fn remove_files(config: &Config) -> Vec<anyhow::Error> {
    // A directory that somebody else chose may hold other things too.
    let pods = match &config.kubelet.root_dir {
        Some(root) => root.join("pods"),
        None => config.kubelet_dir(),
    };
    let mut errors: Vec<anyhow::Error> = Vec::new();
    errors.extend(volumes::tear_down(&pods).with_context(|| pods.display().to_string()).err());
    errors.extend(remove_cgroups(config));
    errors.extend(node_routes::remove(config).err());
    let state = &config.state_dir;
    errors.extend(remove_state(state).with_context(|| state.display().to_string()).err());
    errors
}

fn remove_cgroups(config: &Config) -> Vec<anyhow::Error> {
    let hierarchies = match pod_cgroup::hierarchies() {
        Ok(hierarchies) => hierarchies,
        Err(error) => return vec![error.into()],
    };
    let trees = [pod_cgroup::parent(&config.kubelet.cgroup_root), config.engine.monitor_cgroup.clone()];
    let removed = trees.iter().filter_map(|tree| pod_cgroup::remove(&hierarchies, tree).err());
    // Instances that were given no names of their own share them: what is busy belongs to another one.
    let ours = removed.filter(|error| error.kind() != ErrorKind::ResourceBusy);
    ours.map(anyhow::Error::from).collect()
}

/// Only what a node puts there: somebody may have chosen a directory that holds other things too.
fn remove_state(directory: &Path) -> std::io::Result<()> {
    for name in ["containers", "pods", "runtime"] {
        volumes::tear_down(&directory.join(name))?;
    }
    match std::fs::remove_dir(directory) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

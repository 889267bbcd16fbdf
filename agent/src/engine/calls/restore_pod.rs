//! RestorePod: a new pod whose containers are to go on from a checkpoint; each does with its StartContainer.

use super::{create_container, remove_pod_sandbox, run_pod_sandbox};
use crate::engine::blocking::blocking;
use crate::engine::checkpoint::pod::{self, PodDump};
use crate::engine::core::Core;
use crate::engine::failures::status;
use knarr_cri::Status;
use knarr_cri::v1::{
    ContainerConfig, CreateContainerRequest, PodSandboxConfig, RemovePodSandboxRequest, RestorePodRequest,
    RestorePodResponse, RestoredContainer, RunPodSandboxRequest,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) async fn call(core: Arc<Core>, request: RestorePodRequest) -> Result<RestorePodResponse, Status> {
    let directory = PathBuf::from(&request.checkpoint_path);
    if !directory.is_absolute() {
        let given = &request.checkpoint_path;
        return Err(Status::invalid_argument(format!("checkpoint_path: {given:?} is not an absolute path")));
    }
    let config = request.config.ok_or_else(|| Status::invalid_argument("config is required"))?;
    let place = directory.clone();
    let dump = blocking(move || PodDump::read(&place)).await.map_err(status)?;
    let configs = matched(dump, request.container_configs)?;
    let run = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: request.runtime_handler };
    let pod_sandbox_id = run_pod_sandbox::call(core.clone(), run).await?.pod_sandbox_id;
    match create_all(&core, &pod_sandbox_id, &config, &directory, configs).await {
        Ok(restored_containers) => Ok(RestorePodResponse { pod_sandbox_id, restored_containers }),
        Err(error) => {
            let left = remove_pod_sandbox::call(core, RemovePodSandboxRequest { pod_sandbox_id }).await;
            left.err().into_iter().for_each(|left| {
                tracing::error!("undoing a failed restore: {}", left.message());
            });
            Err(error)
        }
    }
}

/// The configuration of every container that was written down, and of no other.
fn matched(dump: PodDump, configs: Vec<ContainerConfig>) -> Result<Vec<(String, ContainerConfig)>, Status> {
    let name = |config: &ContainerConfig| config.metadata.clone().unwrap_or_default().name;
    if let Some(other) = configs.iter().map(name).find(|name| !dump.containers.contains(name)) {
        return Err(Status::invalid_argument(format!("the checkpoint has no container {other:?}")));
    }
    let find = |wanted: String| {
        let config = configs.iter().find(|config| name(config) == wanted).cloned();
        let missing = || format!("container_configs: container {wanted:?} of the checkpoint is missing");
        config.ok_or_else(|| Status::invalid_argument(missing())).map(|config| (wanted.clone(), config))
    };
    dump.containers.clone().into_iter().map(find).collect()
}

async fn create_all(
    core: &Arc<Core>,
    pod_sandbox_id: &str,
    pod: &PodSandboxConfig,
    directory: &Path,
    configs: Vec<(String, ContainerConfig)>,
) -> Result<Vec<RestoredContainer>, Status> {
    let mut restored = Vec::new();
    for (name, config) in configs {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod_sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod.clone()),
        };
        let archive = pod::archive(directory, &name);
        let made = create_container::create(core.clone(), request, Some(archive)).await?;
        restored.push(RestoredContainer { name, container_id: made.container_id });
    }
    Ok(restored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use knarr_cri::v1::ContainerMetadata;

    #[test]
    fn every_container_has_its_configuration() {
        let config = |name: &str| ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            ..Default::default()
        };
        let dump = || PodDump::of(vec!["b".into(), "a".into()]);
        let order = matched(dump(), vec![config("a"), config("b")]).unwrap();
        assert_eq!(order.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        let missing = matched(dump(), vec![config("a")]).unwrap_err();
        assert!(missing.message().contains("container \"b\" of the checkpoint is missing"), "{missing}");
        let other = matched(dump(), vec![config("a"), config("b"), config("c")]).unwrap_err();
        assert!(other.message().contains("has no container \"c\""), "{other}");
    }
}

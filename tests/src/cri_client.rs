//! A plain gRPC client of CRI with a method for each thing tests do, in the words of a client and not of the messages.

use crate::engine::PATIENCE;
use crate::eventually::answers;
use knarr_cri::v1::image_service_client::ImageServiceClient;
use knarr_cri::v1::runtime_service_client::RuntimeServiceClient;
use knarr_cri::v1::*;
use std::collections::HashMap;
use std::path::Path;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Longest answer taken, in bytes: an exec may answer 16 MiB of output and as much of errors.
const MESSAGE: usize = 64 << 20;

/// Clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// Pods and containers.
    pub runtime: RuntimeServiceClient<Channel>,
    /// Images.
    pub images: ImageServiceClient<Channel>,
}

fn selector(labels: &[(&str, &str)]) -> HashMap<String, String> {
    labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

impl Client {
    /// A client of a socket that need not exist yet.
    ///
    /// # Panics
    /// When the path cannot be an address.
    pub fn connect(socket: &Path) -> Self {
        let endpoint = Endpoint::try_from(format!("unix:{}", socket.display())).expect("an endpoint");
        let channel = endpoint.connect_lazy();
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE),
            images: ImageServiceClient::new(channel),
        }
    }

    /// Runs a pod.
    ///
    /// # Errors
    /// The engine's.
    pub async fn run_pod(&mut self, config: &PodSandboxConfig) -> Result<String, Status> {
        let request = RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        Ok(self.runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    /// Stops a pod.
    ///
    /// # Errors
    /// The engine's.
    pub async fn stop_pod(&mut self, id: &str) -> Result<(), Status> {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.into() };
        self.runtime.stop_pod_sandbox(request).await.map(drop)
    }

    /// Stops and removes a pod.
    ///
    /// # Errors
    /// The engine's.
    pub async fn remove_pod(&mut self, id: &str) -> Result<(), Status> {
        self.stop_pod(id).await?;
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.runtime.remove_pod_sandbox(request).await.map(drop)
    }

    /// A pod's status.
    ///
    /// # Errors
    /// The engine's.
    pub async fn pod_status(&mut self, id: &str) -> Result<PodSandboxStatus, Status> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        Ok(self.runtime.pod_sandbox_status(request).await?.into_inner().status.unwrap_or_default())
    }

    /// The pods with these labels.
    ///
    /// # Errors
    /// The engine's.
    pub async fn pods(&mut self, labels: &[(&str, &str)]) -> Result<Vec<PodSandbox>, Status> {
        let filter = PodSandboxFilter { label_selector: selector(labels), ..Default::default() };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        Ok(self.runtime.list_pod_sandbox(request).await?.into_inner().items)
    }

    /// The containers with these labels.
    ///
    /// # Errors
    /// The engine's.
    pub async fn containers(&mut self, labels: &[(&str, &str)]) -> Result<Vec<Container>, Status> {
        let filter = ContainerFilter { label_selector: selector(labels), ..Default::default() };
        let request = ListContainersRequest { filter: Some(filter) };
        Ok(self.runtime.list_containers(request).await?.into_inner().containers)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// The engine's.
    pub async fn start(&mut self, id: &str) -> Result<(), Status> {
        self.runtime.start_container(StartContainerRequest { container_id: id.into() }).await.map(drop)
    }

    /// Stops a container, killing it after so many seconds.
    ///
    /// # Errors
    /// The engine's.
    pub async fn stop_container(&mut self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = StopContainerRequest { container_id: id.into(), timeout };
        self.runtime.stop_container(request).await.map(drop)
    }

    /// Removes a container.
    ///
    /// # Errors
    /// The engine's.
    pub async fn remove_container(&mut self, id: &str) -> Result<(), Status> {
        let request = RemoveContainerRequest { container_id: id.into() };
        self.runtime.remove_container(request).await.map(drop)
    }

    /// Creates a container.
    ///
    /// # Errors
    /// The engine's.
    pub async fn create(
        &mut self,
        pod: &str,
        pod_config: &PodSandboxConfig,
        config: ContainerConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config),
            sandbox_config: Some(pod_config.clone()),
        };
        Ok(self.runtime.create_container(request).await?.into_inner().container_id)
    }

    /// Creates and starts a container.
    ///
    /// # Errors
    /// The engine's.
    pub async fn run(
        &mut self,
        pod: &str,
        pod_config: &PodSandboxConfig,
        config: ContainerConfig,
    ) -> Result<String, Status> {
        let id = self.create(pod, pod_config, config).await?;
        self.start(&id).await?;
        Ok(id)
    }

    /// Runs a shell line in a container.
    ///
    /// # Errors
    /// The engine's.
    pub async fn exec(&mut self, id: &str, line: &str) -> Result<ExecSyncResponse, Status> {
        let request = ExecSyncRequest {
            container_id: id.into(),
            cmd: ["sh", "-c", line].map(str::to_owned).to_vec(),
            timeout: 60,
        };
        Ok(self.runtime.exec_sync(request).await?.into_inner())
    }

    /// What a shell line prints, without space around it.
    ///
    /// # Panics
    /// When it cannot be run.
    pub async fn output(&mut self, id: &str, line: &str) -> String {
        let answer = self.exec(id, line).await.expect("exec");
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    }

    /// A container's status.
    ///
    /// # Errors
    /// The engine's.
    pub async fn status(&mut self, id: &str) -> Result<ContainerStatus, Status> {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        Ok(self.runtime.container_status(request).await?.into_inner().status.unwrap_or_default())
    }

    /// The status once a container has ended.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self, id: &str) -> ContainerStatus {
        let runtime = &self.runtime;
        answers("the end of a container", PATIENCE, || async {
            let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
            let answer =
                runtime.clone().container_status(request).await.map_err(|error| error.to_string())?;
            let status = answer.into_inner().status.unwrap_or_default();
            let ended = status.state() == ContainerState::ContainerExited;
            if ended { Ok(status) } else { Err(format!("{status:?}")) }
        })
        .await
    }
}

//! A runtime whose pods and containers exist in memory only: every image is there, every container starts at once
//! and runs until it is stopped. It answers what a kubelet asks and nothing else, so that thousands of nodes can be
//! run in one process to see how a control plane bears them.

use async_trait::async_trait;
use knarr_cri::v1::*;
use knarr_cri::{ImageService, RuntimeService, Status};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Mutex;

/// Addresses are taken from here on; they lead nowhere.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

#[derive(Debug, Clone)]
struct Sandbox {
    status: PodSandboxStatus,
}

#[derive(Debug, Clone)]
struct SimulatedContainer {
    sandbox: String,
    status: ContainerStatus,
}

#[derive(Debug, Default)]
struct World {
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, SimulatedContainer>,
    made: u64,
}

impl World {
    fn new_id(&mut self) -> String {
        self.made += 1;
        format!("{:064x}", self.made)
    }
}

/// The runtime of one imaginary node.
#[derive(Debug, Default)]
pub struct SimulatedRuntime {
    /// Held only for the length of a call, none of which waits.
    world: Mutex<World>,
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn selected(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl SimulatedRuntime {
    fn world<T>(&self, work: impl FnOnce(&mut World) -> T) -> Result<T, Status> {
        let mut world = self.world.lock().map_err(|error| Status::internal(error.to_string()))?;
        Ok(work(&mut world))
    }

    /// Changes one container, if it exists.
    fn change(&self, id: &str, change: impl FnOnce(&mut ContainerStatus)) -> Result<(), Status> {
        self.world(|world| {
            if let Some(container) = world.containers.get_mut(id) {
                change(&mut container.status);
            }
        })
    }
}

fn end(status: &mut ContainerStatus) {
    if status.state != ContainerState::ContainerExited as i32 {
        status.state = ContainerState::ContainerExited as i32;
        status.finished_at = now();
        status.exit_code = 0;
        status.reason = "Completed".to_string();
    }
}

fn listed(container: &SimulatedContainer) -> Container {
    let status = container.status.clone();
    Container {
        id: status.id,
        pod_sandbox_id: container.sandbox.clone(),
        metadata: status.metadata,
        image: status.image,
        image_ref: status.image_ref,
        state: status.state,
        created_at: status.created_at,
        labels: status.labels,
        annotations: status.annotations,
        image_id: status.image_id,
    }
}

fn condition(kind: &str) -> RuntimeCondition {
    RuntimeCondition { r#type: kind.to_string(), status: true, ..Default::default() }
}

#[async_trait]
impl RuntimeService for SimulatedRuntime {
    async fn version(&self, _: VersionRequest) -> Result<VersionResponse, Status> {
        Ok(VersionResponse {
            version: "0.1.0".to_string(),
            runtime_name: "knarr-simulated".to_string(),
            runtime_version: env!("CARGO_PKG_VERSION").to_string(),
            runtime_api_version: "v1".to_string(),
        })
    }

    async fn status(&self, _: StatusRequest) -> Result<StatusResponse, Status> {
        let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
        Ok(StatusResponse { status: Some(RuntimeStatus { conditions }), ..Default::default() })
    }

    async fn update_runtime_config(
        &self,
        _: UpdateRuntimeConfigRequest,
    ) -> Result<UpdateRuntimeConfigResponse, Status> {
        Ok(UpdateRuntimeConfigResponse {})
    }

    async fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> Result<RunPodSandboxResponse, Status> {
        let config = request.config.ok_or_else(|| Status::invalid_argument("config: Required value"))?;
        self.world(|world| {
            let id = world.new_id();
            let offset = u32::try_from(world.made % (1 << 20)).unwrap_or(0);
            let ip = Ipv4Addr::from(u32::from(FIRST_ADDRESS) + offset).to_string();
            let status = PodSandboxStatus {
                id: id.clone(),
                metadata: config.metadata,
                state: PodSandboxState::SandboxReady as i32,
                created_at: now(),
                network: Some(PodSandboxNetworkStatus { ip, additional_ips: Vec::new() }),
                labels: config.labels,
                annotations: config.annotations,
                ..Default::default()
            };
            world.sandboxes.insert(id.clone(), Sandbox { status });
            RunPodSandboxResponse { pod_sandbox_id: id }
        })
    }

    async fn stop_pod_sandbox(
        &self,
        request: StopPodSandboxRequest,
    ) -> Result<StopPodSandboxResponse, Status> {
        self.world(|world| {
            let id = &request.pod_sandbox_id;
            let inside = world.containers.values_mut().filter(|container| container.sandbox == *id);
            inside.for_each(|container| end(&mut container.status));
            if let Some(sandbox) = world.sandboxes.get_mut(id) {
                sandbox.status.state = PodSandboxState::SandboxNotready as i32;
            }
            StopPodSandboxResponse {}
        })
    }

    async fn remove_pod_sandbox(
        &self,
        request: RemovePodSandboxRequest,
    ) -> Result<RemovePodSandboxResponse, Status> {
        self.world(|world| {
            world.containers.retain(|_, container| container.sandbox != request.pod_sandbox_id);
            world.sandboxes.remove(&request.pod_sandbox_id);
            RemovePodSandboxResponse {}
        })
    }

    async fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> Result<PodSandboxStatusResponse, Status> {
        let found = self.world(|world| world.sandboxes.get(&request.pod_sandbox_id).cloned())?;
        let sandbox = found
            .ok_or_else(|| Status::not_found("an error occurred when try to find sandbox: not found"))?;
        Ok(PodSandboxStatusResponse { status: Some(sandbox.status), ..Default::default() })
    }

    async fn list_pod_sandbox(
        &self,
        request: ListPodSandboxRequest,
    ) -> Result<ListPodSandboxResponse, Status> {
        let filter = request.filter.unwrap_or_default();
        self.world(|world| {
            let all = world.sandboxes.values().map(|sandbox| &sandbox.status);
            let some = all.filter(|status| {
                selected(&filter.label_selector, &status.labels)
                    && (filter.id.is_empty() || filter.id == status.id)
            });
            let items = some.cloned().map(|status| PodSandbox {
                id: status.id,
                metadata: status.metadata,
                state: status.state,
                created_at: status.created_at,
                labels: status.labels,
                annotations: status.annotations,
                runtime_handler: status.runtime_handler,
            });
            ListPodSandboxResponse { items: items.collect() }
        })
    }

    async fn create_container(
        &self,
        request: CreateContainerRequest,
    ) -> Result<CreateContainerResponse, Status> {
        let config = request.config.ok_or_else(|| Status::invalid_argument("config: Required value"))?;
        self.world(|world| {
            let id = world.new_id();
            let reference = config.image.as_ref().map(|image| image.image.clone()).unwrap_or_default();
            let status = ContainerStatus {
                id: id.clone(),
                metadata: config.metadata,
                state: ContainerState::ContainerCreated as i32,
                created_at: now(),
                image: config.image,
                image_ref: reference.clone(),
                image_id: reference,
                labels: config.labels,
                annotations: config.annotations,
                ..Default::default()
            };
            world
                .containers
                .insert(id.clone(), SimulatedContainer { sandbox: request.pod_sandbox_id, status });
            CreateContainerResponse { container_id: id }
        })
    }

    async fn start_container(
        &self,
        request: StartContainerRequest,
    ) -> Result<StartContainerResponse, Status> {
        self.change(&request.container_id, |status| {
            status.state = ContainerState::ContainerRunning as i32;
            status.started_at = now();
        })?;
        Ok(StartContainerResponse {})
    }

    async fn stop_container(&self, request: StopContainerRequest) -> Result<StopContainerResponse, Status> {
        self.change(&request.container_id, end)?;
        Ok(StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: RemoveContainerRequest,
    ) -> Result<RemoveContainerResponse, Status> {
        self.world(|world| world.containers.remove(&request.container_id))?;
        Ok(RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: ListContainersRequest,
    ) -> Result<ListContainersResponse, Status> {
        let filter = request.filter.unwrap_or_default();
        self.world(|world| {
            let some = world.containers.values().filter(|container| {
                selected(&filter.label_selector, &container.status.labels)
                    && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == container.sandbox)
            });
            ListContainersResponse { containers: some.map(listed).collect() }
        })
    }

    async fn container_status(
        &self,
        request: ContainerStatusRequest,
    ) -> Result<ContainerStatusResponse, Status> {
        let found = self.world(|world| world.containers.get(&request.container_id).cloned())?;
        let container = found.ok_or_else(|| Status::not_found("container not found"))?;
        Ok(ContainerStatusResponse { status: Some(container.status), ..Default::default() })
    }

    async fn exec_sync(&self, _: ExecSyncRequest) -> Result<ExecSyncResponse, Status> {
        Ok(ExecSyncResponse::default())
    }
}

/// The image that goes by any name.
fn image(name: String) -> Image {
    Image { id: name.clone(), repo_tags: vec![name], size: 1 << 20, ..Default::default() }
}

#[async_trait]
impl ImageService for SimulatedRuntime {
    async fn list_images(&self, _: ListImagesRequest) -> Result<ListImagesResponse, Status> {
        Ok(ListImagesResponse::default())
    }

    async fn image_status(&self, request: ImageStatusRequest) -> Result<ImageStatusResponse, Status> {
        let image = request.image.map(|spec| image(spec.image));
        Ok(ImageStatusResponse { image, ..Default::default() })
    }

    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse, Status> {
        Ok(PullImageResponse { image_ref: request.image.unwrap_or_default().image })
    }

    async fn remove_image(&self, _: RemoveImageRequest) -> Result<RemoveImageResponse, Status> {
        Ok(RemoveImageResponse {})
    }

    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse, Status> {
        Ok(ImageFsInfoResponse::default())
    }
}

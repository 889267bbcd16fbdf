//! The two CRI services: each method hands over to the file of its call.
//!
//! Calls that change something run in a task of their own, so that a client that goes away (a kubelet's deadline, a
//! killed crictl) cannot leave one half done: the call ends, and asking again finds its result.

use super::calls::*;
use super::{Engine, calls};
use knarr_cri::v1::*;
use knarr_cri::{ImageService, MessageStream, RuntimeService, Status};
use std::future::Future;

/// Runs a call to its end whatever becomes of the client.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    tokio::spawn(work)
        .await
        .unwrap_or_else(|broken| Err(Status::internal(format!("the call broke off: {broken}"))))
}

#[async_trait::async_trait]
impl RuntimeService for Engine {
    async fn version(&self, request: VersionRequest) -> Result<VersionResponse, Status> {
        version::call(&request)
    }
    async fn status(&self, request: StatusRequest) -> Result<StatusResponse, Status> {
        calls::status::call(&self.core, request).await
    }
    async fn runtime_config(&self, _: RuntimeConfigRequest) -> Result<RuntimeConfigResponse, Status> {
        Ok(runtime_config::call())
    }
    async fn update_runtime_config(
        &self,
        request: UpdateRuntimeConfigRequest,
    ) -> Result<UpdateRuntimeConfigResponse, Status> {
        update_runtime_config::call(&self.core, request).await
    }
    async fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> Result<RunPodSandboxResponse, Status> {
        detached(run_pod_sandbox::call(self.core.clone(), request)).await
    }
    async fn stop_pod_sandbox(
        &self,
        request: StopPodSandboxRequest,
    ) -> Result<StopPodSandboxResponse, Status> {
        detached(stop_pod_sandbox::call(self.core.clone(), request)).await
    }
    async fn remove_pod_sandbox(
        &self,
        request: RemovePodSandboxRequest,
    ) -> Result<RemovePodSandboxResponse, Status> {
        detached(remove_pod_sandbox::call(self.core.clone(), request)).await
    }
    async fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> Result<PodSandboxStatusResponse, Status> {
        pod_sandbox_status::call(&self.core, request)
    }
    async fn list_pod_sandbox(
        &self,
        request: ListPodSandboxRequest,
    ) -> Result<ListPodSandboxResponse, Status> {
        list_pod_sandbox::call(&self.core, request)
    }
    async fn stream_pod_sandboxes(
        &self,
        request: StreamPodSandboxesRequest,
    ) -> Result<MessageStream<StreamPodSandboxesResponse>, Status> {
        list_pod_sandbox::stream(&self.core, request)
    }
    async fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Result<UpdatePodSandboxResourcesResponse, Status> {
        detached(update_pod_sandbox_resources::call(self.core.clone(), request)).await
    }
    async fn create_container(
        &self,
        request: CreateContainerRequest,
    ) -> Result<CreateContainerResponse, Status> {
        detached(create_container::call(self.core.clone(), request)).await
    }
    async fn start_container(
        &self,
        request: StartContainerRequest,
    ) -> Result<StartContainerResponse, Status> {
        detached(start_container::call(self.core.clone(), request)).await
    }
    async fn stop_container(&self, request: StopContainerRequest) -> Result<StopContainerResponse, Status> {
        detached(stop_container::call(self.core.clone(), request)).await
    }
    async fn remove_container(
        &self,
        request: RemoveContainerRequest,
    ) -> Result<RemoveContainerResponse, Status> {
        detached(remove_container::call(self.core.clone(), request)).await
    }
    async fn container_status(
        &self,
        request: ContainerStatusRequest,
    ) -> Result<ContainerStatusResponse, Status> {
        container_status::call(&self.core, request).await
    }
    async fn list_containers(
        &self,
        request: ListContainersRequest,
    ) -> Result<ListContainersResponse, Status> {
        list_containers::call(&self.core, request)
    }
    async fn stream_containers(
        &self,
        request: StreamContainersRequest,
    ) -> Result<MessageStream<StreamContainersResponse>, Status> {
        list_containers::stream(&self.core, request)
    }
    async fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse, Status> {
        detached(update_container_resources::call(self.core.clone(), request)).await
    }
    async fn reopen_container_log(
        &self,
        request: ReopenContainerLogRequest,
    ) -> Result<ReopenContainerLogResponse, Status> {
        reopen_container_log::call(&self.core, request).await
    }
    async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse, Status> {
        exec_sync::call(&self.core, request).await
    }
    async fn exec(&self, request: ExecRequest) -> Result<ExecResponse, Status> {
        exec::call(self, &request)
    }
    async fn attach(&self, request: AttachRequest) -> Result<AttachResponse, Status> {
        attach::call(self, &request)
    }
    async fn port_forward(&self, request: PortForwardRequest) -> Result<PortForwardResponse, Status> {
        port_forward::call(self, &request)
    }
    async fn container_stats(
        &self,
        request: ContainerStatsRequest,
    ) -> Result<ContainerStatsResponse, Status> {
        container_stats::call(self.core.clone(), request).await
    }
    async fn list_container_stats(
        &self,
        request: ListContainerStatsRequest,
    ) -> Result<ListContainerStatsResponse, Status> {
        list_container_stats::call(self.core.clone(), request).await
    }
    async fn stream_container_stats(
        &self,
        request: StreamContainerStatsRequest,
    ) -> Result<MessageStream<StreamContainerStatsResponse>, Status> {
        list_container_stats::stream(self.core.clone(), request).await
    }
    async fn pod_sandbox_stats(
        &self,
        request: PodSandboxStatsRequest,
    ) -> Result<PodSandboxStatsResponse, Status> {
        pod_sandbox_stats::call(self.core.clone(), request).await
    }
    async fn list_pod_sandbox_stats(
        &self,
        request: ListPodSandboxStatsRequest,
    ) -> Result<ListPodSandboxStatsResponse, Status> {
        list_pod_sandbox_stats::call(self.core.clone(), request).await
    }
    async fn stream_pod_sandbox_stats(
        &self,
        request: StreamPodSandboxStatsRequest,
    ) -> Result<MessageStream<StreamPodSandboxStatsResponse>, Status> {
        list_pod_sandbox_stats::stream(self.core.clone(), request).await
    }
    async fn list_metric_descriptors(
        &self,
        _: ListMetricDescriptorsRequest,
    ) -> Result<ListMetricDescriptorsResponse, Status> {
        Ok(list_metric_descriptors::call())
    }
    async fn list_pod_sandbox_metrics(
        &self,
        _: ListPodSandboxMetricsRequest,
    ) -> Result<ListPodSandboxMetricsResponse, Status> {
        list_pod_sandbox_metrics::call(self.core.clone()).await
    }
    async fn stream_pod_sandbox_metrics(
        &self,
        _: StreamPodSandboxMetricsRequest,
    ) -> Result<MessageStream<StreamPodSandboxMetricsResponse>, Status> {
        list_pod_sandbox_metrics::stream(self.core.clone()).await
    }
    async fn get_container_events(
        &self,
        _: GetEventsRequest,
    ) -> Result<MessageStream<ContainerEventResponse>, Status> {
        Ok(get_container_events::call(&self.core))
    }
}

#[async_trait::async_trait]
impl ImageService for Engine {
    async fn list_images(&self, request: ListImagesRequest) -> Result<ListImagesResponse, Status> {
        list_images::call(self.core.clone(), request).await
    }
    async fn stream_images(
        &self,
        request: StreamImagesRequest,
    ) -> Result<MessageStream<StreamImagesResponse>, Status> {
        list_images::stream(self.core.clone(), request).await
    }
    async fn image_status(&self, request: ImageStatusRequest) -> Result<ImageStatusResponse, Status> {
        image_status::call(self.core.clone(), request).await
    }
    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse, Status> {
        pull_image::call(&self.core, request).await
    }
    async fn remove_image(&self, request: RemoveImageRequest) -> Result<RemoveImageResponse, Status> {
        detached(remove_image::call(self.core.clone(), request)).await
    }
    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse, Status> {
        image_fs_info::call(self.core.clone()).await
    }
}

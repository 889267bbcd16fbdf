//! The two CRI services: each method hands over to the file of its call.
//!
//! Calls that change something run in a task of their own, so that a client that goes away (a kubelet's deadline, a
//! killed crictl) cannot leave one half done: the call ends, and asking again finds its result.

use super::call_log::Subject;
use super::calls::*;
use super::{Engine, calls};
use knarr_cri::v1::*;
use knarr_cri::{ImageService, MessageStream, RuntimeService, Status};
use std::future::Future;
use tracing::Instrument;

/// Runs a call to its end whatever becomes of the client.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    tokio::spawn(work.in_current_span())
        .await
        .unwrap_or_else(|broken| Err(Status::internal(format!("the call broke off: {broken}"))))
}

#[async_trait::async_trait]
impl RuntimeService for Engine {
    async fn version(&self, request: VersionRequest) -> Result<VersionResponse, Status> {
        self.observed("Version", Subject::default(), async { version::call(&request) }).await
    }
    async fn status(&self, request: StatusRequest) -> Result<StatusResponse, Status> {
        self.observed("Status", Subject::default(), async { calls::status::call(&self.core, request).await })
            .await
    }
    async fn runtime_config(&self, _: RuntimeConfigRequest) -> Result<RuntimeConfigResponse, Status> {
        self.observed("RuntimeConfig", Subject::default(), async {
            Ok(runtime_config::call(self.core.config.engine.systemd_cgroup))
        })
        .await
    }
    async fn update_runtime_config(
        &self,
        request: UpdateRuntimeConfigRequest,
    ) -> Result<UpdateRuntimeConfigResponse, Status> {
        self.observed("UpdateRuntimeConfig", Subject::default(), async {
            update_runtime_config::call(&self.core, request).await
        })
        .await
    }
    async fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> Result<RunPodSandboxResponse, Status> {
        self.observed("RunPodSandbox", Subject::new_pod(request.config.as_ref()), async {
            detached(run_pod_sandbox::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn stop_pod_sandbox(
        &self,
        request: StopPodSandboxRequest,
    ) -> Result<StopPodSandboxResponse, Status> {
        self.observed("StopPodSandbox", Subject::pod(&request.pod_sandbox_id), async {
            detached(stop_pod_sandbox::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn remove_pod_sandbox(
        &self,
        request: RemovePodSandboxRequest,
    ) -> Result<RemovePodSandboxResponse, Status> {
        self.observed("RemovePodSandbox", Subject::pod(&request.pod_sandbox_id), async {
            detached(remove_pod_sandbox::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> Result<PodSandboxStatusResponse, Status> {
        self.observed("PodSandboxStatus", Subject::pod(&request.pod_sandbox_id), async {
            pod_sandbox_status::call(&self.core, request)
        })
        .await
    }
    async fn list_pod_sandbox(
        &self,
        request: ListPodSandboxRequest,
    ) -> Result<ListPodSandboxResponse, Status> {
        self.observed("ListPodSandbox", Subject::default(), async {
            list_pod_sandbox::call(&self.core, request)
        })
        .await
    }
    async fn stream_pod_sandboxes(
        &self,
        request: StreamPodSandboxesRequest,
    ) -> Result<MessageStream<StreamPodSandboxesResponse>, Status> {
        self.observed("StreamPodSandboxes", Subject::default(), async {
            list_pod_sandbox::stream(&self.core, request)
        })
        .await
    }
    async fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Result<UpdatePodSandboxResourcesResponse, Status> {
        self.observed("UpdatePodSandboxResources", Subject::pod(&request.pod_sandbox_id), async {
            detached(update_pod_sandbox_resources::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn create_container(
        &self,
        request: CreateContainerRequest,
    ) -> Result<CreateContainerResponse, Status> {
        self.observed("CreateContainer", Subject::pod(&request.pod_sandbox_id), async {
            detached(create_container::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn start_container(
        &self,
        request: StartContainerRequest,
    ) -> Result<StartContainerResponse, Status> {
        self.observed("StartContainer", Subject::container(&request.container_id), async {
            detached(start_container::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn stop_container(&self, request: StopContainerRequest) -> Result<StopContainerResponse, Status> {
        self.observed("StopContainer", Subject::container(&request.container_id), async {
            detached(stop_container::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn remove_container(
        &self,
        request: RemoveContainerRequest,
    ) -> Result<RemoveContainerResponse, Status> {
        self.observed("RemoveContainer", Subject::container(&request.container_id), async {
            detached(remove_container::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn container_status(
        &self,
        request: ContainerStatusRequest,
    ) -> Result<ContainerStatusResponse, Status> {
        self.observed("ContainerStatus", Subject::container(&request.container_id), async {
            container_status::call(&self.core, request).await
        })
        .await
    }
    async fn list_containers(
        &self,
        request: ListContainersRequest,
    ) -> Result<ListContainersResponse, Status> {
        self.observed("ListContainers", Subject::default(), async {
            list_containers::call(&self.core, request)
        })
        .await
    }
    async fn stream_containers(
        &self,
        request: StreamContainersRequest,
    ) -> Result<MessageStream<StreamContainersResponse>, Status> {
        self.observed("StreamContainers", Subject::default(), async {
            list_containers::stream(&self.core, request)
        })
        .await
    }
    async fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse, Status> {
        self.observed("UpdateContainerResources", Subject::container(&request.container_id), async {
            detached(update_container_resources::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn checkpoint_container(
        &self,
        request: CheckpointContainerRequest,
    ) -> Result<CheckpointContainerResponse, Status> {
        self.observed("CheckpointContainer", Subject::container(&request.container_id), async {
            detached(checkpoint_container::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn checkpoint_pod(&self, request: CheckpointPodRequest) -> Result<CheckpointPodResponse, Status> {
        self.observed("CheckpointPod", Subject::pod(&request.pod_sandbox_id), async {
            detached(checkpoint_pod::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn restore_pod(&self, request: RestorePodRequest) -> Result<RestorePodResponse, Status> {
        self.observed("RestorePod", Subject::new_pod(request.config.as_ref()), async {
            detached(restore_pod::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn reopen_container_log(
        &self,
        request: ReopenContainerLogRequest,
    ) -> Result<ReopenContainerLogResponse, Status> {
        self.observed("ReopenContainerLog", Subject::container(&request.container_id), async {
            reopen_container_log::call(&self.core, request).await
        })
        .await
    }
    async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse, Status> {
        self.observed("ExecSync", Subject::container(&request.container_id), async {
            exec_sync::call(&self.core, request).await
        })
        .await
    }
    async fn exec(&self, request: ExecRequest) -> Result<ExecResponse, Status> {
        self.observed("Exec", Subject::container(&request.container_id), async { exec::call(self, &request) })
            .await
    }
    async fn attach(&self, request: AttachRequest) -> Result<AttachResponse, Status> {
        self.observed("Attach", Subject::container(&request.container_id), async {
            attach::call(self, &request)
        })
        .await
    }
    async fn port_forward(&self, request: PortForwardRequest) -> Result<PortForwardResponse, Status> {
        self.observed("PortForward", Subject::pod(&request.pod_sandbox_id), async {
            port_forward::call(self, &request)
        })
        .await
    }
    async fn container_stats(
        &self,
        request: ContainerStatsRequest,
    ) -> Result<ContainerStatsResponse, Status> {
        self.observed("ContainerStats", Subject::container(&request.container_id), async {
            container_stats::call(self.core.clone(), request).await
        })
        .await
    }
    async fn list_container_stats(
        &self,
        request: ListContainerStatsRequest,
    ) -> Result<ListContainerStatsResponse, Status> {
        self.observed("ListContainerStats", Subject::default(), async {
            list_container_stats::call(self.core.clone(), request).await
        })
        .await
    }
    async fn stream_container_stats(
        &self,
        request: StreamContainerStatsRequest,
    ) -> Result<MessageStream<StreamContainerStatsResponse>, Status> {
        self.observed("StreamContainerStats", Subject::default(), async {
            list_container_stats::stream(self.core.clone(), request).await
        })
        .await
    }
    async fn pod_sandbox_stats(
        &self,
        request: PodSandboxStatsRequest,
    ) -> Result<PodSandboxStatsResponse, Status> {
        self.observed("PodSandboxStats", Subject::pod(&request.pod_sandbox_id), async {
            pod_sandbox_stats::call(self.core.clone(), request).await
        })
        .await
    }
    async fn list_pod_sandbox_stats(
        &self,
        request: ListPodSandboxStatsRequest,
    ) -> Result<ListPodSandboxStatsResponse, Status> {
        self.observed("ListPodSandboxStats", Subject::default(), async {
            list_pod_sandbox_stats::call(self.core.clone(), request).await
        })
        .await
    }
    async fn stream_pod_sandbox_stats(
        &self,
        request: StreamPodSandboxStatsRequest,
    ) -> Result<MessageStream<StreamPodSandboxStatsResponse>, Status> {
        self.observed("StreamPodSandboxStats", Subject::default(), async {
            list_pod_sandbox_stats::stream(self.core.clone(), request).await
        })
        .await
    }
    async fn list_metric_descriptors(
        &self,
        _: ListMetricDescriptorsRequest,
    ) -> Result<ListMetricDescriptorsResponse, Status> {
        self.observed("ListMetricDescriptors", Subject::default(), async {
            Ok(list_metric_descriptors::call())
        })
        .await
    }
    async fn list_pod_sandbox_metrics(
        &self,
        _: ListPodSandboxMetricsRequest,
    ) -> Result<ListPodSandboxMetricsResponse, Status> {
        self.observed("ListPodSandboxMetrics", Subject::default(), async {
            list_pod_sandbox_metrics::call(self.core.clone()).await
        })
        .await
    }
    async fn stream_pod_sandbox_metrics(
        &self,
        _: StreamPodSandboxMetricsRequest,
    ) -> Result<MessageStream<StreamPodSandboxMetricsResponse>, Status> {
        self.observed("StreamPodSandboxMetrics", Subject::default(), async {
            list_pod_sandbox_metrics::stream(self.core.clone()).await
        })
        .await
    }
    async fn get_container_events(
        &self,
        _: GetEventsRequest,
    ) -> Result<MessageStream<ContainerEventResponse>, Status> {
        self.observed("GetContainerEvents", Subject::default(), async {
            Ok(get_container_events::call(&self.core))
        })
        .await
    }
}

#[async_trait::async_trait]
impl ImageService for Engine {
    async fn list_images(&self, request: ListImagesRequest) -> Result<ListImagesResponse, Status> {
        self.observed("ListImages", Subject::default(), async {
            list_images::call(self.core.clone(), request).await
        })
        .await
    }
    async fn stream_images(
        &self,
        request: StreamImagesRequest,
    ) -> Result<MessageStream<StreamImagesResponse>, Status> {
        self.observed("StreamImages", Subject::default(), async {
            list_images::stream(self.core.clone(), request).await
        })
        .await
    }
    async fn image_status(&self, request: ImageStatusRequest) -> Result<ImageStatusResponse, Status> {
        self.observed("ImageStatus", Subject::image(request.image.as_ref()), async {
            image_status::call(self.core.clone(), request).await
        })
        .await
    }
    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse, Status> {
        self.observed("PullImage", Subject::image(request.image.as_ref()), async {
            pull_image::call(&self.core, request).await
        })
        .await
    }
    async fn remove_image(&self, request: RemoveImageRequest) -> Result<RemoveImageResponse, Status> {
        self.observed("RemoveImage", Subject::image(request.image.as_ref()), async {
            detached(remove_image::call(self.core.clone(), request)).await
        })
        .await
    }
    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse, Status> {
        self.observed("ImageFsInfo", Subject::default(), async {
            image_fs_info::call(self.core.clone()).await
        })
        .await
    }
}

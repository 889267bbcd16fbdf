//! The two service traits, written once as a table of calls.
//!
//! The table generates the trait, the adapter from the trait to a tonic server and the adapter from a tonic client
//! to the trait, so the three cannot drift. A call that an implementation leaves out answers Unimplemented, which
//! is what the kubelet and crictl expect of a feature that a runtime does not have.

use crate::v1::*;
use futures_util::stream::BoxStream;
use tonic::Status;

/// A server-streamed answer.
pub type MessageStream<T> = BoxStream<'static, Result<T, Status>>;

macro_rules! cri_service {
    (
        $(#[$doc:meta])* $service:ident, server $server:ident :: $server_type:ident, client $client:ident :: $client_type:ident;
        unary { $($call:ident($request:ident) -> $response:ident;)* }
        streams { $($stream:ident($stream_request:ident) -> $item:ident as $stream_type:ident;)* }
    ) => {
        $(#[$doc])*
        #[async_trait::async_trait]
        pub trait $service: Send + Sync + 'static {
            $(
                #[allow(missing_docs)]
                async fn $call(&self, request: $request) -> Result<$response, Status> {
                    let _ = request;
                    Err(Status::unimplemented(concat!("unknown method ", stringify!($call))))
                }
            )*
            $(
                #[allow(missing_docs)]
                async fn $stream(&self, request: $stream_request) -> Result<MessageStream<$item>, Status> {
                    let _ = request;
                    Err(Status::unimplemented(concat!("unknown method ", stringify!($stream))))
                }
            )*
        }

        #[async_trait::async_trait]
        impl $server::$service for crate::server::Served<dyn $service> {
            $(
                async fn $call(&self, request: tonic::Request<$request>) -> Result<tonic::Response<$response>, Status> {
                    self.0.$call(request.into_inner()).await.map(tonic::Response::new)
                }
            )*
            $(
                type $stream_type = MessageStream<$item>;
                async fn $stream(
                    &self,
                    request: tonic::Request<$stream_request>,
                ) -> Result<tonic::Response<Self::$stream_type>, Status> {
                    self.0.$stream(request.into_inner()).await.map(tonic::Response::new)
                }
            )*
        }

        #[async_trait::async_trait]
        impl $service for $client::$client_type<tonic::transport::Channel> {
            $(
                async fn $call(&self, request: $request) -> Result<$response, Status> {
                    let mut client = self.clone();
                    $client::$client_type::$call(&mut client, request).await.map(tonic::Response::into_inner)
                }
            )*
            $(
                async fn $stream(&self, request: $stream_request) -> Result<MessageStream<$item>, Status> {
                    let mut client = self.clone();
                    let items = $client::$client_type::$stream(&mut client, request).await?.into_inner();
                    Ok(Box::pin(items))
                }
            )*
        }
    };
}

cri_service! {
    /// Pods and containers: the 37 calls of `runtime.v1.RuntimeService`.
    RuntimeService, server runtime_service_server::RuntimeServiceServer, client runtime_service_client::RuntimeServiceClient;
    unary {
        version(VersionRequest) -> VersionResponse;
        run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
        stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
        remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
        pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
        list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
        create_container(CreateContainerRequest) -> CreateContainerResponse;
        start_container(StartContainerRequest) -> StartContainerResponse;
        stop_container(StopContainerRequest) -> StopContainerResponse;
        remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
        list_containers(ListContainersRequest) -> ListContainersResponse;
        container_status(ContainerStatusRequest) -> ContainerStatusResponse;
        update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
        reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
        exec_sync(ExecSyncRequest) -> ExecSyncResponse;
        exec(ExecRequest) -> ExecResponse;
        attach(AttachRequest) -> AttachResponse;
        port_forward(PortForwardRequest) -> PortForwardResponse;
        container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
        list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
        pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
        list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
        update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
        status(StatusRequest) -> StatusResponse;
        checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
        checkpoint_pod(CheckpointPodRequest) -> CheckpointPodResponse;
        restore_pod(RestorePodRequest) -> RestorePodResponse;
        list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
        list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
        runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
        update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
    }
    streams {
        stream_pod_sandboxes(StreamPodSandboxesRequest) -> StreamPodSandboxesResponse as StreamPodSandboxesStream;
        stream_containers(StreamContainersRequest) -> StreamContainersResponse as StreamContainersStream;
        stream_container_stats(StreamContainerStatsRequest) -> StreamContainerStatsResponse as StreamContainerStatsStream;
        stream_pod_sandbox_stats(StreamPodSandboxStatsRequest) -> StreamPodSandboxStatsResponse as StreamPodSandboxStatsStream;
        get_container_events(GetEventsRequest) -> ContainerEventResponse as GetContainerEventsStream;
        stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest) -> StreamPodSandboxMetricsResponse as StreamPodSandboxMetricsStream;
    }
}

cri_service! {
    /// Images: the 6 calls of `runtime.v1.ImageService`.
    ImageService, server image_service_server::ImageServiceServer, client image_service_client::ImageServiceClient;
    unary {
        list_images(ListImagesRequest) -> ListImagesResponse;
        image_status(ImageStatusRequest) -> ImageStatusResponse;
        pull_image(PullImageRequest) -> PullImageResponse;
        remove_image(RemoveImageRequest) -> RemoveImageResponse;
        image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
    }
    streams {
        stream_images(StreamImagesRequest) -> StreamImagesResponse as StreamImagesStream;
    }
}

//! The pod resources API (`pod-resources/kubelet.sock`, service `v1.PodResourcesLister`): monitoring agents and
//! network plugins ask there which devices and processors each container has for itself, and how many there are to give.

use crate::kubelet::cpus::Cpus;
use crate::kubelet::devices::Devices;
use crate::kubelet::pod::{self, Kind};
use crate::kubelet::pods::Workers;
use crate::root_socket;
use k8s_openapi::api::core::v1::{Container, Pod};
use knarr_cri::pod_resources::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};
use knarr_cri::pod_resources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices, ContainerResources,
    GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
    PodResources,
};
use knarr_cri::{Status, any_authority};
use std::path::{Path, PathBuf};
use tonic::{Request, Response};

/// Who knows what containers have.
#[derive(Debug, Clone)]
pub struct Resources {
    #[allow(missing_docs)]
    pub workers: Workers,
    #[allow(missing_docs)]
    pub devices: Devices,
    #[allow(missing_docs)]
    pub cpus: Cpus,
}

impl Resources {
    /// Serves under the kubelet's directory. Never returns, unless nobody can be served.
    pub async fn run(self, root: PathBuf) {
        let socket = root.join("pod-resources/kubelet.sock");
        if let Err(error) = self.serve(&socket).await {
            tracing::warn!("{}: no pod resources API: {error:#}", socket.display());
        }
    }

    async fn serve(self, socket: &Path) -> anyhow::Result<()> {
        let incoming = any_authority::incoming(root_socket::listen(socket).await?);
        let service = PodResourcesListerServer::new(self);
        Ok(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await?)
    }

    fn of(&self, pod: &Pod) -> PodResources {
        // What an init container had, its successors have.
        let lasting = pod::containers(pod).filter(|(kind, _)| *kind != Kind::Init);
        PodResources {
            name: pod::name(pod).to_owned(),
            namespace: pod::namespace(pod).to_owned(),
            containers: lasting.map(|(_, container)| self.of_container(pod::uid(pod), container)).collect(),
        }
    }

    fn of_container(&self, uid: &str, container: &Container) -> ContainerResources {
        ContainerResources {
            name: container.name.clone(),
            devices: each(self.devices.of(uid, &container.name)),
            cpu_ids: self.cpus.alone(uid, &container.name),
        }
    }
}

/// One entry for each device, as a kubelet has it.
fn each(devices: impl IntoIterator<Item = (String, Vec<String>)>) -> Vec<ContainerDevices> {
    let one = |resource: &str, id: String| ContainerDevices {
        resource_name: resource.to_owned(),
        device_ids: vec![id],
    };
    let all = devices
        .into_iter()
        .flat_map(|(resource, ids)| ids.into_iter().map(|id| one(&resource, id)).collect::<Vec<_>>());
    all.collect()
}

#[async_trait::async_trait]
impl PodResourcesLister for Resources {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let pods = self.workers.pods();
        let active = pods.iter().filter(|pod| !pod::is_finished(pod));
        let pod_resources = active.map(|pod| self.of(pod)).collect();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        let devices = each(self.devices.healthy());
        let cpu_ids = self.cpus.to_give();
        Ok(Response::new(AllocatableResourcesResponse { devices, cpu_ids }))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        let GetPodResourcesRequest { pod_name, pod_namespace } = request.into_inner();
        let pods = self.workers.pods();
        let found =
            pods.iter().find(|pod| pod::name(pod) == pod_name && pod::namespace(pod) == pod_namespace);
        let found = found.ok_or_else(|| {
            Status::not_found(format!("pod {pod_name} in namespace {pod_namespace} not found"))
        })?;
        Ok(Response::new(GetPodResourcesResponse { pod_resources: Some(self.of(found)) }))
    }
}

//! A device plugin as vendors write them: it registers, says what it has, and tells what a device means to a
//! container.

use super::{lab, pod, shell};
use knarr_cri::Status;
use knarr_cri::device_plugin::device_plugin_server::{DevicePlugin, DevicePluginServer};
use knarr_cri::device_plugin::registration_client::RegistrationClient;
use knarr_cri::device_plugin::*;
use knarr_cri::pod_resources::pod_resources_lister_client::PodResourcesListerClient;
use knarr_cri::pod_resources::{
    AllocatableResourcesRequest, ContainerDevices, GetPodResourcesRequest, ListPodResourcesRequest,
};
use lab::{Lab, eventually, is_ready, phase};
use serde_json::{Value, json};
use std::path::Path;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::transport::Channel;
use tonic::{Request, Response};

struct Plugin;

fn device(id: &str, health: &str) -> Device {
    Device { id: id.to_owned(), health: health.to_owned(), topology: None }
}

#[async_trait::async_trait]
impl DevicePlugin for Plugin {
    type ListAndWatchStream = UnboundedReceiverStream<Result<ListAndWatchResponse, Status>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions::default()))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let devices = vec![device("d0", "Healthy"), device("d1", "Unhealthy"), device("d2", "Healthy")];
        sender.send(Ok(ListAndWatchResponse { devices })).unwrap();
        // The stream stays open as long as the plugin lives.
        tokio::spawn(async move { sender.closed().await });
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("not offered"))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let answer = |ids: Vec<String>| ContainerAllocateResponse {
            envs: [("DEVICES".to_owned(), ids.join(","))].into(),
            devices: vec![DeviceSpec {
                container_path: "/dev/example".to_owned(),
                host_path: "/dev/null".to_owned(),
                permissions: "rw".to_owned(),
            }],
            mounts: vec![Mount {
                container_path: "/driver".to_owned(),
                host_path: "/proc/version".to_owned(),
                read_only: true,
            }],
            ..Default::default()
        };
        let requests = request.into_inner().container_requests;
        let container_responses = requests.into_iter().map(|request| answer(request.devices_ids)).collect();
        Ok(Response::new(AllocateResponse { container_responses }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

/// Serves the plugin and registers it.
async fn start(directory: &Path) {
    let kubelet = directory.join("kubelet.sock");
    assert!(eventually(async || kubelet.exists().then_some(())).await.is_some(), "the kubelet's socket");
    let listener = UnixListener::bind(directory.join("test.sock")).unwrap();
    let server = tonic::transport::Server::builder().add_service(DevicePluginServer::new(Plugin));
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    let mut client = RegistrationClient::new(knarr_cri::client::plugin(kubelet).unwrap());
    let request = |resource: &str| RegisterRequest {
        version: "v1beta1".to_owned(),
        endpoint: "test.sock".to_owned(),
        resource_name: resource.to_owned(),
        options: None,
    };
    let refused = client.register(request("cpu")).await.unwrap_err();
    assert!(refused.message().contains("is invalid"), "{refused}");
    client.register(request("example.com/d")).await.unwrap();
}

fn with_devices(name: &str, count: u32) -> Value {
    let mut container =
        shell("c", "echo $DEVICES; test -c /dev/example && grep -c Linux /driver; sleep 1000");
    container["resources"] = json!({"limits": {"example.com/d": count.to_string()}});
    pod(name, json!({"terminationGracePeriodSeconds": 0, "containers": [container]}))
}

/// The pod resources API, as monitoring agents ask it.
pub(super) fn resources(lab: &Lab) -> PodResourcesListerClient<Channel> {
    let socket = lab.path("data/kubelet/pod-resources/kubelet.sock");
    PodResourcesListerClient::new(knarr_cri::client::plugin(socket).unwrap())
}

async fn others_learn_who_has_them(client: &PodResourcesListerClient<Channel>, name: &str) {
    let mut client = client.clone();
    let ids = |devices: &[ContainerDevices]| {
        let all = devices.iter().map(|device| (device.resource_name.clone(), device.device_ids.join(",")));
        all.collect::<Vec<_>>()
    };
    let own = |id: &str| ("example.com/d".to_owned(), id.to_owned());
    let listed = client.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources;
    let found = listed.iter().find(|pod| pod.name == name).unwrap();
    assert_eq!(ids(&found.containers[0].devices), [own("d0")]);
    let all = client.get_allocatable_resources(AllocatableResourcesRequest {}).await.unwrap().into_inner();
    assert_eq!(ids(&all.devices), [own("d0"), own("d2")]);
    let request =
        |name: &str| GetPodResourcesRequest { pod_name: name.into(), pod_namespace: "default".into() };
    let same = client.get(request(name)).await.unwrap().into_inner().pod_resources;
    assert_eq!(same.as_ref(), Some(found));
    let refused = client.get(request("nobody")).await.unwrap_err();
    assert_eq!(refused.message(), "pod nobody in namespace default not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_a_plugin_reach_the_containers_that_ask_for_them() {
    lab::with(async |lab: &mut Lab| {
        start(&lab.path("data/kubelet/device-plugins")).await;
        // A plugin's word arrives a moment after it registers, and whoever comes before it is refused for good.
        let mut number = 0;
        let first = eventually(async || {
            number += 1;
            let name = format!("first{number}");
            lab.write("first.json", with_devices(&name, 1));
            let pod = lab.pod_when(&name, |pod| is_ready(pod) || phase(pod) == "Failed").await;
            (phase(&pod) == "Running").then_some(pod)
        });
        let first = first.await.unwrap();
        lab.log_is(&first, "c", "d0\n1\n").await;
        others_learn_who_has_them(&resources(lab), first.metadata.name.as_deref().unwrap()).await;
        lab.write("greedy.json", with_devices("greedy", 2));
        let greedy = lab.pod_when("greedy", |pod| phase(pod) == "Failed").await;
        let status = greedy.status.unwrap();
        assert_eq!(status.reason.as_deref(), Some("UnexpectedAdmissionError"));
        let message = status.message.unwrap();
        let expected = "Pod was rejected: Allocate failed due to requested number of devices unavailable for example.com/d. Requested: 2, Available: 1, which is unexpected";
        assert_eq!(message, expected);
        lab.restart().await;
        let name = format!("first{number}");
        lab.pod_when(&name, is_ready).await;
        lab.write("second.json", with_devices("second", 2));
        let second = lab.pod_when("second", |pod| phase(pod) == "Failed").await;
        assert_eq!(second.status.unwrap().message.as_deref(), Some(expected), "the first one's is still taken");
        lab.delete("first.json");
        lab.gone(&name).await;
    })
    .await;
}

//! Talking to one plugin: what it has, for as long as it says so, and what its devices mean to a container.

use super::{Devices, Endpoint};
use knarr_cri::Status;
use knarr_cri::device_plugin::device_plugin_client::DevicePluginClient;
use knarr_cri::device_plugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse, DevicePluginOptions, Empty,
    PreStartContainerRequest,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tonic::transport::Channel;

/// A plugin may have to prepare a device.
const PATIENCE: Duration = Duration::from_secs(30);

type Client = DevicePluginClient<Channel>;

fn connect(socket: &Path) -> Result<Client, Status> {
    let channel = knarr_cri::client::plugin(socket.to_path_buf());
    channel.map(DevicePluginClient::new).map_err(|error| Status::unavailable(error.to_string()))
}

/// Follows what a plugin offers until it goes; then its devices are there, but not healthy.
pub(super) async fn follow(devices: Devices, resource: String, endpoint: Endpoint) {
    let mut last = BTreeMap::new();
    if let Err(status) = listen(&devices, &resource, &endpoint, &mut last).await {
        tracing::warn!(resource, "device plugin: {}", status.message());
    }
    if devices.is_current(&resource, endpoint.generation) {
        devices.offer(&resource, last.into_keys().map(|id| (id, false)).collect());
        devices.disconnect(&resource, endpoint.generation);
    }
}

async fn listen(
    devices: &Devices,
    resource: &str,
    endpoint: &Endpoint,
    last: &mut BTreeMap<String, bool>,
) -> Result<(), Status> {
    let mut stream = connect(&endpoint.socket)?.list_and_watch(Empty {}).await?.into_inner();
    while let Some(answer) = stream.message().await? {
        if !devices.is_current(resource, endpoint.generation) {
            return Ok(());
        }
        *last = answer.devices.into_iter().map(|device| (device.id, device.health == "Healthy")).collect();
        devices.offer(resource, last.clone());
    }
    Ok(())
}

/// What these devices mean to a container that is about to be made with them.
pub(super) async fn allocate(
    socket: &Path,
    options: &DevicePluginOptions,
    ids: Vec<String>,
) -> Result<ContainerAllocateResponse, String> {
    let ask = async {
        let mut client = connect(socket)?;
        let container = ContainerAllocateRequest { devices_ids: ids.clone() };
        let request = AllocateRequest { container_requests: vec![container] };
        let answer = client.allocate(request).await?.into_inner();
        if options.pre_start_required {
            client.pre_start_container(PreStartContainerRequest { devices_ids: ids }).await?;
        }
        let answer = answer.container_responses.into_iter().next();
        answer.ok_or_else(|| Status::internal("no container responses in allocation response"))
    };
    match tokio::time::timeout(PATIENCE, ask).await {
        Ok(answered) => answered.map_err(|status: Status| status.message().to_owned()),
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

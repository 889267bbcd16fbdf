//! The socket at which plugins register. Plugins watch it: when it appears anew they register again.

use super::{Devices, Endpoint, is_device, plugin};
use crate::root_socket;
use knarr_cri::device_plugin::registration_server::{Registration, RegistrationServer};
use knarr_cri::device_plugin::{Empty, RegisterRequest};
use knarr_cri::{Status, any_authority};
use tonic::{Request, Response};

const VERSION: &str = "v1beta1";
const SOCKET: &str = "kubelet.sock";

/// Serves until the future is dropped.
pub(super) async fn serve(devices: Devices) -> anyhow::Result<()> {
    let socket = devices.directory.join(SOCKET);
    let listener = root_socket::listen(&socket).await?;
    let service = RegistrationServer::new(Registrar { devices });
    let incoming = any_authority::incoming(listener);
    Ok(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await?)
}

struct Registrar {
    devices: Devices,
}

#[async_trait::async_trait]
impl Registration for Registrar {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        check(&request)?;
        self.devices.registered(request);
        Ok(Response::new(Empty {}))
    }
}

fn check(request: &RegisterRequest) -> Result<(), Status> {
    if request.version != VERSION {
        let text = format!(
            "requested API version {:?} is not supported by kubelet. Supported version is {VERSION:?}",
            request.version
        );
        return Err(Status::invalid_argument(text));
    }
    if !is_device(&request.resource_name) {
        let text = format!("the ResourceName {:?} is invalid", request.resource_name);
        return Err(Status::invalid_argument(text));
    }
    // The name of a file in our directory, and of nothing else.
    if request.endpoint.is_empty() || request.endpoint.contains('/') || request.endpoint.starts_with('.') {
        return Err(Status::invalid_argument(format!("endpoint {:?} is not a file name", request.endpoint)));
    }
    Ok(())
}

impl Devices {
    fn registered(&self, request: RegisterRequest) {
        let resource = request.resource_name;
        let endpoint = {
            let mut state = self.lock();
            let generation = state.plugins.get(&resource).map_or(0, |before| before.generation + 1);
            let socket = self.directory.join(&request.endpoint);
            let endpoint = Endpoint { socket, options: request.options.unwrap_or_default(), generation };
            state.plugins.insert(resource.clone(), endpoint.clone());
            endpoint
        };
        tracing::info!(resource, "a device plugin has registered");
        tokio::spawn(plugin::follow(self.clone(), resource, endpoint));
    }

    /// Whether no other plugin has registered for the resource since.
    pub(super) fn is_current(&self, resource: &str, generation: u64) -> bool {
        self.lock().plugins.get(resource).is_some_and(|endpoint| endpoint.generation == generation)
    }

    /// The plugin has gone.
    pub(super) fn disconnect(&self, resource: &str, generation: u64) {
        let mut state = self.lock();
        if state.plugins.get(resource).is_some_and(|endpoint| endpoint.generation == generation) {
            state.plugins.remove(resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plugins_of_this_protocol_register() {
        let request = |version: &str, endpoint: &str, resource: &str| RegisterRequest {
            version: version.into(),
            endpoint: endpoint.into(),
            resource_name: resource.into(),
            options: None,
        };
        check(&request("v1beta1", "d.sock", "example.com/d")).unwrap();
        for wrong in [
            request("v1alpha", "d.sock", "example.com/d"),
            request("v1beta1", "../d.sock", "example.com/d"),
            request("v1beta1", "", "example.com/d"),
            request("v1beta1", "d.sock", "cpu"),
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
    }
}

//! A storage driver as the public hostpath driver is one: its volumes are directories, staged and published by bind
//! mounts; it registers through a socket beside its own and writes down what it was asked.

use futures_util::stream::{self, Stream};
use knarr_cri::Status;
use knarr_cri::csi::node_server::{Node, NodeServer};
use knarr_cri::csi::node_service_capability::{Rpc, Type, rpc};
use knarr_cri::csi::volume_capability::AccessType;
use knarr_cri::csi::*;
use knarr_cri::plugin_registration::registration_server::{Registration, RegistrationServer};
use knarr_cri::plugin_registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tonic::{Request, Response};

pub(crate) const NAME: &str = "test.csi.example";

/// What the driver was asked, and what it has mounted.
#[derive(Debug, Default)]
struct Memory {
    calls: Vec<String>,
    mounted: BTreeSet<PathBuf>,
    registered: Option<bool>,
}

/// A running driver; unmounts what it mounted when it is dropped.
#[derive(Clone)]
pub(crate) struct Driver {
    memory: Arc<Mutex<Memory>>,
    volumes: PathBuf,
    endpoint: PathBuf,
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

fn incoming(socket: &Path) -> impl Stream<Item = io::Result<UnixStream>> + use<> {
    drop(std::fs::remove_file(socket));
    let listener = UnixListener::bind(socket).expect("a socket");
    stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    })
}

impl Driver {
    /// Serves below the kubelet's directory `root`; its volumes are in `volumes`.
    pub(crate) fn serve(runtime: &Runtime, root: &Path, volumes: &Path) -> Driver {
        let directory = root.join("plugins").join(NAME);
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::create_dir_all(root.join("plugins_registry")).expect("a directory");
        let endpoint = directory.join("csi.sock");
        let driver = Driver { memory: Arc::default(), volumes: volumes.to_path_buf(), endpoint };
        let registrar = root.join("plugins_registry").join(format!("{NAME}-reg.sock"));
        let _context = runtime.enter();
        let service = NodeServer::new(driver.clone());
        let node = tonic::transport::Server::builder().add_service(service);
        runtime.spawn(node.serve_with_incoming(incoming(&driver.endpoint)));
        let service = RegistrationServer::new(driver.clone());
        let registration = tonic::transport::Server::builder().add_service(service);
        runtime.spawn(registration.serve_with_incoming(incoming(&registrar)));
        driver
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("nobody panics with it")
    }

    /// Calls of one kind, oldest first.
    pub(crate) fn calls(&self, kind: &str) -> Vec<String> {
        self.memory().calls.iter().filter(|call| call.starts_with(kind)).cloned().collect()
    }

    /// Whether the node has welcomed it.
    pub(crate) fn is_registered(&self) -> Option<bool> {
        self.memory().registered
    }

    pub(crate) fn unmount_all(&self) {
        for path in std::mem::take(&mut self.memory().mounted) {
            let _gone = unmount(&path, UnmountFlags::DETACH);
        }
    }

    fn note(&self, call: String) {
        self.memory().calls.push(call);
    }

    fn bind(&self, source: &Path, target: &str) -> Result<(), Status> {
        let target = PathBuf::from(target);
        std::fs::create_dir_all(&target).map_err(failed)?;
        let mut memory = self.memory();
        if !memory.mounted.contains(&target) {
            mount_bind(source, &target).map_err(failed)?;
            memory.mounted.insert(target);
        }
        Ok(())
    }

    /// A device is bound to a file that the driver makes; a volume that does not hold one is given as it is.
    fn publish_device(&self, volume: &str, target: &str) -> Result<(), Status> {
        let device = self.volumes.join(volume).join("device");
        std::fs::write(target, "").map_err(failed)?;
        if !device.exists() {
            return Ok(());
        }
        mount_bind(&device, target).map_err(failed)?;
        self.memory().mounted.insert(target.into());
        Ok(())
    }

    fn unbind(&self, target: &str) -> Result<(), Status> {
        let target = PathBuf::from(target);
        if self.memory().mounted.remove(&target) {
            unmount(&target, UnmountFlags::empty()).map_err(failed)?;
        }
        if target.is_file() {
            std::fs::remove_file(&target).map_err(failed)?;
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Registration for Driver {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".into(),
            name: NAME.into(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec!["1.0.0".into()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        self.memory().registered = Some(request.into_inner().plugin_registered);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl Node for Driver {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("stage {}", request.volume_id));
        let source = self.volumes.join(&request.volume_id);
        std::fs::create_dir_all(&source).map_err(failed)?;
        self.bind(&source, &request.staging_target_path)?;
        Ok(Response::new(NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("unstage {}", request.volume_id));
        self.unbind(&request.staging_target_path)?;
        Ok(Response::new(NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("publish {}", request.volume_id));
        let access = request.volume_capability.and_then(|capability| capability.access_type);
        if let Some(AccessType::Block(_)) = access {
            self.publish_device(&request.volume_id, &request.target_path)?;
            return Ok(Response::new(NodePublishVolumeResponse {}));
        }
        let source = match request.staging_target_path.as_str() {
            "" => self.volumes.join(&request.volume_id),
            staged => PathBuf::from(staged),
        };
        std::fs::create_dir_all(&source).map_err(failed)?;
        let mut known: Vec<String> =
            request.volume_context.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        known.sort();
        std::fs::write(source.join("context"), known.concat()).map_err(failed)?;
        self.bind(&source, &request.target_path)?;
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("unpublish {}", request.volume_id));
        self.unbind(&request.target_path)?;
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.capacity_range.unwrap_or_default().required_bytes;
        self.note(format!("expand {} to {bytes}", request.volume_id));
        if !Path::new(&request.volume_path).exists() || !Path::new(&request.staging_target_path).exists() {
            return Err(Status::not_found(request.volume_path));
        }
        Ok(Response::new(NodeExpandVolumeResponse { capacity_bytes: bytes }))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let can = [rpc::Type::StageUnstageVolume, rpc::Type::ExpandVolume];
        let capability = |ability: rpc::Type| NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: ability.into() })),
        };
        let capabilities = can.map(capability).to_vec();
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        let segments = [("topology.test.example/node".to_owned(), "here".to_owned())].into();
        Ok(Response::new(NodeGetInfoResponse {
            node_id: "id-of-node".into(),
            max_volumes_per_node: 7,
            accessible_topology: Some(Topology { segments }),
        }))
    }
}

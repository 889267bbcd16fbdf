//! Talking to one driver. Every call has a deadline, and an error says which call it was, as the kubelet's does.

use super::PATIENCE;
use crate::kubelet::host::{rpc_error, within};
use knarr_cri::Status;
use knarr_cri::csi::node_client::NodeClient;
use knarr_cri::csi::node_service_capability::{Type, rpc};
use knarr_cri::csi::{
    NodeExpandVolumeRequest, NodeGetCapabilitiesRequest, NodeGetInfoRequest, NodeGetInfoResponse,
    NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
};
use std::path::PathBuf;
use tonic::transport::Channel;

/// A registered driver.
#[derive(Debug, Clone)]
pub(super) struct Driver {
    /// Where it registered: the driver goes with this file.
    pub(super) registrar: PathBuf,
    /// Where it serves.
    pub(super) endpoint: PathBuf,
    /// What it says of this node.
    pub(super) info: NodeGetInfoResponse,
    /// What it can do.
    pub(super) abilities: Vec<rpc::Type>,
}

impl Driver {
    /// Asks a driver what it is.
    pub(super) async fn meet(registrar: PathBuf, endpoint: PathBuf) -> Result<Driver, String> {
        let mut driver =
            Driver { registrar, endpoint, info: NodeGetInfoResponse::default(), abilities: Vec::new() };
        let mut client = driver.client()?;
        let info = within(PATIENCE, client.node_get_info(NodeGetInfoRequest {})).await;
        driver.info = info.map_err(|status| rpc_error(&status))?.into_inner();
        let can = within(PATIENCE, client.node_get_capabilities(NodeGetCapabilitiesRequest {})).await;
        let can = can.map_err(|status| rpc_error(&status))?.into_inner().capabilities;
        driver.abilities = can
            .into_iter()
            .filter_map(|capability| match capability.r#type {
                Some(Type::Rpc(rpc)) => rpc::Type::try_from(rpc.r#type).ok(),
                None => None,
            })
            .collect();
        Ok(driver)
    }

    pub(super) fn can(&self, ability: rpc::Type) -> bool {
        self.abilities.contains(&ability)
    }

    fn client(&self) -> Result<NodeClient<Channel>, String> {
        let channel = knarr_cri::client::plugin(self.endpoint.clone());
        channel.map(NodeClient::new).map_err(|error| error.to_string())
    }

    pub(super) async fn stage(&self, request: NodeStageVolumeRequest) -> Result<(), String> {
        let mut client = self.client()?;
        let done = within(PATIENCE, client.node_stage_volume(request)).await;
        done.map(drop).map_err(|status| failed("attacher.MountDevice", &status))
    }

    pub(super) async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), String> {
        let mut client = self.client()?;
        let done = within(PATIENCE, client.node_publish_volume(request)).await;
        done.map(drop).map_err(|status| failed("mounter.SetUpAt", &status))
    }

    /// The bytes that it has now; zero where the driver does not say.
    pub(super) async fn expand(&self, request: NodeExpandVolumeRequest) -> Result<i64, String> {
        let mut client = self.client()?;
        let done = within(PATIENCE, client.node_expand_volume(request)).await;
        done.map(|answer| answer.into_inner().capacity_bytes)
            .map_err(|status| failed("Expander.NodeExpand", &status))
    }

    pub(super) async fn unpublish(&self, request: NodeUnpublishVolumeRequest) -> Result<(), String> {
        let mut client = self.client()?;
        let done = within(PATIENCE, client.node_unpublish_volume(request)).await;
        done.map(drop).map_err(|status| failed("Unmounter.TearDownAt", &status))
    }

    pub(super) async fn unstage(&self, request: NodeUnstageVolumeRequest) -> Result<(), String> {
        let mut client = self.client()?;
        let done = within(PATIENCE, client.node_unstage_volume(request)).await;
        done.map(drop).map_err(|status| failed("attacher.UnmountDevice", &status))
    }
}

fn failed(step: &str, status: &Status) -> String {
    format!("{step} failed: {}", rpc_error(status))
}

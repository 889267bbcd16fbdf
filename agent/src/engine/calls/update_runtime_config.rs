//! UpdateRuntimeConfig: the cluster has given this node its range of pod addresses.

use crate::engine::core::Core;
use crate::engine::failures::status;
use knarr_cri::Status;
use knarr_cri::v1::{UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse};

pub(crate) async fn call(
    core: &Core,
    request: UpdateRuntimeConfigRequest,
) -> Result<UpdateRuntimeConfigResponse, Status> {
    let network = request.runtime_config.and_then(|config| config.network_config);
    if let Some(cidr) = network.map(|network| network.pod_cidr).filter(|cidr| !cidr.is_empty()) {
        core.network.set_pod_cidr(&cidr).await.map_err(status)?;
    }
    Ok(UpdateRuntimeConfigResponse {})
}

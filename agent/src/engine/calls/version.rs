//! Version: who we are, and that we speak CRI v1.

use knarr_cri::Status;
use knarr_cri::v1::{VersionRequest, VersionResponse};

/// The only value a kubelet sends and accepts.
const KUBELET_API: &str = "0.1.0";

pub(crate) fn call(_: &VersionRequest) -> Result<VersionResponse, Status> {
    Ok(VersionResponse {
        version: KUBELET_API.into(),
        runtime_name: "knarr".into(),
        runtime_version: env!("CARGO_PKG_VERSION").into(),
        runtime_api_version: "v1".into(),
    })
}

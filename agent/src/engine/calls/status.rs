//! Status: whether pods can run here, and what this engine can do. A kubelet turns it into the node's Ready condition.

use crate::engine::core::Core;
use crate::engine::handler_features;
use knarr_cri::Status;
use knarr_cri::v1::{
    RuntimeCondition, RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus, StatusRequest,
    StatusResponse,
};
use std::collections::HashMap;

pub(crate) async fn call(core: &Core, request: StatusRequest) -> Result<StatusResponse, Status> {
    let network = core.network.ready().await;
    Ok(StatusResponse {
        status: Some(RuntimeStatus {
            conditions: vec![
                condition("RuntimeReady", Ok(()), ""),
                condition("NetworkReady", network, "NetworkPluginNotReady"),
            ],
        }),
        info: if request.verbose { info(core)? } else { HashMap::new() },
        runtime_handlers: futures_util::future::join_all(core.handlers().map(|name| handler(core, name)))
            .await,
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: false,
            mount_options: true,
        }),
    })
}

fn condition(name: &str, state: Result<(), String>, reason: &str) -> RuntimeCondition {
    let failed = state.is_err();
    RuntimeCondition {
        r#type: name.into(),
        status: !failed,
        reason: if failed { reason.into() } else { String::new() },
        message: state.err().unwrap_or_default(),
    }
}

async fn handler(core: &Core, name: &str) -> RuntimeHandler {
    let can = handler_features::of_handler(core, name).await;
    let features = RuntimeHandlerFeatures {
        recursive_read_only_mounts: can.recursive_read_only,
        user_namespaces: can.user_namespaces,
    };
    RuntimeHandler { name: name.into(), features: Some(features) }
}

/// Each value is JSON.
fn info(core: &Core) -> Result<HashMap<String, String>, Status> {
    let json =
        |value: Result<String, serde_json::Error>| value.map_err(|error| Status::internal(error.to_string()));
    Ok(HashMap::from([
        ("config".to_owned(), json(serde_json::to_string(&*core.config))?),
        ("version".to_owned(), json(serde_json::to_string(env!("CARGO_PKG_VERSION")))?),
    ]))
}

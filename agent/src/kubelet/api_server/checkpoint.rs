//! `/checkpoint/NAMESPACE/POD/CONTAINER`: asks the runtime to write down a running container. A runtime that cannot
//! says so.

use super::query::Query;
use super::respond::{Body, Refusal, json};
use super::{Shared, containers};
use crate::kubelet::host::rpc_error;
use http::Response;
use knarr_cri::v1::CheckpointContainerRequest;

pub(super) async fn answer(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let timeout = timeout(query)?;
    let found = containers::running(shared, namespace, pod, container).await?;
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let directory = shared.config.data_dir.join("kubelet/checkpoints");
    make_private(&directory).await.map_err(Refusal::internal)?;
    let file = directory.join(format!("checkpoint-{pod}_{namespace}-{container}-{time}.tar"));
    let location = file.display().to_string();
    let request = CheckpointContainerRequest { container_id: found.id, location: location.clone(), timeout };
    match shared.runtime.checkpoint_container(request).await {
        Ok(_) => Ok(json(&serde_json::json!({"items": [location]}))),
        Err(status) => {
            let why = rpc_error(&status);
            let message = format!("checkpointing of {namespace}/{pod}/{container} failed ({why})");
            Err(Refusal::internal(message))
        }
    }
}

/// Seconds, the last of several; none leaves it to the runtime.
fn timeout(query: &Query) -> Result<i64, Refusal> {
    let Some(text) = query.all("timeout").pop() else { return Ok(0) };
    text.parse().map_err(|_| Refusal::not_found("cannot parse value of timeout parameter"))
}

/// Checkpoints hold the memory of containers.
async fn make_private(directory: &std::path::Path) -> std::io::Result<()> {
    tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).await
}

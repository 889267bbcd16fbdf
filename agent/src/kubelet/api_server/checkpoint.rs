//! `/checkpoint/NAMESPACE/POD/CONTAINER`: asks the runtime to write down a running container. A runtime that cannot
//! says so.

use super::respond::{Body, Refusal, json};
use super::{Shared, containers};
use http::Response;
use knarr_cri::v1::CheckpointContainerRequest;

pub(super) async fn answer(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<Response<Body>, Refusal> {
    let found = containers::running(shared, namespace, pod, container).await?;
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let directory = shared.config.data_dir.join("kubelet/checkpoints");
    tokio::fs::create_dir_all(&directory).await.map_err(Refusal::internal)?;
    let file = directory.join(format!("checkpoint-{pod}_{namespace}-{container}-{time}.tar"));
    let location = file.display().to_string();
    let request =
        CheckpointContainerRequest { container_id: found.id, location: location.clone(), timeout: 0 };
    match shared.runtime.checkpoint_container(request).await {
        Ok(_) => Ok(json(&serde_json::json!({"items": [location]}))),
        Err(status) => {
            let refusal = Refusal::from(status);
            let message =
                format!("checkpointing of {namespace}/{pod}/{container} failed ({})", refusal.message);
            Err(Refusal::new(refusal.status, message))
        }
    }
}

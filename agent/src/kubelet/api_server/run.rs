//! `/run`: a command in a container, its output as the answer.

use super::query::Query;
use super::respond::{Body, Refusal, text};
use super::{Shared, containers};
use http::{Response, StatusCode};
use knarr_cri::v1;

pub(super) async fn answer(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let cmd: Vec<_> = query.get("cmd").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    if cmd.is_empty() {
        return Err(Refusal::bad_request("cmd: must not be empty"));
    }
    let container = containers::running(shared, namespace, pod, container).await?;
    let request = v1::ExecSyncRequest { container_id: container.id, cmd, timeout: 0 };
    let result = shared.runtime.exec_sync(request).await?;
    let mut output = result.stdout.to_vec();
    output.extend_from_slice(&result.stderr);
    if result.exit_code == 0 {
        return Ok(text(StatusCode::OK, output));
    }
    let message = format!("command exited with {}: {}", result.exit_code, String::from_utf8_lossy(&output));
    Err(Refusal::internal(message))
}

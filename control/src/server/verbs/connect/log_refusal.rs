//! Why a node has no log to show: it says so in plain text, and clients of the API expect a `Status` with those words.

use crate::server::{Answer, Body};
use http::StatusCode;
use http_body_util::BodyExt as _;
use knarr_api::Status;

/// Bytes of a node's words; no more are passed on.
const LIMIT: usize = 50_000;

/// The answer, if it is a log or a refusal that has no words of its own in the API.
pub(super) async fn explained(answer: Answer, pod: &str) -> Result<Answer, Status> {
    let code = answer.status();
    if !matches!(code, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::INTERNAL_SERVER_ERROR) {
        return Ok(answer);
    }
    Err(status(code, words(answer.into_body()).await, pod))
}

/// As many as are passed on; a node that breaks off has said what it has said.
async fn words(mut body: Body) -> String {
    let mut words = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { break };
        words.extend_from_slice(&data);
        if words.len() >= LIMIT {
            words.truncate(LIMIT);
            break;
        }
    }
    String::from_utf8_lossy(&words).into_owned()
}

fn status(code: StatusCode, words: String, pod: &str) -> Status {
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(words),
        StatusCode::NOT_FOUND => {
            let message = format!("the server could not find the requested resource ( pods/log {pod})");
            Status { message, ..Status::not_found("", "pods/log", pod) }
        }
        _ => Status::internal(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_status_in_the_nodes_words() {
        let waits = "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image";
        let refused = status(StatusCode::BAD_REQUEST, waits.into(), "p");
        assert_eq!((refused.code, refused.message.as_str()), (400, waits));
        let broken = status(StatusCode::INTERNAL_SERVER_ERROR, "failed to open log file".into(), "p");
        assert_eq!(broken.message, "Internal error occurred: failed to open log file");
        assert_eq!(status(StatusCode::NOT_FOUND, String::new(), "p").code, 404);
    }
}

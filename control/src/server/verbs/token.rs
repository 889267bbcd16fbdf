//! POST serviceaccounts/NAME/token: a token by which a pod is known to the API server.

use super::super::{Call, Server};
use crate::server::Answer;
use knarr_api::Status;

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let _ = (server, call);
    Err(Status::not_supported("issuing service account tokens"))
}

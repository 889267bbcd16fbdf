//! What may be asked of a log: refused here, in Kubernetes' words, before any node is asked.

use crate::registry::{Cause, Faults};
use crate::server::Call;
use jiff::Timestamp;
use knarr_api::{Status, StatusCause};
use serde_json::json;

const STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

/// Every fault of the options of a request for a log.
pub(super) fn check(call: &Call) -> Result<(), Status> {
    let number = |name: &str| call.query.number::<i64>(name);
    let (tail, bytes, seconds) = (number("tailLines")?, number("limitBytes")?, number("sinceSeconds")?);
    let since = call.query.get("sinceTime");
    if let Some(text) = since.filter(|text| text.parse::<Timestamp>().is_err()) {
        let layout = "2006-01-02T15:04:05Z07:00";
        return Err(Status::bad_request(format!(
            "parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""
        )));
    }
    let mut faults = Faults::default();
    if let Some(tail) = tail.filter(|tail| *tail < 0) {
        faults.invalid("tailLines", &json!(tail), "must be greater than or equal to 0");
    }
    if let Some(bytes) = bytes.filter(|bytes| *bytes < 1) {
        faults.invalid("limitBytes", &json!(bytes), "must be greater than 0");
    }
    if seconds.is_some() && since.is_some() {
        faults.forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified");
    } else if let Some(seconds) = seconds.filter(|seconds| *seconds < 1) {
        faults.invalid("sinceSeconds", &json!(seconds), "must be greater than 0");
    }
    if let Some(stream) = call.query.get("stream") {
        if !STREAMS.contains(&stream) {
            faults.not_supported("stream", stream, &STREAMS);
        } else if stream != "All" && tail.is_some() {
            faults.forbidden("", "`tailLines` and specific `stream` are mutually exclusive for now");
        }
    }
    refuse(call, faults.into_causes())
}

fn refuse(call: &Call, causes: Vec<Cause>) -> Result<(), Status> {
    if causes.is_empty() {
        return Ok(());
    }
    let cause =
        |one: Cause| StatusCause { reason: one.reason.to_owned(), message: one.message, field: one.field };
    Err(Status::invalid("", "PodLogOptions", call.path.name(), causes.into_iter().map(cause).collect()))
}

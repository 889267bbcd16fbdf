//! A status as it goes over the wire, its fields in the order in which Kubernetes writes them: clients show the text of
//! a refusal as it came, and people compare it.

use super::{Details, Status};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Metadata<'a>,
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    go_on: Option<&'a str>,
}

impl<'a> Told<'a> {
    pub(super) fn of(status: &'a Status) -> Self {
        let details = Some(&*status.details).filter(|details| **details != Details::default());
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: Metadata { go_on: status.go_on.as_deref() },
            status: if status.code < 400 { "Success" } else { "Failure" },
            message: &status.message,
            reason: &status.reason,
            details,
            // Who is told what was deleted is told no code, as by kube-apiserver.
            code: Some(status.code).filter(|code| *code != 200 || details.is_none()),
        }
    }
}

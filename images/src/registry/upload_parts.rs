//! Sends a blob in parts, for registries (and proxies before them) that take no large request: `OCI-Chunk-Min-Length` in
//! the answer that opens an upload, or 413 to the whole blob.

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Descriptor;
use crate::registry::BlobSource;
use crate::registry::client::RegistryClient;
use crate::registry::exchange::{Attempting, Call, redirected};
use crate::registry::transport::full;
use crate::registry::upload::{body, finish_target, stall_guard};
use http::{Method, Response, Uri, header};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A part, unless the registry wants larger ones. Common limits of proxies are above it.
const PART: u64 = 8 << 20;
/// No part is larger, whatever the registry says.
const LARGEST: u64 = 1 << 30;

/// Bytes per part that the registry insists on, where it does.
pub(super) fn least_part<B>(opened: &Response<B>) -> Option<u64> {
    opened.headers().get("oci-chunk-min-length")?.to_str().ok()?.trim().parse().ok()
}

impl RegistryClient {
    /// Part by part, each to where the answer to the one before points; the last request says the digest.
    pub(super) async fn upload_parts(
        &self,
        scope: &str,
        blob: &Descriptor,
        source: &BlobSource,
        opened: &Uri,
        least: u64,
    ) -> Result<()> {
        let endpoint = self.push_endpoint()?;
        let part = least.clamp(PART, LARGEST);
        let (mut location, mut at) = (opened.clone(), 0);
        while at < blob.size {
            let length = part.min(blob.size - at);
            let headers = vec![
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, length.to_string()),
                (header::CONTENT_RANGE, format!("{at}-{}", at + length - 1)),
            ];
            let target = location.to_string();
            let call = Call {
                endpoint,
                method: Method::PATCH,
                target,
                scope,
                headers,
                attempts: Attempting::Uploading,
            };
            let patience = self.exchange.transport.patience();
            let sent = Arc::new(AtomicU64::new(0));
            let part = || body(source, blob, at..at + length, sent.clone(), patience);
            let answer = stall_guard(self.exchange.call(&call, &part), &sent, patience).await?;
            location = redirected(&location, &answer)?;
            at += length;
        }
        let target = finish_target(&location, blob);
        let headers = vec![(header::CONTENT_LENGTH, "0".to_owned())];
        let call =
            Call { endpoint, method: Method::PUT, target, scope, headers, attempts: Attempting::Patiently };
        self.exchange.call(&call, &|| full("")).await.map(drop)
    }
}

/// Whether a whole blob was refused for its size alone.
pub(super) fn is_too_large(error: &Error) -> bool {
    error.kind() == ErrorKind::Invalid && error.status() == Some(http::StatusCode::PAYLOAD_TOO_LARGE.as_u16())
}

//! What a server behind ours tells of itself: its resources, for discovery, and where its OpenAPI document is. Asked for
//! from time to time and kept, so that clients of ours do not wait for a server that is slow.

use super::Remote;
use super::link::Link;
use crate::authn::front_proxy::vouch;
use crate::authn::{MASTERS, User};
use crate::server::full;
use crate::service_target::Target;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// The longest document that is read, bytes.
const MAX_DOCUMENT: usize = 32 << 20;

/// What is known of a server.
#[derive(Debug, Default, Clone)]
pub(super) struct Told {
    pub(super) available: bool,
    /// Its resources, as it listed them last.
    pub(super) listing: Option<Arc<Value>>,
    /// Whether it answered when it was asked last.
    pub(super) is_fresh: bool,
    /// Path of its OpenAPI 3 document, with the hash.
    pub(super) document: Option<String>,
}

/// A request in our own name.
pub(super) async fn ask(
    link: &Link,
    target: &Target,
    path: &str,
    accept: &str,
) -> Result<Response<Incoming>, String> {
    let mut request = Request::get(path)
        .header(header::ACCEPT, accept)
        .header(header::USER_AGENT, "kube-aggregator")
        .body(full(Bytes::new()))
        .map_err(|error| error.to_string())?;
    vouch(request.headers_mut(), &User::new("system:kube-aggregator", &[MASTERS]));
    link.send(target, request).await
}

impl Remote {
    /// Whether requests are passed on.
    pub(crate) fn is_available(&self) -> bool {
        self.told.read().unwrap_or_else(PoisonError::into_inner).available
    }

    pub(super) fn told(&self) -> Told {
        self.told.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_available(&self, available: bool) {
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        told.available = available;
        told.is_fresh &= available;
    }

    /// Asks for everything anew.
    pub(super) async fn refresh(&self, target: &Target) {
        let listing = self.read(target, &self.path(), "application/json").await;
        let listing = listing
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).map_err(|error| error.to_string()));
        let own = self.path().trim_start_matches('/').to_owned();
        let index = self.read(target, "/openapi/v3", "application/json").await;
        let index = index.ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let document =
            index.and_then(|index| index["paths"][&own]["serverRelativeURL"].as_str().map(str::to_owned));
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        told.document = document;
        told.is_fresh = listing.is_ok();
        match listing {
            Ok(listing) => told.listing = Some(Arc::new(listing)),
            Err(why) => tracing::debug!(api_service = self.name, "discovery: {why}"),
        }
    }

    /// A whole document of the server.
    pub(super) async fn read(&self, target: &Target, path: &str, accept: &str) -> Result<Bytes, String> {
        let link = self.link.as_ref().map_err(Clone::clone)?;
        let whole = async {
            let answer = ask(link, target, path, accept).await?;
            let code = answer.status();
            let body = Limited::new(answer.into_body(), MAX_DOCUMENT).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            if code.is_success() { Ok(body) } else { Err(format!("the server answered {code}")) }
        };
        tokio::time::timeout(PATIENCE, whole).await.unwrap_or_else(|_| Err("it takes too long".to_owned()))
    }
}

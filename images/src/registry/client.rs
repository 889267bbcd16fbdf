//! The OCI distribution protocol, spoken to one registry and its mirrors.

use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Descriptor, Document, MAX_MANIFEST};
use crate::media_type::{ACCEPT_MANIFESTS, OCI_INDEX};
use crate::reference::Reference;
use crate::registry::auth::{Authenticator, percent_encode};
use crate::registry::download::body_stream;
use crate::registry::exchange::{Attempting, Call, Exchange, read_all};
use crate::registry::hosts::Endpoint;
use crate::registry::transport::{Transport, full};
use crate::registry::{BlobSource, ByteStream, Registry, Resolved};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One registry, as one user.
#[derive(Debug)]
pub(crate) struct RegistryClient {
    pub(crate) exchange: Exchange,
    registry: String,
    endpoints: Vec<Endpoint>,
    /// Mirrors, by their place in the list, that could not be reached: one pull does not wait for them twice.
    down: Mutex<HashSet<usize>>,
}

/// Tags of a repository or repositories of a registry.
#[derive(Deserialize)]
struct List {
    #[serde(default, alias = "repositories")]
    tags: Option<Vec<String>>,
}

const MAX_PAGES: usize = 1000;

impl RegistryClient {
    pub(crate) fn new(
        transport: Arc<Transport>,
        registry: &str,
        endpoints: Vec<Endpoint>,
        credentials: Option<Credentials>,
    ) -> Self {
        let exchange = Exchange { transport, auth: Authenticator::new(credentials) };
        Self { exchange, registry: registry.to_owned(), endpoints, down: Mutex::default() }
    }

    /// Asks each endpoint that may be asked, in order. A mirror's failure only means that the next one is asked.
    async fn first(
        &self,
        may: impl Fn(&Endpoint) -> bool,
        method: Method,
        path: &str,
        scope: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>> {
        let mut last =
            Error::new(ErrorKind::Unavailable, format!("{}: no host is configured for this", self.registry));
        for (place, endpoint) in self.endpoints.iter().enumerate().filter(|(_, endpoint)| may(endpoint)) {
            if self.down().contains(&place) {
                continue;
            }
            let target = self.on_behalf(endpoint, path);
            let headers = headers.to_vec();
            let attempts = if endpoint.mirror { Attempting::Once } else { Attempting::Patiently };
            let call = Call { endpoint, method: method.clone(), target, scope, headers, attempts };
            match self.exchange.call(&call, &|| full("")).await {
                Ok(response) => return Ok(response),
                Err(error) => {
                    if endpoint.mirror && error.kind() == ErrorKind::Unavailable {
                        self.down().insert(place);
                    }
                    last = error;
                }
            }
        }
        Err(last)
    }

    fn down(&self) -> MutexGuard<'_, HashSet<usize>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A list that comes in pages: each answer's `Link` names the next one.
    async fn pages(&self, path: &str, scope: &str) -> Result<Vec<String>> {
        let mut query = "?n=1000".to_owned();
        let mut listed = Vec::new();
        for _ in 0..MAX_PAGES {
            let page = format!("{path}{query}");
            let response = self.first(|endpoint| endpoint.resolve, Method::GET, &page, scope, &[]).await?;
            let next = response.headers().get(header::LINK).and_then(|value| next_page(value.to_str().ok()?));
            let body =
                read_all(response.into_body(), MAX_MANIFEST, &self.exchange.transport.patience()).await?;
            let list: List =
                serde_json::from_slice(&body).map_err(|e| Error::invalid(format!("{path}: {e}")))?;
            listed.extend(list.tags.unwrap_or_default());
            match next.and_then(|next| next.split_once(path).map(|(_, query)| query.to_owned())) {
                Some(next) => query = next,
                None => break,
            }
        }
        Ok(listed)
    }

    /// Asks the registry itself whether it knows who we are.
    pub(crate) async fn check_login(&self) -> Result<()> {
        let endpoint = self.push_endpoint()?;
        let (method, target, attempts) = (Method::GET, "/".to_owned(), Attempting::Patiently);
        let call = Call { endpoint, method, target, scope: "", headers: Vec::new(), attempts };
        match self.exchange.call(&call, &|| full("")).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.status().and_then(|code| StatusCode::from_u16(code).ok()) {
                Some(status) => {
                    let base = &endpoint.base;
                    let message = format!("login attempt to {base}/ failed with status: {status}");
                    Error::new(error.kind(), message)
                }
                None => error.context(format_args!("login attempt to {}/", endpoint.base)),
            }),
        }
    }

    /// A mirror of several registries is told which one is meant.
    fn on_behalf(&self, endpoint: &Endpoint, path: &str) -> String {
        if !endpoint.mirror {
            return path.to_owned();
        }
        let joiner = if path.contains('?') { '&' } else { '?' };
        format!("{path}{joiner}ns={}", percent_encode(&self.registry))
    }

    pub(crate) fn push_endpoint(&self) -> Result<&Endpoint> {
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.push);
        endpoint.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("{}: no host takes pushes", self.registry))
        })
    }
}

pub(crate) fn scope(reference: &Reference, actions: &str) -> String {
    format!("repository:{}:{actions}", reference.repository)
}

/// What users of Docker know: a registry tells neither whether it exists nor whether it may be seen.
fn explain(error: Error, reference: &Reference) -> Error {
    let name = reference.name();
    match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, format!("{reference}: not found")),
        ErrorKind::Unauthorized => Error::new(
            ErrorKind::Unauthorized,
            format!(
                "pull access denied for {name}, repository does not exist or may require authorization: {error}"
            ),
        ),
        _ => error.context(reference),
    }
}

#[async_trait]
impl Registry for RegistryClient {
    async fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        let path = format!("/{}/manifests/{}", reference.repository, reference.selector());
        let accept = [(header::ACCEPT, ACCEPT_MANIFESTS.to_owned())];
        let scope = scope(reference, "pull");
        let response = self.first(|endpoint| endpoint.resolve, Method::GET, &path, &scope, &accept).await;
        let response = response.map_err(|error| explain(error, reference))?;
        let text = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let promised = text("docker-content-digest").and_then(|digest| Digest::parse(&digest).ok());
        let content_type =
            text("content-type").map(|full| full.split(';').next().unwrap_or_default().trim().to_owned());
        let patience = self.exchange.transport.patience();
        let bytes = read_all(response.into_body(), MAX_MANIFEST, &patience).await?;
        let digest = Digest::of(&bytes);
        for expected in reference.digest.iter().chain(promised.iter()) {
            expected.verify(&digest, &format!("manifest of {reference}"))?;
        }
        Ok(Resolved { bytes, digest, content_type })
    }

    async fn fetch(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<ByteStream> {
        let path = format!("/{}/blobs/{}", reference.repository, blob.digest);
        let mut headers = vec![(header::ACCEPT_ENCODING, "identity".to_owned())];
        if offset > 0 {
            headers.push((header::RANGE, format!("bytes={offset}-")));
        }
        let scope = scope(reference, "pull");
        let response = self.first(|endpoint| endpoint.pull, Method::GET, &path, &scope, &headers).await?;
        // A server without ranges sends everything again: the first part is skipped then.
        let starts_at = if response.status() == StatusCode::PARTIAL_CONTENT { offset } else { 0 };
        let length = response
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(length) = length.filter(|length: &u64| starts_at.saturating_add(*length) != blob.size) {
            let (digest, size, sent) = (&blob.digest, blob.size, starts_at.saturating_add(length));
            let message = format!("blob {digest}: the registry has {sent} bytes, expected {size}");
            return Err(Error::new(ErrorKind::Mismatch, message));
        }
        Ok(body_stream(response.into_body(), offset - starts_at, self.exchange.transport.patience()))
    }

    async fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool> {
        let endpoint = self.push_endpoint()?;
        let scope = scope(reference, "pull,push");
        let target = format!("/{}/blobs/{digest}", reference.repository);
        let call = Call {
            endpoint,
            method: Method::HEAD,
            target,
            scope: &scope,
            headers: Vec::new(),
            attempts: Attempting::Patiently,
        };
        match self.exchange.call(&call, &|| full("")).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.context(reference.name())),
        }
    }

    async fn mount_blob(&self, reference: &Reference, digest: &Digest, from: &str) -> Result<bool> {
        self.mount(reference, digest, from).await
    }

    async fn put_blob(&self, reference: &Reference, blob: &Descriptor, source: BlobSource) -> Result<()> {
        self.upload(reference, blob, source).await
    }

    async fn put_manifest(&self, reference: &Reference, media_type: &str, bytes: Bytes) -> Result<()> {
        let endpoint = self.push_endpoint()?;
        let scope = scope(reference, "pull,push");
        let target = format!("/{}/manifests/{}", reference.repository, reference.selector());
        let headers = vec![(header::CONTENT_TYPE, media_type.to_owned())];
        let attempts = Attempting::Patiently;
        let call = Call { endpoint, method: Method::PUT, target, scope: &scope, headers, attempts };
        let sent = self.exchange.call(&call, &|| full(bytes.clone())).await;
        sent.map(drop).map_err(|error| error.context(format_args!("push manifest to {reference}")))
    }

    async fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        let path = format!("/{}/tags/list", reference.repository);
        let listed = self.pages(&path, &scope(reference, "pull")).await;
        listed.map_err(|error| explain(error, reference))
    }

    async fn referrers(&self, reference: &Reference, digest: &Digest) -> Result<Vec<Descriptor>> {
        let path = format!("/{}/referrers/{digest}", reference.repository);
        let scope = scope(reference, "pull");
        let accept = [(header::ACCEPT, OCI_INDEX.to_owned())];
        let asked = self.first(|endpoint| endpoint.resolve, Method::GET, &path, &scope, &accept).await;
        let bytes = match asked {
            Ok(response) => {
                read_all(response.into_body(), MAX_MANIFEST, &self.exchange.transport.patience()).await?
            }
            // A registry that does not know of this: whoever pushes such a document keeps an index under a tag.
            Err(_) => {
                let tag = Some(format!("sha256-{}", digest.hex()));
                match self.resolve(&Reference { tag, digest: None, ..reference.clone() }).await {
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                    other => other?.bytes,
                }
            }
        };
        match Document::parse(&bytes, Some(OCI_INDEX))? {
            Document::Index(index) => Ok(index.manifests),
            Document::Manifest(_) => Ok(Vec::new()),
        }
    }

    async fn catalog(&self) -> Result<Vec<String>> {
        let listed = self.pages("/_catalog", "registry:catalog:*").await;
        listed.map_err(|error| error.context(format_args!("catalog of {}", self.registry)))
    }
}

/// `<URL>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let (url, parameters) = link.strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then(|| url.to_owned())
}

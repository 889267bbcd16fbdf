//! Sends blobs: one POST to open an upload, one PUT with all the bytes; or no bytes at all where the registry already
//! has them in another repository.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::registry::BlobSource;
use crate::registry::auth::percent_encode;
use crate::registry::client::{RegistryClient, scope};
use crate::registry::download::download;
use crate::registry::exchange::{Call, redirected};
use crate::registry::retry::{Attempts, Patience};
use crate::registry::transport::{Body, full};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::{Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pieces read from a file.
const PIECE: usize = 256 << 10;

impl RegistryClient {
    /// True where the registry took the blob from its other repository.
    pub(crate) async fn mount(&self, reference: &Reference, digest: &Digest, from: &str) -> Result<bool> {
        let endpoint = self.push_endpoint()?;
        let both = format!("{} repository:{from}:pull", scope(reference, "pull,push"));
        let target = format!(
            "/{}/blobs/uploads/?mount={}&from={}",
            reference.repository,
            percent_encode(digest.as_str()),
            percent_encode(from)
        );
        let headers = vec![(header::CONTENT_LENGTH, "0".to_owned())];
        let call = Call { endpoint, method: Method::POST, target, scope: &both, headers, uploads: false };
        match self.exchange.call(&call, &|| full("")).await {
            Ok(response) => Ok(response.status() == StatusCode::CREATED),
            // Not allowed to read there, or not there: then it has to be sent.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::Unauthorized | ErrorKind::Invalid
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a blob, again from its start where an attempt fails.
    pub(crate) async fn upload(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: BlobSource,
    ) -> Result<()> {
        let mut attempts = Attempts::new(self.exchange.transport.patience());
        loop {
            match self.upload_once(reference, blob, &source).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let error = error.context(format_args!("push {} to {}", blob.digest, reference.name()));
                    attempts.again(error, None).await?;
                }
            }
        }
    }

    async fn upload_once(&self, reference: &Reference, blob: &Descriptor, source: &BlobSource) -> Result<()> {
        let endpoint = self.push_endpoint()?;
        let scope = scope(reference, "pull,push");
        let target = format!("/{}/blobs/uploads/", reference.repository);
        let headers = vec![(header::CONTENT_LENGTH, "0".to_owned())];
        let call = Call { endpoint, method: Method::POST, target, scope: &scope, headers, uploads: false };
        let opened = self.exchange.call(&call, &|| full("")).await?;
        let base: Uri = format!("{}/", endpoint.base)
            .parse()
            .map_err(|_| Error::new(ErrorKind::Unavailable, "registry: invalid URL"))?;
        let location = redirected(&base, &opened)?.to_string();
        let joiner = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{joiner}digest={}", percent_encode(blob.digest.as_str()));
        let headers = vec![
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, blob.size.to_string()),
        ];
        let call = Call { endpoint, method: Method::PUT, target, scope: &scope, headers, uploads: true };
        let sent = Arc::new(AtomicU64::new(0));
        let patience = self.exchange.transport.patience();
        let body = || body(source, blob, sent.clone(), patience);
        stall_guard(self.exchange.call(&call, &body), &sent, patience).await.map(drop)
    }
}

/// Gives up when neither bytes leave nor an answer arrives.
async fn stall_guard<T>(
    sending: impl Future<Output = Result<T>>,
    sent: &AtomicU64,
    patience: Patience,
) -> Result<T> {
    let mut sending = std::pin::pin!(sending);
    loop {
        let before = sent.load(Ordering::Relaxed);
        match tokio::time::timeout(patience.window, &mut sending).await {
            Ok(result) => return result,
            Err(_) if sent.load(Ordering::Relaxed) > before => {}
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("no progress within {:?}", patience.window),
                ));
            }
        }
    }
}

fn body(source: &BlobSource, blob: &Descriptor, sent: Arc<AtomicU64>, patience: Patience) -> Body {
    let stream = match source {
        BlobSource::File(path) => file_stream(path.clone()).boxed(),
        BlobSource::Remote(registry, reference) => {
            remote_stream(registry.clone(), reference.clone(), blob.clone(), patience).boxed()
        }
    };
    let counted = stream.inspect_ok(move |bytes| {
        sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    });
    StreamBody::new(counted.map_ok(Frame::data)).boxed_unsync()
}

fn file_stream(path: std::path::PathBuf) -> impl Stream<Item = Result<Bytes>> {
    futures_util::stream::once(async move {
        let file = tokio::fs::File::open(&path).await.map_err(|e| Error::path("open", &path, e))?;
        let pieces = tokio_util::io::ReaderStream::with_capacity(file, PIECE);
        Ok(pieces.map_err(move |e| Error::path("read", &path, e)))
    })
    .try_flatten()
}

/// The blob as another registry sends it, through a channel that holds a few pieces.
fn remote_stream(
    registry: Arc<dyn crate::registry::Registry>,
    reference: Reference,
    blob: Descriptor,
    patience: Patience,
) -> impl Stream<Item = Result<Bytes>> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes>>(8);
    tokio::spawn(async move {
        let gone = |_| Error::new(ErrorKind::Unavailable, "upload ended");
        let deliver = |bytes| {
            let sender = sender.clone();
            async move { sender.send(Ok(bytes)).await.map_err(gone) }
        };
        let fetched = download(registry.as_ref(), &reference, &blob, 0, patience, deliver).await;
        if let Err(error) = fetched {
            // Nobody listens any more: then nobody needs to know.
            let _ = sender.send(Err(error)).await;
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        let next = receiver.recv().await?;
        Some((next, receiver))
    })
}

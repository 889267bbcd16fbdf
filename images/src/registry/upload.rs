//! Sends blobs: one POST to open an upload, one PUT with all the bytes, or parts where these are too many; or no bytes at all where the registry already
//! has them in another repository.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::registry::BlobSource;
use crate::registry::auth::percent_encode;
use crate::registry::client::{RegistryClient, scope};
use crate::registry::download::download;
use crate::registry::exchange::{Attempting, Call, redirected};
use crate::registry::retry::{Attempts, Patience};
use crate::registry::transport::{Body, full};
use crate::registry::upload_parts::{is_too_large, least_part};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::{Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::ops::Range;
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
        let call = Call {
            endpoint,
            method: Method::POST,
            target,
            scope: &both,
            headers,
            attempts: Attempting::Patiently,
        };
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
        let mut in_parts = false;
        loop {
            match self.upload_once(reference, blob, &source, in_parts).await {
                Ok(()) => return Ok(()),
                Err(error) if is_too_large(&error) && !in_parts => in_parts = true,
                Err(error) => {
                    let error = error.context(format_args!("push {} to {}", blob.digest, reference.name()));
                    attempts.again(error, None).await?;
                }
            }
        }
    }

    async fn upload_once(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        in_parts: bool,
    ) -> Result<()> {
        let endpoint = self.push_endpoint()?;
        let scope = scope(reference, "pull,push");
        let target = format!("/{}/blobs/uploads/", reference.repository);
        let headers = vec![(header::CONTENT_LENGTH, "0".to_owned())];
        let call = Call {
            endpoint,
            method: Method::POST,
            target,
            scope: &scope,
            headers,
            attempts: Attempting::Patiently,
        };
        let opened = self.exchange.call(&call, &|| full("")).await?;
        let base: Uri = format!("{}/", endpoint.base)
            .parse()
            .map_err(|_| Error::new(ErrorKind::Unavailable, "registry: invalid URL"))?;
        let location = redirected(&base, &opened)?;
        if let Some(least) = least_part(&opened).or(in_parts.then_some(0)) {
            return self.upload_parts(&scope, blob, source, &location, least).await;
        }
        let target = finish_target(&location, blob);
        let headers = vec![
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, blob.size.to_string()),
        ];
        let call = Call {
            endpoint,
            method: Method::PUT,
            target,
            scope: &scope,
            headers,
            attempts: Attempting::Uploading,
        };
        let sent = Arc::new(AtomicU64::new(0));
        let patience = self.exchange.transport.patience();
        let whole = || body(source, blob, 0..blob.size, sent.clone(), patience);
        stall_guard(self.exchange.call(&call, &whole), &sent, patience).await.map(drop)
    }
}

/// Where the request that completes an upload goes.
pub(super) fn finish_target(location: &Uri, blob: &Descriptor) -> String {
    let joiner = if location.query().is_some() { '&' } else { '?' };
    format!("{location}{joiner}digest={}", percent_encode(blob.digest.as_str()))
}

/// Gives up when neither bytes leave nor an answer arrives.
pub(super) async fn stall_guard<T>(
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

/// These bytes of a blob.
pub(super) fn body(
    source: &BlobSource,
    blob: &Descriptor,
    range: Range<u64>,
    sent: Arc<AtomicU64>,
    patience: Patience,
) -> Body {
    let stream = match source {
        BlobSource::File(path) => file_stream(path.clone(), range).boxed(),
        BlobSource::Remote(registry, reference) => {
            let from = (registry.clone(), reference.clone(), range.start);
            first_bytes(remote_stream(from, blob.clone(), patience), range.end - range.start).boxed()
        }
    };
    let counted = stream.inspect_ok(move |bytes| {
        sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    });
    StreamBody::new(counted.map_ok(Frame::data)).boxed_unsync()
}

fn file_stream(path: std::path::PathBuf, range: Range<u64>) -> impl Stream<Item = Result<Bytes>> {
    use tokio::io::{AsyncReadExt, AsyncSeekExt};
    futures_util::stream::once(async move {
        let mut file = tokio::fs::File::open(&path).await.map_err(|e| Error::path("open", &path, e))?;
        let start = std::io::SeekFrom::Start(range.start);
        file.seek(start).await.map_err(|e| Error::path("lseek", &path, e))?;
        let part = file.take(range.end - range.start);
        let pieces = tokio_util::io::ReaderStream::with_capacity(part, PIECE);
        Ok(pieces.map_err(move |e| Error::path("read", &path, e)))
    })
    .try_flatten()
}

/// So many bytes of a stream, and no more is asked of it.
fn first_bytes(stream: impl Stream<Item = Result<Bytes>>, count: u64) -> impl Stream<Item = Result<Bytes>> {
    stream.scan(count, |left, piece| {
        let piece = piece.map(|mut bytes| {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
            bytes
        });
        let ended = matches!(&piece, Ok(bytes) if bytes.is_empty());
        std::future::ready((!ended).then_some(piece))
    })
}

/// The blob as another registry sends it, through a channel that holds a few pieces.
fn remote_stream(
    (registry, reference, offset): (Arc<dyn crate::registry::Registry>, Reference, u64),
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
        let fetched = download(registry.as_ref(), &reference, &blob, offset, patience, deliver).await;
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

//! A blob's bytes, in one unbroken stream whatever the connections under it do.
//!
//! A transfer that breaks is resumed where it stopped; one that stalls is cut off and resumed the same way. More
//! bytes than promised end it at once, before they cost anything.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::registry::retry::{Attempts, Patience};
use crate::registry::{ByteStream, Registry};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// Fetches a blob from `offset` to its end and hands every piece to `deliver`, which may refuse by an error.
pub(crate) async fn download<F, D>(
    registry: &dyn Registry,
    reference: &Reference,
    blob: &Descriptor,
    offset: u64,
    patience: Patience,
    mut deliver: D,
) -> Result<()>
where
    D: FnMut(Bytes) -> F + Send,
    F: Future<Output = Result<()>> + Send,
{
    let mut attempts = Attempts::new(patience);
    let mut received = offset;
    while received < blob.size {
        let before = received;
        let broken = match registry.fetch(reference, blob, received).await {
            Err(error) => error,
            Ok(mut stream) => loop {
                match stream.next().await {
                    Some(Ok(bytes)) => {
                        received += bytes.len() as u64;
                        if received > blob.size {
                            let message =
                                format!("blob {}: more than the promised {} bytes", blob.digest, blob.size);
                            return Err(Error::new(ErrorKind::Mismatch, message));
                        }
                        deliver(bytes).await?;
                    }
                    Some(Err(error)) => break error,
                    None if received == blob.size => return Ok(()),
                    None => {
                        let message =
                            format!("blob {}: ended after {received} of {} bytes", blob.digest, blob.size);
                        break Error::new(ErrorKind::Unavailable, message);
                    }
                }
            },
        };
        if received > before {
            attempts.progress();
        }
        attempts.again(broken, None).await?;
    }
    Ok(())
}

/// The whole of a small blob, its digest compared.
pub(crate) async fn document(
    registry: &dyn Registry,
    reference: &Reference,
    blob: &Descriptor,
    what: &str,
    patience: Patience,
) -> Result<Bytes> {
    let collected = Mutex::new(Vec::new());
    let keep = |bytes: Bytes| {
        collected.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes);
        std::future::ready(Ok(()))
    };
    download(registry, reference, blob, 0, patience, keep).await?;
    let bytes = Bytes::from(collected.into_inner().unwrap_or_else(PoisonError::into_inner));
    blob.digest.verify(&Digest::of(&bytes), what)?;
    Ok(bytes)
}

/// A response's body as a stream, with its first bytes left out and a limit on how slow it may be.
pub(crate) fn body_stream(body: Incoming, skip: u64, patience: Patience) -> ByteStream {
    let state = Flow { body, skip, patience, window: Instant::now(), in_window: 0, ended: false };
    futures_util::stream::unfold(state, |mut flow| async move {
        if flow.ended {
            return None;
        }
        let next = flow.next().await;
        flow.ended = !matches!(next, Some(Ok(_)));
        next.map(|next| (next, flow))
    })
    .boxed()
}

struct Flow {
    body: Incoming,
    skip: u64,
    patience: Patience,
    window: Instant,
    in_window: u64,
    ended: bool,
}

impl Flow {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            let stalled =
                |_| Error::new(ErrorKind::Unavailable, format!("no data within {:?}", self.patience.idle));
            let frame = match tokio::time::timeout(self.patience.idle, self.body.frame())
                .await
                .map_err(stalled)
            {
                Ok(None) => return None,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    return Some(Err(Error::new(ErrorKind::Unavailable, format!("transfer broke: {error}"))));
                }
                Err(error) => return Some(Err(error)),
            };
            let Ok(mut data) = frame.into_data() else { continue };
            if let Err(error) = self.pace(data.len() as u64) {
                return Some(Err(error));
            }
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
            self.skip -= skipped as u64;
            let data = data.split_off(skipped);
            if !data.is_empty() {
                return Some(Ok(data));
            }
        }
    }

    /// Time in which nobody asked for data (a busy disk) counts too, but then the next piece is already there and
    /// large.
    fn pace(&mut self, bytes: u64) -> Result<()> {
        self.in_window += bytes;
        if self.window.elapsed() < self.patience.window {
            return Ok(());
        }
        if self.in_window < self.patience.slowest {
            let (got, window) = (self.in_window, self.patience.window);
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("stalled: {got} bytes within {window:?}"),
            ));
        }
        (self.window, self.in_window) = (Instant::now(), 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::registry::client::RegistryClient;
    use crate::registry::hosts::endpoints;
    use crate::registry::proxy::Proxies;
    use crate::registry::transport::Transport;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(120);
    const SHORT: Duration = Duration::from_millis(300);
    /// Each test shortens the one that it wants to run out: on a slow machine another could be first.
    const PATIENCE: Patience = Patience {
        attempts: 2,
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(1),
        connect: LONG,
        head: LONG,
        idle: LONG,
        window: LONG,
        slowest: 1000,
    };

    /// What a download from such a server ends with.
    async fn error_of(patience: Patience, serve: fn(TcpStream)) -> Error {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let registry = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            listener.incoming().for_each(|stream| drop(std::thread::spawn(move || serve(stream.unwrap()))));
        });
        let transport = std::sync::Arc::new(Transport::new(patience, Proxies::default()));
        let endpoints = endpoints(None, &registry, &[]).unwrap();
        let client = RegistryClient::new(transport, &registry, endpoints, None);
        let reference = Reference::parse(&format!("{registry}/repo:1")).unwrap();
        let blob = Descriptor::new("", Digest::of(b"x"), 1 << 20);
        let deliver = |_| std::future::ready(Ok(()));
        download(&client, &reference, &blob, 0, patience, deliver).await.unwrap_err()
    }

    fn head(mut stream: &TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
            request.extend(byte);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n").unwrap();
    }

    /// Keeps a connection open until the client has had enough.
    fn wait_for_the_end(mut stream: &TcpStream) {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn servers_that_say_nothing_are_given_up() {
        let patience = Patience { head: SHORT, ..PATIENCE };
        let silent = error_of(patience, |stream| wait_for_the_end(&stream)).await;
        assert!(silent.to_string().contains("no response within"), "{silent}");
        let stopping = error_of(Patience { idle: SHORT, ..PATIENCE }, |stream| {
            head(&stream);
            wait_for_the_end(&stream);
        });
        let stopping = stopping.await;
        assert!(stopping.to_string().contains("no data within"), "{stopping}");
        assert_eq!(stopping.kind(), ErrorKind::Unavailable);
    }

    /// A byte now and then never lets the idle clock run out, but moves nothing.
    #[tokio::test(flavor = "multi_thread")]
    async fn servers_that_drip_are_given_up() {
        let dripping = error_of(Patience { window: SHORT, ..PATIENCE }, |mut stream| {
            head(&stream);
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            while stream.write_all(b".").is_ok() {
                // Paces the drops; there is nothing to read.
                let _ = std::io::Read::read(&mut stream, &mut [0; 1 << 10]);
            }
        });
        let dripping = dripping.await;
        assert!(dripping.to_string().contains("stalled"), "{dripping}");
    }
}

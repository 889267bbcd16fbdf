//! The HTTPS listener: accepts connections, learns from TLS who is at the other end, and hands every request to the
//! server. A connection that does nothing costs a task and is dropped when it stays silent too long.

use super::answer::Answer;
use super::audit::Peer;
use super::{FrontProxy, Server, TransportUser, stopped};
use crate::authn::User;
use http::{HeaderValue, Request, Version, header};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A client must finish its handshake, and send its request head, within this.
const PATIENCE: Duration = Duration::from_secs(15);
/// HTTP/2 peers that do not answer a ping this long are gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Requests at work get this long when the server stops.
const GRACE: Duration = Duration::from_secs(2);
const MAX_STREAMS: u32 = 1000;

/// Serves until `shutdown` turns true; then lets requests at work end.
pub(crate) async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    mut shutdown: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(config);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => {
                    let (server, acceptor, shutdown) = (server.clone(), acceptor.clone(), shutdown.clone());
                    connections.spawn(connection(server, accepted, acceptor, shutdown));
                }
                // Out of descriptors or the like: the next attempt may do better, a tight loop would not.
                Err(error) => {
                    tracing::warn!("accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = stopped(&mut shutdown) => break,
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(
    server: Arc<Server>,
    (stream, peer): (TcpStream, SocketAddr),
    acceptor: TlsAcceptor,
    mut shutdown: watch::Receiver<bool>,
) {
    // A client that resets the connection at once: nothing to serve.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("TLS handshake: {error}"),
        Err(_) => return tracing::debug!("TLS handshake: timeout"),
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let vouches = server.aggregation.vouches(chain);
    let user = chain.first().filter(|_| vouches.is_none()).and_then(|one| User::from_certificate(one));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        if let Some(user) = &user {
            request.extensions_mut().insert(TransportUser(user.clone()));
        }
        if let Some(vouches) = vouches {
            request.extensions_mut().insert(FrontProxy(vouches));
        }
        let (server, version) = (server.clone(), request.version());
        async move { Ok::<_, Infallible>(delimited(version, server.handle(request).await)) }
    });
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("connection: {error}");
    }
}

/// HTTP/1.0 knows no pieces: where the length is not known the end of the connection is the end of the answer, and a
/// client that would have kept it open must hear so.
fn delimited(version: Version, mut answer: Answer) -> Answer {
    if version == Version::HTTP_10 && answer.body().size_hint().exact().is_none() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(PATIENCE)
        .max_concurrent_streams(MAX_STREAMS);
    builder
}

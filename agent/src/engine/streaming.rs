//! The streaming server: where the URLs that Exec, Attach and PortForward answer lead to.
//!
//! The CRI calls only hand out a URL; the bytes flow over it, from the client through whatever proxies stand between
//! (the kubelet's API, the API server) to here. A URL holds a token that works once and for one minute, so it is the
//! whole authorization; the server listens on loopback unless configured otherwise.
//!
//! ```text
//! negotiate   which protocol the client speaks: SPDY/3.1 or WebSocket, which version of the stream protocol
//! remote      the client of an exec or attach, whatever it speaks:  spdy_remote, websocket_remote
//! exec, attach, port_forward   what happens between it and the container
//! ```

mod attach;
mod exec;
mod negotiate;
mod outcome;
mod port_forward;
mod remote;
mod spdy;
mod spdy_remote;
mod tokens;
mod websocket;
mod websocket_remote;
mod websocket_tunnel;

use super::Engine;
use super::stream_target::{StreamTarget, StreamUrls};
use anyhow::Context;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use knarr_cri::Status;
use knarr_cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use negotiate::Protocol;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokens::{Session, Stdio, Tokens};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A client that has not sent its request by then is let go.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The server; dropping it stops it from taking new connections.
#[derive(Debug)]
pub struct StreamingServer {
    address: SocketAddr,
    tokens: Arc<Tokens>,
    _running: DropGuard,
}

/// What each connection needs.
struct Shared {
    tokens: Arc<Tokens>,
    target: Weak<dyn StreamTarget>,
}

impl StreamingServer {
    /// Listens on `address` (port 0 takes a free one). Must be called inside a tokio runtime.
    pub fn start(address: SocketAddr, target: Weak<dyn StreamTarget>) -> anyhow::Result<Self> {
        let listener =
            std::net::TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let tokens = Arc::new(Tokens::default());
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared { tokens: tokens.clone(), target });
        tokio::spawn(accept(TcpListener::from_std(listener)?, shared, stop.clone()));
        Ok(Self { address, tokens, _running: stop.drop_guard() })
    }

    /// Starts a server for this engine and makes the engine hand out its URLs.
    pub fn join(engine: &Arc<Engine>, address: SocketAddr) -> anyhow::Result<()> {
        let target: Weak<Engine> = Arc::downgrade(engine);
        engine.set_streaming(Arc::new(Self::start(address, target)?));
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn url(&self, kind: &str, session: Session) -> Result<String, Status> {
        let token = self.tokens.insert(session)?;
        Ok(format!("http://{}/{kind}/{token}", self.address))
    }
}

impl StreamUrls for StreamingServer {
    fn exec_url(&self, request: &ExecRequest) -> Result<String, Status> {
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("cmd: must not be empty"));
        }
        let stdio = Stdio::checked(request.stdin, request.stdout, request.stderr, request.tty)?;
        let (container_id, cmd) = (request.container_id.clone(), request.cmd.clone());
        self.url("exec", Session::Exec { container_id, cmd, stdio })
    }

    fn attach_url(&self, request: &AttachRequest) -> Result<String, Status> {
        let stdio = Stdio::checked(request.stdin, request.stdout, request.stderr, request.tty)?;
        self.url("attach", Session::Attach { container_id: request.container_id.clone(), stdio })
    }

    fn port_forward_url(&self, request: &PortForwardRequest) -> Result<String, Status> {
        let port = |&port: &i32| match u16::try_from(port) {
            Ok(port @ 1..) => Ok(port),
            _ => Err(Status::invalid_argument(format!("port: {port} is not a port"))),
        };
        let ports = request.port.iter().map(port).collect::<Result<_, _>>()?;
        self.url("portforward", Session::PortForward { sandbox_id: request.pod_sandbox_id.clone(), ports })
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(serve_connection(stream, shared.clone()))),
            Err(error) => {
                tracing::warn!(%error, "the streaming server cannot accept a connection");
                // Out of descriptors, most likely: accepting at once again would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    // Interactive bytes go out at once; a socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(respond(request, &shared)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "streaming connection");
    }
}

fn respond(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let (kind, token) = request.uri().path().trim_start_matches('/').split_once('/').unwrap_or_default();
    // Negotiated first: a client that asks in a protocol we lack tries another one, with the same URL.
    let Some(session_kind) = shared.tokens.kind(token).filter(|known| *known == kind) else {
        return refusal(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    let protocol = match negotiate::negotiate(request.headers(), session_kind == "portforward") {
        Ok(protocol) => protocol,
        Err((status, message)) => return refusal(status, &message),
    };
    let Some(session) = shared.tokens.take(token) else {
        return refusal(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    let Some(target) = shared.target.upgrade() else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "the engine is shutting down\n");
    };
    let response = protocol.switching_response(request.headers());
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => serve_session(TokioIo::new(upgraded), protocol, session, target).await,
            Err(error) => tracing::debug!(%error, "the client did not switch protocols"),
        }
    });
    response
}

async fn serve_session(
    io: TokioIo<hyper::upgrade::Upgraded>,
    protocol: Protocol,
    session: Session,
    target: Arc<dyn StreamTarget>,
) {
    let ended = match session {
        Session::Exec { container_id, cmd, stdio } => match remote::connect(io, protocol, stdio).await {
            Ok(remote) => exec::run(&*target, &container_id, cmd, stdio, remote).await,
            Err(error) => Err(error),
        },
        Session::Attach { container_id, stdio } => match remote::connect(io, protocol, stdio).await {
            Ok(remote) => attach::run(&*target, &container_id, stdio, remote).await,
            Err(error) => Err(error),
        },
        Session::PortForward { sandbox_id, ports } => {
            port_forward::run(io, protocol, &sandbox_id, &ports, target).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "streaming session");
    }
}

fn refusal(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(message.as_bytes())));
    *response.status_mut() = status;
    response
}

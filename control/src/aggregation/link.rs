//! Connections to one other API server: kept for the next request, HTTP/2 where the other side can; one of its own for a
//! request that becomes something else than HTTP.

use crate::pki::Identity;
use crate::server::{Body, tls};
use crate::service_target::Target;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that nobody used for this long is closed.
const IDLE: Duration = Duration::from_secs(90);

/// Whether the other end is still there is asked this often while requests are open.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The way to one server, wherever its endpoints are.
pub(super) struct Link {
    client: Client<Connector, Body>,
    /// Speaks HTTP/1.1 only.
    plain: Connector,
}

#[derive(Clone)]
struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Link {
    pub(super) fn new(
        identity: &Identity,
        bundle: Option<&[u8]>,
        verifies: bool,
        name: &str,
    ) -> Result<Self, String> {
        let config = tls::front_proxy(identity, bundle, verifies).map_err(|error| format!("{error:#}"))?;
        let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
        let mut plain = config.clone();
        plain.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = |config| Connector { config: Arc::new(config), name: name.clone() };
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).timer(TokioTimer::new());
        builder.http2_keep_alive_interval(KEEP_ALIVE).http2_keep_alive_timeout(CONNECT_TIMEOUT);
        Ok(Self { client: builder.build(connector(config)), plain: connector(plain) })
    }

    /// Sends a request, whose path and query are those at the other side. The error is for a person.
    pub(super) async fn send(
        &self,
        target: &Target,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = url(target, path).parse().map_err(|error| format!("{error}"))?;
        *request.uri_mut() = uri;
        self.client.request(request).await.map_err(|error| deepest(&error))
    }

    /// A connection for one request alone.
    pub(super) async fn dial(&self, target: &Target) -> Result<TlsStream<TcpStream>, String> {
        self.plain.clone().connect(target.clone()).await.map_err(|error| error.to_string())
    }
}

/// `https://HOST:PORT/path`
pub(super) fn url((host, port): &Target, path: &str) -> String {
    if host.contains(':') {
        format!("https://[{host}]:{port}{path}")
    } else {
        format!("https://{host}:{port}{path}")
    }
}

/// What went wrong first.
fn deepest(error: &dyn Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

impl Connector {
    async fn connect(self, (host, port): Target) -> io::Result<TlsStream<TcpStream>> {
        let dial = async {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let named = |error: io::Error| {
            let shown = host
                .parse()
                .map_or_else(|_| format!("{host}:{port}"), |ip| SocketAddr::new(ip, port).to_string());
            let why = match error.kind() {
                io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
                _ => error.to_string(),
            };
            io::Error::other(format!("dial tcp {shown}: {why}"))
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "i/o timeout");
        let whole = async {
            let stream = dial.await.map_err(named)?;
            let connector = TlsConnector::from(self.config.clone());
            let said = |error: io::Error| io::Error::other(tls::told(&error));
            connector.connect(self.name.clone(), stream).await.map_err(said)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, whole).await.unwrap_or_else(|_| Err(late()))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let target = (host, uri.port_u16().unwrap_or(443));
        let connect = self.clone().connect(target);
        Box::pin(async move { Ok(Stream(TokioIo::new(connect.await?))) })
    }
}

/// A connection that says which protocol was agreed on.
struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self.0.inner().get_ref().1.alpn_protocol() {
            Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

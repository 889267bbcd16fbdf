//! The kubelet API (port 10250): what the API server asks a node for on behalf of kubectl.
//!
//! Logs are read from the files that the runtime writes; exec, attach and port-forward are URLs of the runtime's own
//! streaming server, and here only bytes pass between it and the client. So all of it works with any CRI runtime.
//!
//! Who may ask: in a cluster, clients with a certificate that its CA signed, or with a token that it knows, whom it
//! lets do so (members of `system:masters` without a question); on its own, programs on this machine. A second port, where
//! one is configured, tells everybody what can be read without harm to a container, as plain HTTP.

mod cadvisor;
mod checkpoint;
mod configz;
mod containers;
mod delegated;
mod identity;
mod log_chain;
mod log_file;
mod log_lines;
mod log_query;
mod logs;
mod metrics;
mod node_logs;
mod own_metrics;
mod prometheus;
mod query;
mod respond;
mod router;
mod run;
mod running_pods;
mod serving;
mod streams;
mod summary;
mod summary_pods;
mod upgrade;
mod volume_stats;

use crate::config::Config;
use crate::kubelet::probes::ProbeCounts;
use anyhow::Context;
use delegated::Delegated;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use identity::{Access, Caller};
use k8s_openapi::api::core::v1::Pod;
use knarr_cri::RuntimeService;
use respond::Body;
pub use serving::Serving;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A client that has not finished its handshake or request head by then is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The pods that the kubelet runs, as it knows them now.
pub type Pods = Arc<dyn Fn() -> Vec<Arc<Pod>> + Send + Sync>;

/// What the server needs.
#[derive(Clone)]
pub struct ApiServerOptions {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The container runtime.
    pub runtime: Arc<dyn RuntimeService>,
    /// The kubelet's pods.
    pub pods: Pods,
    /// PEM certificates of those who sign clients' certificates; without, only this machine may ask.
    pub client_ca: Option<String>,
    /// Asked about callers that are not of `system:masters`.
    pub client: Option<kube::Client>,
    /// PEM certificate chain and key to serve with; self-signed where absent.
    pub tls: Option<(String, String)>,
    /// Names this node in its own certificate and in statistics.
    pub node_name: String,
    /// The settings in force.
    pub config: Arc<Config>,
    /// Results of all probes.
    pub probes: ProbeCounts,
}

impl std::fmt::Debug for ApiServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServerOptions").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// A server that has its port and does not serve yet.
pub struct ApiServer {
    listener: TcpListener,
    /// For everybody.
    read_only: Option<TcpListener>,
    tls: TlsAcceptor,
    serving: Arc<Serving>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// What every request needs.
struct Shared {
    runtime: Arc<dyn RuntimeService>,
    pods: Pods,
    node_name: String,
    config: Arc<Config>,
    probes: ProbeCounts,
    access: Access,
    /// When the machine's processor time was looked at last, and how many seconds it was.
    last_cpu: Mutex<Option<(Instant, f64)>>,
}

/// Serves until `shutdown`.
pub async fn serve(options: ApiServerOptions, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    ApiServer::bind(options).await?.run(shutdown).await
}

impl ApiServer {
    /// Takes the port.
    pub async fn bind(options: ApiServerOptions) -> anyhow::Result<Self> {
        let listener = listen(options.listen).await?;
        let read_only = match options.config.kubelet.read_only_port {
            0 => None,
            port => Some(listen(SocketAddr::new(options.listen.ip(), port)).await?),
        };
        let delegated = options.client.map(|client| Delegated::new(client, &options.node_name));
        let access = Access::new(options.client_ca.as_deref(), delegated)?;
        let serving = Arc::new(Serving::new(options.tls.as_ref(), &options.node_name)?);
        let tls = access.server_config(serving.clone())?;
        let shared = Shared {
            runtime: options.runtime,
            pods: options.pods,
            node_name: options.node_name,
            config: options.config,
            probes: options.probes,
            access,
            last_cpu: Mutex::default(),
        };
        let tls = TlsAcceptor::from(Arc::new(tls));
        Ok(Self { listener, read_only, tls, serving, shared: Arc::new(shared) })
    }

    /// The certificate it shows.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.clone()
    }

    /// The port it has.
    pub fn port(&self) -> std::io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Serves until `shutdown`; connections end with it.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        let _stop_connections = stop.clone().drop_guard();
        let Self { listener, read_only, tls, shared, .. } = self;
        if let Some(read_only) = read_only {
            let shared = shared.clone();
            let serve = move |stream, peer| serve_everybody(stream, peer, shared.clone());
            let accept = accept(read_only, stop.clone(), serve);
            tokio::spawn(stop.clone().run_until_cancelled_owned(accept));
        }
        let serve = move |stream, peer| serve_connection(stream, peer, tls.clone(), shared.clone());
        tokio::select! {
            () = accept(listener, stop.clone(), serve) => {}
            () = shutdown => {}
        }
        Ok(())
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("kubelet API: listen on {address}"))
}

/// Each connection is served in a task of its own until `stop`.
async fn accept<F>(listener: TcpListener, stop: CancellationToken, serve: impl Fn(TcpStream, SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(stop.clone().run_until_cancelled_owned(serve(stream, peer)));
            }
            Err(error) => {
                tracing::warn!(%error, "the kubelet API cannot accept a connection");
                // Out of descriptors, most likely: accepting at once again would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor, shared: Arc<Shared>) {
    // Interactive bytes go out at once; a socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, %peer, "kubelet API: TLS handshake");
            return;
        }
        Err(_) => return,
    };
    let caller = Arc::new(Caller::of(stream.get_ref().1, peer.ip()));
    let answer = move |request| {
        let (shared, caller) = (shared.clone(), caller.clone());
        async move { router::answer(request, shared, &caller).await }
    };
    converse(stream, peer, answer).await;
}

async fn serve_everybody(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let answer = move |request| {
        let shared = shared.clone();
        async move { router::answer_everybody(request, &shared).await }
    };
    converse(stream, peer, answer).await;
}

async fn converse<S, F>(stream: S, peer: SocketAddr, answer: impl Fn(Request<Incoming>) -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<Body>>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, %peer, "kubelet API");
    }
}

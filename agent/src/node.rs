//! One whole node in one process: image store, network, monitors, engine, CRI server, kubelet half, kubelet API,
//! service rules and cluster DNS, started in the order of their arrows and stopped in the reverse one.
//!
//! This is the only file that knows both halves. Pods outlive it: stopping a node leaves its containers running
//! unless the caller asks otherwise, and starting it again finds them.

mod removal;

pub use removal::remove_everything;

use crate::config::Config;
use crate::data_lock::DataLock;
use crate::engine::monitors::UnixMonitors;
use crate::engine::network::cidr::Cidr;
use crate::engine::streaming::StreamingServer;
use crate::engine::{self, Engine};
use crate::kubelet::api_server::{ApiServer, ApiServerOptions, Serving};
use crate::kubelet::machine::{self, Machine};
use crate::kubelet::pods::Workers;
use crate::kubelet::probes::ProbeCounts;
use crate::kubelet::serving_certificate::ServingCertificate;
use crate::kubelet::{Kubelet, Parts};
use crate::policies::LocalPods;
use crate::{dns, node_routes, policies, root_socket, services};
use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Between attempts of a part that must run but cannot start (a busy port, a table that somebody holds).
const RESTART: Duration = Duration::from_secs(2);
const DNS_PORT: u16 = 53;

/// The cluster that a node belongs to.
#[derive(Clone)]
pub struct Cluster {
    /// Speaks to the API server with the node's own identity.
    pub client: kube::Client,
    /// Certificates (PEM) that sign who may call the kubelet API; only loopback peers may where absent.
    pub client_ca_pem: Option<String>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    name: String,
    kubelet: Kubelet,
    /// Stops what the kubelet stands on, after the kubelet.
    shutdown: CancellationToken,
    tasks: TaskTracker,
    /// Nobody else may use the data directory.
    _lock: DataLock,
}

impl Node {
    /// Starts every part; pods come from `cluster`, from the directory of manifests, or from both. A port that is
    /// taken, or a data directory that another agent uses, is an error here and not a surprise later.
    pub async fn start(config: Arc<Config>, cluster: Option<Cluster>) -> anyhow::Result<Node> {
        let name = match &config.node_name {
            Some(name) => name.clone(),
            None => host_name()?,
        };
        let lock = DataLock::take(&config.data_dir).await?;
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (engine, workers) = (start_engine(&config).await?, Workers::default());
        let (client, client_ca) = cluster.map(|cluster| (cluster.client, cluster.client_ca_pem)).unzip();
        let (shown, probe_counts) = (workers.clone(), ProbeCounts::default());
        let api = ApiServer::bind(ApiServerOptions {
            listen: config.kubelet.listen,
            runtime: engine.clone(),
            pods: Arc::new(move || shown.pods()),
            client_ca: match &config.kubelet.client_ca_file {
                Some(file) => Some(pem("client_ca_file", file)?),
                None => client_ca.flatten(),
            },
            client: client.clone(),
            tls: serving_pair(&config)?,
            node_name: name.clone(),
            config: config.clone(),
            probes: probe_counts.clone(),
        })
        .await?;
        let stop = shutdown.clone().cancelled_owned();
        let (served, socket) = (engine.clone(), config.cri_socket());
        let listener = root_socket::listen(&socket).await?;
        let serve = async move { engine::serve_on(served, listener, &socket, stop).await };
        tasks.spawn(async move { report("CRI server", serve.await) });
        let local = client.as_ref().filter(|_| policies::wanted(&config)).map(|_| LocalPods::default());
        let kubelet = Kubelet::start(Parts {
            machine: Machine::detect(&config.data_dir),
            config: config.clone(),
            node_name: name.clone(),
            client: client.clone(),
            runtime: engine.clone(),
            images: engine,
            port: api.port()?,
            workers,
            imaginary: false,
            probe_counts,
            policies: local.clone(),
        })
        .await?;
        if let Some(client) = client.clone().filter(|_| config.kubelet.server_tls_bootstrap) {
            let certificate = serving_certificate(client, &config, &name, api.serving());
            tasks.spawn(shutdown.clone().run_until_cancelled_owned(certificate.run()));
        }
        let stop = shutdown.clone().cancelled_owned();
        tasks.spawn(async move { report("kubelet API", api.run(stop).await) });
        if let Some(client) = &client {
            follow_cluster(
                client,
                &config,
                &services::Own { name: name.clone(), object: kubelet.object() },
                local,
                &shutdown,
                &tasks,
            );
        }
        tasks.spawn(serve_names(config, client, kubelet.pod_cidr(), shutdown.clone()));
        tasks.close();
        Ok(Node { name, kubelet, shutdown, tasks, _lock: lock })
    }

    /// Name of the Node object.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every pod of this node with its present status.
    pub fn pods(&self) -> Vec<Pod> {
        self.kubelet.workers().pods().into_iter().map(Arc::unwrap_or_clone).collect()
    }

    /// Returns when the node can run pods (and, in a cluster, its Node object says Ready).
    pub async fn ready(&self) -> anyhow::Result<()> {
        self.kubelet.ready().await
    }

    /// Stops the agent; its pods go on unless `stop_pods`. Returns every error of the way down as one.
    pub async fn shutdown(self, stop_pods: bool) -> anyhow::Result<()> {
        let stopped = self.kubelet.shutdown(stop_pods).await;
        self.shutdown.cancel();
        self.tasks.wait().await;
        stopped
    }
}

/// What a node does for a cluster besides running its pods.
fn follow_cluster(
    client: &kube::Client,
    config: &Arc<Config>,
    own: &services::Own,
    local: Option<LocalPods>,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) {
    let parts = (client.clone(), config.clone(), own.clone());
    let clones = move || parts.clone();
    let each = clones.clone();
    let run = move |stop| {
        let (client, config, own) = each();
        services::run(client, config, own, stop)
    };
    tasks.spawn(keep_running("services", shutdown.clone(), run));
    if node_routes::wanted(config) {
        let each = clones.clone();
        let run = move |stop| {
            let (client, config, own) = each();
            node_routes::run(client, config, own.name, stop)
        };
        tasks.spawn(keep_running("routes to nodes", shutdown.clone(), run));
    }
    if let Some(local) = local {
        let run = move |stop| {
            let (client, config, own) = clones();
            policies::run(client, config, own.name, local.clone(), stop)
        };
        tasks.spawn(keep_running("network policies", shutdown.clone(), run));
    }
}

fn pem(key: &str, file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("kubelet.{key}: {}", file.display()))
}

/// The certificate and the key that the settings name for the kubelet API.
fn serving_pair(config: &Config) -> anyhow::Result<Option<(String, String)>> {
    match (&config.kubelet.tls_cert_file, &config.kubelet.tls_private_key_file) {
        (Some(chain), Some(key)) => {
            Ok(Some((pem("tls_cert_file", chain)?, pem("tls_private_key_file", key)?)))
        }
        (None, None) => Ok(None),
        _ => anyhow::bail!("kubelet.tls_cert_file and kubelet.tls_private_key_file go together"),
    }
}

fn serving_certificate(
    client: kube::Client,
    config: &Config,
    name: &str,
    serving: Arc<Serving>,
) -> ServingCertificate {
    let address = config.kubelet.node_ip.unwrap_or_else(machine::address);
    let names = vec![name.to_owned(), address.to_string()];
    let file = config.data_dir.join("kubelet-serving.pem");
    ServingCertificate { client, node: name.to_owned(), names, file, serving }
}

async fn start_engine(config: &Arc<Config>) -> anyhow::Result<Arc<Engine>> {
    let images = engine::image_store::open(config)?;
    let network = engine::network::open(config)?;
    let monitors = Arc::new(UnixMonitors::new(config.clone()));
    let engine = Engine::start(config.clone(), images, network, monitors).await?;
    StreamingServer::join(&engine, config.engine.streaming_listen)?;
    if let Some(address) = config.engine.metrics_listen {
        engine.serve_metrics(address)?;
    }
    Ok(engine)
}

fn report(part: &str, result: anyhow::Result<()>) {
    if let Err(error) = result {
        tracing::error!("{part}: {error:#}");
    }
}

/// Runs a part until shutdown, starting it again after an error: a port that was busy becomes free.
async fn keep_running<F>(part: &str, shutdown: CancellationToken, run: impl Fn(CancellationToken) -> F)
where
    F: Future<Output = anyhow::Result<()>>,
{
    while !shutdown.is_cancelled() {
        report(part, run(shutdown.clone()).await);
        // Cancelled or not, the loop decides.
        let _ = tokio::time::timeout(RESTART, shutdown.cancelled()).await;
    }
}

/// Cluster DNS on the gateway of the pods' range, moved when the cluster gives this node another range.
async fn serve_names(
    config: Arc<Config>,
    client: Option<kube::Client>,
    mut pod_cidr: watch::Receiver<Option<String>>,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let range = pod_cidr.borrow_and_update().clone().unwrap_or_else(|| config.network.pod_cidr.clone());
        let listen = match Cidr::parse(range.split(',').next().unwrap_or_default()) {
            Ok(range) => vec![SocketAddr::new(range.gateway().into(), DNS_PORT)],
            Err(error) => return tracing::error!("cluster DNS: {error:#}"),
        };
        let stop = shutdown.child_token();
        let (client, config) = (client.clone(), config.clone());
        let run = move |stop| dns::run(client.clone(), listen.clone(), config.clone(), stop);
        let server = keep_running("cluster DNS", stop.clone(), run);
        let moved = pod_cidr.wait_for(|given| given.as_ref().is_some_and(|given| *given != range));
        tokio::select! {
            () = server => return,
            moved = moved => if moved.is_err() {
                return;
            },
        }
        stop.cancel();
    }
}

/// This machine's name as a node's: lower case, and nothing that an object's name cannot have.
pub fn host_name() -> anyhow::Result<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase();
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let good = name.chars().all(legal)
        && edge(name.chars().next())
        && edge(name.chars().last())
        && name.len() <= 253;
    anyhow::ensure!(good, "the host name \"{name}\" cannot be a node's name: set node_name");
    Ok(name)
}

/// Runs `count` nodes named `NAME-0`, `NAME-1`, ... whose containers are imaginary, until `shutdown` is cancelled.
pub async fn simulate(
    config: Arc<Config>,
    cluster: Cluster,
    count: usize,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    crate::kubelet::simulate::run(config, cluster.client, count, shutdown).await.context("simulated nodes")
}

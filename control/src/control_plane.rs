//! The whole control plane as one value: started, used through its client and its kubeconfig, shut down.

use crate::aggregation::{self, Aggregation};
use crate::authn::service_account::Issuer;
use crate::authn::{MASTERS, Tokens, User};
use crate::authz::rbac::Rbac;
use crate::certificates;
use crate::client;
use crate::controllers::{self, Clients, ControllerOptions};
use crate::extensions;
use crate::openapi::Documents;
use crate::pki::{self, Pki, Subject};
use crate::registry::Table;
use crate::scheduler::Packing;
use crate::server::audit::{Audit, AuditOptions};
use crate::server::flow_control::FlowControl;
use crate::server::{Direct, Kubelets, Server, ServiceAddresses, listener, tls};
use crate::store::{self, Store};
use addresses::ServerNames;
use anyhow::Context as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

mod addresses;

/// Controllers that do not stop by themselves within this are cut off.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything `knarr server` and `knarr up` decide about their control plane.
#[derive(Debug, Clone)]
pub struct Options {
    /// Holds the store, the certificates and `admin.kubeconfig`.
    pub data_dir: PathBuf,
    /// Where HTTPS is served; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The address that nodes and pods are told; the machine's own where absent.
    pub advertise: Option<IpAddr>,
    /// `10.96.0.0/16`
    pub service_cidr: String,
    /// `10.244.0.0/16`
    pub cluster_cidr: String,
    /// Prefix length of one node's pod addresses.
    pub node_cidr_mask: u8,
    /// Endpoints of etcd; the embedded store where empty.
    pub etcd: Vec<String>,
    /// How etcd is to be trusted, and how it trusts us.
    pub etcd_tls: store::EtcdTls,
    /// What is written of requests; nothing where absent.
    pub audit: Option<AuditOptions>,
    /// Whether the scheduler spreads load out or fills nodes up.
    pub packing: Packing,
}

impl Options {
    /// Kubernetes' usual addresses, on port 6443.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            listen: SocketAddr::from(([0, 0, 0, 0], 6443)),
            advertise: None,
            service_cidr: "10.96.0.0/16".to_owned(),
            cluster_cidr: "10.244.0.0/16".to_owned(),
            node_cidr_mask: 24,
            etcd: Vec::new(),
            etcd_tls: store::EtcdTls::default(),
            audit: None,
            packing: Packing::default(),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new(PathBuf::from("/var/lib/knarr"))
    }
}

/// A running control plane.
pub struct ControlPlane {
    server: Arc<Server>,
    client: kube::Client,
    kubeconfig: PathBuf,
    ca_pem: String,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ControlPlane").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Opens the store, serves HTTPS, starts scheduler and controllers. Returns when the server is ready.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let store = open_store(&options).await?;
        let directory = options.data_dir.join("pki");
        let open = move || {
            anyhow::Ok((Pki::open(&directory)?, Aggregation::new(&Pki::open_front_proxy(&directory)?)?))
        };
        let (pki, aggregation) = tokio::task::spawn_blocking(open).await??;
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("listen on {}", options.listen))?;
        let address = listener.local_addr()?;
        let advertise = options.advertise.unwrap_or_else(|| addresses::advertised(address.ip()));
        let addresses = ServiceAddresses::new(&options.service_cidr)?;
        let names = ServerNames { advertise, service: addresses.kubernetes(), listen: address.ip() };
        let certificate = tls::ServerCertificate::new(&names.identity(&pki)?)?;
        let admin = pki.identity(
            "admin",
            &Subject { common_name: "kubernetes-admin", organization: Some(MASTERS), names: &[] },
        )?;
        let kubelet =
            Subject { common_name: "kube-apiserver-kubelet-client", organization: Some(MASTERS), names: &[] };
        let kubelets = Kubelets::new(&pki.identity("kubelet-client", &kubelet)?)?;
        let issuer = Arc::new(Issuer::open(&pki)?);
        let mut tokens = Tokens::new(issuer.clone());
        let rbac = Arc::new(Rbac::new(store.clone()));
        let token = pki.secret("admin.token", || Ok(crate::random::token()))?;
        tokens.insert(token, User::new("kubernetes-admin", &[MASTERS]));
        let (stop, shutdown) = watch::channel(false);
        let table = Table::builtin();
        let audit = options.audit.as_ref().map(Audit::open).transpose()?.map(Arc::new);
        let server = Arc::new(Server {
            flow_control: FlowControl::new(store.clone()),
            audit,
            store,
            table,
            aggregation,
            openapi: Documents::default(),
            tokens,
            rbac,
            addresses,
            kubelets,
            quotas: crate::admission::Quotas::default(),
            metrics: crate::server::Metrics::default(),
            telemetry: crate::server::Telemetry::default(),
            shutdown,
        });
        server.bootstrap(SocketAddr::new(advertise, address.port()), pki.ca_pem()).await?;
        let kubeconfig = options.data_dir.join("admin.kubeconfig");
        let url = format!("https://{}", SocketAddr::new(reachable(address.ip()), address.port()));
        pki::write_private(&kubeconfig, &admin_kubeconfig(&url, pki.ca_pem(), &admin))?;
        let client = client::in_process(server.clone(), User::server(), "knarr");
        extensions::load(&server, &client).await.context("load custom resource definitions")?;
        let trusted = [pki.ca_pem(), server.aggregation.ca_pem()].concat();
        let config = Arc::new(tls::server(&trusted, certificate.clone())?);
        let ca_pem = pki.ca_pem().to_owned();
        let mut tasks = JoinSet::new();
        tasks.spawn(listener::serve(server.clone(), listener, config, stop.subscribe()));
        let pki = Arc::new(pki);
        let shared = !options.etcd.is_empty();
        let certificates = certificates::run(server.clone(), client.clone(), pki.clone(), stop.subscribe());
        tasks.spawn(certificates);
        tasks.spawn(addresses::renew(pki.clone(), names, certificate, stop.subscribe()));
        let controllers = ControllerOptions {
            cluster_cidr: options.cluster_cidr,
            service_cidr: options.service_cidr,
            node_cidr_mask: options.node_cidr_mask,
            advertise,
            ca_pem: ca_pem.clone(),
            packing: options.packing,
            issuer,
            identity: identity(&pki, advertise, shared)?,
            shared,
        };
        tasks.spawn(aggregation::run(server.clone(), client.clone(), stop.subscribe()));
        tasks.spawn(extensions::run(server.clone(), client.clone(), stop.subscribe()));
        tasks.spawn(controllers::run_all(clients(&server), controllers, stop.subscribe()));
        Ok(Self { server, client, kubeconfig, ca_pem, address, stop, tasks })
    }

    /// A client of full rights with no socket in between.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The same with the rights of a node, for the agent of this process.
    pub fn client_for_node(&self, name: &str) -> kube::Client {
        client::in_process(self.server.clone(), User::node(name), "kubelet")
    }

    /// `admin.kubeconfig`, readable by its owner only.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// Certificate of the cluster's CA, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Where HTTPS is served, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops controllers and server; every acknowledged write is on disk already. Streams to nodes are cut off.
    pub async fn shutdown(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await.is_err() {
            self.tasks.shutdown().await;
        }
        let store = self.server.store.clone();
        tokio::task::spawn_blocking(move || store.close()).await?;
        Ok(())
    }
}

/// The clients of scheduler and controllers.
fn clients(server: &Arc<Server>) -> Clients {
    let own = |agent| client::in_process(server.clone(), User::server(), agent);
    Clients {
        scheduler: own("kube-scheduler"),
        direct: Direct::new(server.clone(), "kube-scheduler"),
        controllers: own("kube-controller-manager"),
        copies: client::for_copies(server.clone(), User::server(), "kube-controller-manager"),
    }
}

/// What this process is called in leases. On a store of its own it follows only itself, and need not wait until its
/// predecessor counts as gone.
fn identity(pki: &Pki, advertise: IpAddr, shared: bool) -> anyhow::Result<String> {
    let unique = match shared {
        true => crate::random::token(),
        false => pki.secret("leader.id", || Ok(crate::random::token()))?,
    };
    Ok(format!("{advertise}_{unique}"))
}

async fn open_store(options: &Options) -> anyhow::Result<Arc<dyn Store>> {
    if !options.etcd.is_empty() {
        return Ok(store::connect_etcd(&options.etcd, &options.etcd_tls).await?);
    }
    let directory = options.data_dir.clone();
    let open = move || -> anyhow::Result<Arc<dyn Store>> {
        std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        Ok(Arc::new(store::Embedded::open(&directory.join("store.redb"))?))
    };
    tokio::task::spawn_blocking(open).await?
}

/// `admin.kubeconfig`: everything kubectl needs, in one file.
fn admin_kubeconfig(url: &str, ca_pem: &str, admin: &pki::Identity) -> String {
    let kubeconfig = knarr_api::Kubeconfig {
        cluster: "knarr",
        context: "knarr",
        user: "admin",
        server: url,
        ca_pem,
        certificate_pem: &admin.certificate,
        key_pem: &admin.key,
    };
    kubeconfig.to_string()
}

/// The address by which this machine reaches its own server.
fn reachable(listen: IpAddr) -> IpAddr {
    match listen {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    }
}

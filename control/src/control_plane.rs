//! The whole control plane as one value: started, used through its client and its kubeconfig, shut down.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

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
    kubeconfig: PathBuf,
    ca_pem: String,
    address: SocketAddr,
    client: kube::Client,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ControlPlane").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Opens the store, serves HTTPS, starts scheduler and controllers. Returns when the server is ready.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        anyhow::bail!("the control plane in {} is not supported yet", options.data_dir.display())
    }

    /// A client of full rights with no socket in between.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The same with the rights of a node, for the agent of this process.
    pub fn client_for_node(&self, name: &str) -> kube::Client {
        let _ = name;
        self.client.clone()
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

    /// Stops the controllers, then the server, then the store; every acknowledged write is on disk already.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        Ok(())
    }
}

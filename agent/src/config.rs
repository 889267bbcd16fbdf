//! Every setting of a node in one typed structure: read once, from `/etc/knarr/config.toml` and the command line,
//! and handed down. Nothing below this file reads the environment.
//!
//! Two agents on one machine must be possible, so every path, port and kernel object name is here; the default of
//! each is a constant next to it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// A whole node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What must survive a reboot: images, container records, volumes, certificates.
    pub data_dir: PathBuf,
    /// What must not: sockets, pinned namespaces, mounted root filesystems, runtime state.
    pub state_dir: PathBuf,
    /// Directory of the kubelet-style log tree (`NAMESPACE_NAME_UID/CONTAINER/N.log`).
    pub pod_logs_dir: PathBuf,
    /// Name of the Node object; the host name where absent.
    pub node_name: Option<String>,
    /// `knarr-monitor`; next to our own executable, else on PATH, where absent.
    pub monitor_binary: Option<PathBuf>,
    /// Pods and containers.
    pub engine: EngineConfig,
    /// The built-in pod network.
    pub network: NetworkConfig,
    /// The network of stand-alone containers (`knarr run`): a bridge, a range and a table of their own.
    pub run_network: NetworkConfig,
    /// The half that talks to a cluster.
    pub kubelet: KubeletConfig,
}

/// The CRI server and what stands behind it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// The CRI socket; `STATE_DIR/cri.sock` where absent.
    pub listen: Option<PathBuf>,
    /// Address of the exec, attach and port-forward server; port 0 takes a free one.
    pub streaming_listen: SocketAddr,
    /// RuntimeClass handler name to OCI runtime binary. `""` is the default handler: `knarr-runtime` where absent.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Raise a negative `oom_score_adj` to our own, and lower rlimits to our own hard limits, where the host denies
    /// more (no CAP_SYS_RESOURCE). The runtime itself would fail, as runc does.
    pub clamp_denied_limits: bool,
    /// Cgroup under which monitors live, relative to each hierarchy's root.
    pub monitor_cgroup: String,
    /// Directory of per-registry `hosts.toml` files, in containerd's layout.
    pub registry_hosts_dir: PathBuf,
}

/// Bridge, addresses, host ports, services.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// Name of the bridge link (at most 15 bytes).
    pub bridge: String,
    /// Name of the nftables table (family inet) that holds all our rules.
    pub table: String,
    /// Addresses of this node's pods until a cluster assigns a `podCIDR`; the first one is the bridge's own.
    pub pod_cidr: String,
    /// Packets leaving for anything outside this range take the node's address.
    pub cluster_cidr: String,
    /// Service addresses.
    pub service_cidr: String,
    /// Bytes; the MTU of the default route's link where absent.
    pub mtu: Option<u32>,
    /// Where addresses are booked; `DATA_DIR/network` where absent. All processes that share a bridge share it.
    pub dir: Option<PathBuf>,
    /// Pods are attached by CNI plugins, configured in this directory; the built-in bridge where absent.
    pub cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are found, in this order.
    pub cni_bin_dirs: Vec<PathBuf>,
}

impl NetworkConfig {
    /// Name of the nftables table that holds the rules of services.
    pub fn services_table(&self) -> String {
        format!("{}-services", self.table)
    }
}

/// The kubelet half.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubeletConfig {
    /// Address of the kubelet API (logs, exec, metrics).
    pub listen: SocketAddr,
    /// Static pods are read from here.
    pub manifests: Option<PathBuf>,
    /// Address that the node reports and that pods see as `status.hostIP`; found by the default route where absent.
    pub node_ip: Option<IpAddr>,
    /// Name servers written into pods; the bridge's own address (where our DNS answers) where empty.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Most pods this node takes.
    pub max_pods: u32,
    /// Cgroup under which `kubepods` is made, relative to each hierarchy's root.
    pub cgroup_root: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/knarr".into(),
            state_dir: "/run/knarr".into(),
            pod_logs_dir: "/var/log/pods".into(),
            node_name: None,
            monitor_binary: None,
            engine: EngineConfig::default(),
            network: NetworkConfig::default(),
            run_network: NetworkConfig::for_stand_alone_containers(),
            kubelet: KubeletConfig::default(),
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            listen: None,
            streaming_listen: (Ipv4Addr::LOCALHOST, 0).into(),
            runtimes: BTreeMap::new(),
            clamp_denied_limits: true,
            monitor_cgroup: "/knarr-monitors".into(),
            registry_hosts_dir: "/etc/knarr/hosts.d".into(),
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            bridge: "knarr0".into(),
            table: "knarr".into(),
            pod_cidr: "10.42.0.0/24".into(),
            cluster_cidr: "10.42.0.0/16".into(),
            service_cidr: "10.96.0.0/16".into(),
            mtu: None,
            dir: None,
            cni_conf_dir: None,
            cni_bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
        }
    }
}

impl NetworkConfig {
    /// Apart from the pods' in every name and address.
    fn for_stand_alone_containers() -> Self {
        Self {
            bridge: "knarr-run0".into(),
            table: "knarr-run".into(),
            pod_cidr: "10.41.0.0/24".into(),
            cluster_cidr: "10.41.0.0/24".into(),
            ..Self::default()
        }
    }
}

impl Default for KubeletConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 10250).into(),
            manifests: None,
            node_ip: None,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            max_pods: 110,
            cgroup_root: "/".into(),
        }
    }
}

impl Config {
    /// Where addresses of pods are booked.
    pub fn network_dir(&self) -> PathBuf {
        self.network.dir.clone().unwrap_or_else(|| self.data_dir.join("network"))
    }

    /// The CRI socket.
    pub fn cri_socket(&self) -> PathBuf {
        self.engine.listen.clone().unwrap_or_else(|| self.state_dir.join("cri.sock"))
    }
}

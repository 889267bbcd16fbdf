//! What the engine asks of a network: an address for a pod, and its complete removal.
//!
//! Three implementations: the built-in bridge, CNI plugins, and for stand-alone containers the machine's own wire (macvlan).
//! All must keep what they allocated on disk, so that a restart, a crash between two steps or a reboot never leaks an
//! address; `teardown` is idempotent and works when the namespace is gone.

mod addresses;
pub mod bridge;
pub mod cidr;
pub mod cni;
mod host_port_flows;
mod inside;
mod ledger;
mod links;
pub mod macvlan;
pub(crate) mod netlink;
pub mod part;
pub mod pod_range;
mod pool;
mod second_family;
mod seen_bridge;
mod source_guard;
mod table;
mod wire;

pub use links::hardware_address;

use crate::config::Config;
use anyhow::Context;
use async_trait::async_trait;
use knarr_cri::v1::{PortMapping, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The pod that wants a network.
#[derive(Debug, Clone)]
pub struct PodAttachment {
    /// CRI sandbox id: the key of everything allocated for this pod.
    pub sandbox_id: String,
    /// Kubernetes namespace, name and uid, for plugins and messages.
    pub namespace: String,
    #[allow(missing_docs)]
    pub name: String,
    #[allow(missing_docs)]
    pub uid: String,
    /// Where the pod's network namespace is pinned.
    pub netns: PathBuf,
    /// Ports of the host that lead to the pod.
    pub host_ports: Vec<HostPort>,
    /// CRI annotations (bandwidth and the like).
    pub annotations: BTreeMap<String, String>,
}

/// One port of the host that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Address of the host; any where absent.
    pub host_ip: Option<IpAddr>,
    #[allow(missing_docs)]
    pub host_port: u16,
    #[allow(missing_docs)]
    pub container_port: u16,
}

/// Those of CRI's that name a port of the host.
pub fn host_ports(mappings: &[PortMapping]) -> Vec<HostPort> {
    let convert = |mapping: &PortMapping| {
        let host_port = u16::try_from(mapping.host_port).ok().filter(|&port| port > 0)?;
        Some(HostPort {
            protocol: match mapping.protocol() {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            },
            host_ip: mapping.host_ip.parse().ok(),
            host_port,
            container_port: u16::try_from(mapping.container_port).ok()?,
        })
    };
    mappings.iter().filter_map(convert).collect()
}

/// A network that pods can be attached to.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Attaches the pod; a second call with the same sandbox id answers the same addresses. The first is primary.
    async fn setup(&self, pod: &PodAttachment) -> anyhow::Result<Vec<IpAddr>>;

    /// Removes everything `setup` made, also after a failed `setup` and when the namespace no longer exists.
    async fn teardown(&self, sandbox_id: &str) -> anyhow::Result<()>;

    /// The same, and returns when the kernel has taken everything apart.
    async fn release(&self, sandbox_id: &str) -> anyhow::Result<()> {
        self.teardown(sandbox_id).await
    }

    /// Removes what belongs to none of the `living` sandboxes; called once after a start.
    async fn collect_garbage(&self, living: &BTreeSet<String>) -> anyhow::Result<()>;

    /// Takes new pods' addresses from `pod_cidr` (`10.42.3.0/24`); existing pods keep theirs.
    async fn set_pod_cidr(&self, pod_cidr: &str) -> anyhow::Result<()>;

    /// `Ok` when pods can be attached; the error is the message of the `NetworkReady` condition.
    async fn ready(&self) -> Result<(), String>;

    /// Removes the links and tables that all pods share (`knarr down`).
    async fn remove_all(&self) -> anyhow::Result<()>;
}

/// All that a namespace without a link has: a loopback. Blocks.
pub fn loopback_alone(netns: &Path) -> anyhow::Result<()> {
    let namespace = File::open(netns).with_context(|| format!("open {}", netns.display()))?;
    inside::inside(&namespace, links::loopback_up)
}

/// The network that the configuration asks for; the kernel is not touched yet.
pub fn open(config: &Arc<Config>) -> anyhow::Result<Arc<dyn PodNetwork>> {
    Ok(match &config.network.cni_conf_dir {
        Some(conf_dir) => cni::CniNetwork::new(config, conf_dir),
        None => bridge::BridgeNetwork::new(config.clone())?,
    })
}

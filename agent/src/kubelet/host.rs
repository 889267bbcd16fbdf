//! What every pod worker needs of its node: the runtime, the cluster's objects, the node's facts and directories.

use crate::kubelet::cpus::Cpus;
use crate::kubelet::csi::Csi;
use crate::kubelet::devices::Devices;
use crate::kubelet::events::Recorder;
use crate::kubelet::facts::Facts;
use crate::kubelet::iscsi::Iscsi;
use crate::kubelet::machine;
use crate::kubelet::memory_qos::{self, MemoryQos};
use crate::kubelet::observed::Sandbox;
use crate::kubelet::paths::Paths;
use crate::kubelet::pod;
use crate::kubelet::pod_cgroup::{self, Hierarchy};
use crate::kubelet::pods::Workers;
use crate::kubelet::pressure::Conditions;
use crate::kubelet::probes::ProbeCounts;
use crate::kubelet::references::ObjectSource;
use crate::kubelet::resources::{self, Amounts};
use crate::kubelet::user_namespaces::UserNamespaces;
use crate::kubelet::volumes::TokenSource;
use crate::policies::LocalPods;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use knarr_cri::{ImageService, RuntimeService, Status};
use kube::runtime::reflector::Store;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How long a call to the runtime may take, unless it waits for something of its own (a pull, a grace period).
pub const CALL_DEADLINE: Duration = Duration::from_secs(120);

/// The node as its pods see it.
pub struct Host {
    #[allow(missing_docs)]
    pub runtime: Arc<dyn RuntimeService>,
    #[allow(missing_docs)]
    pub images: Arc<dyn ImageService>,
    #[allow(missing_docs)]
    pub recorder: Recorder,
    #[allow(missing_docs)]
    pub paths: Paths,
    /// ConfigMaps and Secrets.
    pub objects: Arc<dyn ObjectSource>,
    /// Service account tokens; none without a cluster.
    pub tokens: Option<Arc<dyn TokenSource>>,
    /// All services; none without a cluster.
    pub services: Option<Store<Service>>,
    /// The cluster; none for a node on its own.
    pub client: Option<kube::Client>,
    #[allow(missing_docs)]
    pub node_name: String,
    /// The Node object as the cluster has it, once it was seen.
    pub node: watch::Receiver<Option<Arc<Node>>>,
    /// Addresses of the node, primary first.
    pub node_ips: Vec<String>,
    /// Bytes.
    pub node_memory: i64,
    #[allow(missing_docs)]
    pub allocatable: Amounts,
    /// Name servers of the cluster; where empty, pods ask the gateway of their own range.
    pub name_servers: Vec<IpAddr>,
    /// The range of this node's pods until the cluster gives one.
    pub first_pod_cidr: String,
    /// The range that the cluster gave.
    pub pod_cidr: watch::Receiver<Option<String>>,
    #[allow(missing_docs)]
    pub cluster_domain: String,
    /// Cgroup under which `kubepods` lies.
    pub cgroup_root: String,
    /// The machine's cgroup hierarchies; none for an imaginary node, which has no files either.
    pub hierarchies: Option<Vec<Hierarchy>>,
    /// The runtime's own name, such as `knarr` or `containerd`.
    pub runtime_name: String,
    /// Pulls under way at once.
    pub pulls: Semaphore,
    /// The runtime makes mounts read-only with everything below them.
    pub recursive_read_only: bool,
    /// What the node is short of.
    pub pressure: watch::Receiver<Conditions>,
    /// Results of all probes.
    pub probe_counts: ProbeCounts,
    /// Who keeps the rules of network policies; not here where that is somebody else.
    pub policies: Option<LocalPods>,
    /// Containers without a seccomp profile get the runtime's default one.
    pub seccomp_default: bool,
    /// The kernel enforces AppArmor profiles.
    pub apparmor: bool,
    /// How memory is protected and throttled; not where that is off.
    pub memory_qos: Option<MemoryQos>,
    /// Devices of plugins.
    pub devices: Devices,
    /// Ids of pods with a user namespace of their own.
    pub user_namespaces: UserNamespaces,
    /// Processors that containers have for themselves.
    pub cpus: Cpus,
    /// Storage drivers.
    pub csi: Csi,
    /// Disks of iSCSI targets.
    pub iscsi: Iscsi,
    /// All pods of this node.
    pub workers: Workers,
    /// Most processes of one pod.
    pub pod_pids_limit: Option<u64>,
    /// The node goes down and takes no more pods.
    pub shutting_down: watch::Receiver<bool>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

impl Host {
    /// Containers and files are real.
    pub fn is_real(&self) -> bool {
        self.hierarchies.is_some()
    }

    /// Makes the pod's cgroup, or writes its limits anew. Blocks.
    pub fn make_pod_cgroup(&self, pod: &Pod) -> std::io::Result<()> {
        let cgroup = pod_cgroup::path(&self.cgroup_root, pod);
        let limits = pod_cgroup::Limits {
            pids: self.pod_pids_limit,
            memory_min: self.memory_qos.map(|_| memory_qos::pod_min(pod)),
            huge_pages: resources::huge_pages_of(pod, &machine::huge_page_sizes()),
            own_processors: self.cpus.has_own(pod::uid(pod)),
        };
        pod_cgroup::create(self.hierarchies.as_deref().unwrap_or_default(), &cgroup, pod, &limits)
    }

    /// Raises the limits of the pod's cgroup, where they are to be higher. Blocks.
    pub fn grow_pod_cgroup(&self, pod: &Pod) -> std::io::Result<()> {
        let cgroup = pod_cgroup::path(&self.cgroup_root, pod);
        pod_cgroup::grow(self.hierarchies.as_deref().unwrap_or_default(), &cgroup, pod)
    }

    /// Name servers for pods.
    pub fn cluster_dns(&self) -> Vec<IpAddr> {
        if !self.name_servers.is_empty() {
            return self.name_servers.clone();
        }
        let given = self.pod_cidr.borrow().clone();
        first_address(given.as_deref().unwrap_or(&self.first_pod_cidr)).into_iter().collect()
    }

    /// What a container of this pod may learn.
    pub fn facts(&self, pod: &Pod, sandbox: Option<&Sandbox>) -> Facts {
        let pod_ips = match sandbox {
            _ if pod::host_network(pod) => self.node_ips.clone(),
            Some(sandbox) => sandbox.ips.clone(),
            None => Vec::new(),
        };
        Facts {
            pod_ips,
            host_ips: self.node_ips.clone(),
            node_name: self.node_name.clone(),
            allocatable: self.allocatable.clone(),
        }
    }

    /// All services, once they are known.
    pub async fn all_services(&self) -> Result<Vec<Service>, String> {
        let Some(store) = &self.services else { return Ok(Vec::new()) };
        let ready = tokio::time::timeout(Duration::from_secs(10), store.wait_until_ready()).await;
        match ready {
            Ok(Ok(())) => Ok(store.state().iter().map(|service| Service::clone(service)).collect()),
            _ => Err("services have not yet been read at least once, cannot construct envvars".to_string()),
        }
    }
}

/// A call to the runtime, with a deadline; a runtime that hangs is an error like any other.
pub async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result,
        Err(_) => Err(Status::deadline_exceeded("context deadline exceeded")),
    }
}

/// A runtime's error as gRPC clients print it, which is how events and messages show it.
pub fn rpc_error(status: &Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// The first usable address of the first range, which is the gateway's.
fn first_address(cidr: &str) -> Option<IpAddr> {
    let (address, length) = cidr.split(',').next()?.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let host_bits = 32_u32.checked_sub(length.parse().ok()?)?;
    let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
    Some(Ipv4Addr::from((u32::from(address) & mask) + 1).into())
}

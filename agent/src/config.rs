//! Every setting of a node in one typed structure: read once, from `/etc/knarr/config.toml` and the command line,
//! and handed down. Nothing below this file reads the environment.
//!
//! Two agents on one machine must be possible, so every path, port and kernel object name is here; the default of
//! each is a constant next to it.

use crate::kubelet::log_rotation::Limits;
use crate::kubelet::pressure;
use crate::kubelet::resources::{self, Amounts};
use crate::kubelet::shutdown::Grace;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

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
    /// Address of `/metrics` (the engine's own, for Prometheus) and `/healthz`, plain HTTP; not served where absent.
    pub metrics_listen: Option<SocketAddr>,
    /// RuntimeClass handler name to OCI runtime binary. `""` is the default handler: `knarr-runtime` where absent.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Raise a negative `oom_score_adj` to our own, and lower rlimits to our own hard limits, where the host denies
    /// more (no CAP_SYS_RESOURCE). The runtime itself would fail, as runc does.
    pub clamp_denied_limits: bool,
    /// Kubelets that ask are told to have systemd make the cgroups of pods (`cgroupDriver: systemd`). A pod whose parent is
    /// a slice is systemd's either way.
    pub systemd_cgroup: bool,
    /// Cgroup under which monitors live, relative to each hierarchy's root.
    pub monitor_cgroup: String,
    /// Directory of per-registry `hosts.toml` files, in containerd's layout.
    pub registry_hosts_dir: PathBuf,
    /// Directories of files that describe devices (Container Device Interface); the last one that knows a device counts.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Program and arguments that a monitor runs when a container has ended. Not a setting: single containers have
    /// nobody else to clean up after them.
    #[serde(skip)]
    pub on_exit: Vec<String>,
    /// What containers write is of no use after a crash. Not a setting either: whoever makes the container knows.
    #[serde(skip)]
    pub volatile: bool,
    /// The id of the one container that is made, by whoever calls its host after it.
    #[serde(skip)]
    pub container_id: Option<String>,
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
    /// Pods get a second address from this IPv6 range (`fd00:42::/112`), at the same place as in the first; none where
    /// absent. It has as many addresses at least. The host then forwards IPv6.
    pub pod_cidr_v6: Option<String>,
    /// Packets leaving for anything outside this range take the node's address.
    pub cluster_cidr: String,
    /// The same for IPv6; the pods' own range where absent. A control plane with this and without `pod_cidr_v6` gives each
    /// node a part of it.
    pub cluster_cidr_v6: Option<String>,
    /// Service addresses.
    pub service_cidr: String,
    /// The same for IPv6 (`fd00:96::/112`, at most 20 bits of places); services have no such addresses where absent.
    pub service_cidr_v6: Option<String>,
    /// Address where the service proxy answers `/healthz` and `/livez` as kube-proxy does, plain HTTP; with port 0 nowhere.
    pub proxy_healthz_listen: SocketAddr,
    /// What a pod sends must bear its own addresses, or is dropped. Not for pods that pass on what others send.
    pub check_sources: bool,
    /// Bytes; the MTU of the default route's link where absent.
    pub mtu: Option<u32>,
    /// Pods of other nodes are reached by routes to those nodes, as far as the cluster tells who has which range. They
    /// must share a link with this one.
    pub node_routes: bool,
    /// Where addresses are booked; `DATA_DIR/network` where absent. All processes that share a bridge share it.
    pub dir: Option<PathBuf>,
    /// Pods are attached by CNI plugins, configured in this directory; the built-in bridge where absent.
    pub cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are found, in this order.
    pub cni_bin_dirs: Vec<PathBuf>,
}

impl NetworkConfig {
    /// The ranges of services, as an API server takes them.
    pub fn service_cidrs(&self) -> String {
        match &self.service_cidr_v6 {
            Some(second) => format!("{},{second}", self.service_cidr),
            None => self.service_cidr.clone(),
        }
    }

    /// The ranges of pods, as a control plane gives nodes their parts of. A node that has an IPv6 range of its own is given
    /// none.
    pub fn cluster_cidrs(&self) -> String {
        match self.cluster_cidr_v6.as_ref().filter(|_| self.pod_cidr_v6.is_none()) {
            Some(second) => format!("{},{second}", self.cluster_cidr),
            None => self.cluster_cidr.clone(),
        }
    }

    /// Addresses of version 6 of all pods of the cluster.
    pub fn second_cluster(&self) -> Option<String> {
        self.cluster_cidr_v6.clone().or_else(|| self.pod_cidr_v6.clone())
    }

    /// Name of the nftables table that holds the rules of services.
    pub fn services_table(&self) -> String {
        format!("{}-services", self.table)
    }

    /// Name of the nftables table that holds the rules of network policies.
    pub fn policies_table(&self) -> String {
        format!("{}-policies", self.table)
    }
}

/// Memory and inodes as a kubelet has them. Its tenth and seventh of the disk would call a large, shared disk with tens
/// of gigabytes left short, so space is an amount here. Process ids it leaves unguarded, but a node without any left
/// cannot even be repaired.
const EVICTION_HARD: [(&str, &str); 6] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "1Gi"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "2Gi"),
    ("imagefs.inodesFree", "5%"),
    ("pid.available", "1%"),
];

/// The kubelet half.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubeletConfig {
    /// Address of the kubelet API (logs, exec, metrics).
    pub listen: SocketAddr,
    /// Port, at the same address, on which everybody may read pods, statistics and metrics over plain HTTP; 0 is none.
    pub read_only_port: u16,
    /// Pods' volumes and the sockets of plugins; `DATA_DIR/kubelet` where absent. Plugins made for a kubelet expect
    /// `/var/lib/kubelet`.
    pub root_dir: Option<PathBuf>,
    /// Static pods are read from here.
    pub manifests: Option<PathBuf>,
    /// Static pods are asked for here, every 20 seconds.
    pub manifest_url: Option<String>,
    /// Headers of that request, as `NAME: VALUE`.
    pub manifest_url_headers: Vec<String>,
    /// Address that the node reports and that pods see as `status.hostIP`; found by the default route where absent.
    pub node_ip: Option<IpAddr>,
    /// Its IPv6 address beside that, where pods have both families: other nodes reach the pods' IPv6 side by it.
    pub node_ip_v6: Option<Ipv6Addr>,
    /// Labels that the node gives itself.
    pub node_labels: BTreeMap<String, String>,
    /// Taints that a new node registers with, as `KEY=VALUE:EFFECT` or `KEY:EFFECT`.
    pub register_with_taints: Vec<String>,
    /// Who signs the certificates of those who may use the kubelet API (PEM); the cluster's own CA where absent.
    pub client_ca_file: Option<PathBuf>,
    /// Certificate chain of the kubelet API (PEM); self-signed where absent.
    pub tls_cert_file: Option<PathBuf>,
    /// Its key (PEM).
    pub tls_private_key_file: Option<PathBuf>,
    /// Name servers written into pods; the bridge's own address (where our DNS answers) where empty.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Most pods this node takes.
    pub max_pods: u32,
    /// Cgroup under which `kubepods` is made, relative to each hierarchy's root.
    pub cgroup_root: String,
    /// A container's log is rotated when it has so many bytes.
    pub container_log_max_bytes: u64,
    /// Log files kept per container, the current one included; at least 2.
    pub container_log_max_files: usize,
    /// Seconds between two looks at the sizes of logs.
    pub container_log_monitor_seconds: u64,
    /// Below what a pod is evicted at once: `memory.available`, `nodefs.available`, `nodefs.inodesFree`,
    /// `imagefs.available`, `imagefs.inodesFree` and `pid.available` to a quantity or a percentage.
    pub eviction_hard: BTreeMap<String, String>,
    /// The same, but only after the time in `eviction_soft_grace_period`.
    pub eviction_soft: BTreeMap<String, String>,
    /// How long a soft threshold must be met, such as `90s`.
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    /// How much more than its threshold must be there again before eviction ends, such as `500Mi`.
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    /// Most seconds that a pod gets to end that is evicted for a soft threshold.
    pub eviction_max_pod_grace_period_seconds: u64,
    /// Seconds for which a pressure condition stays after its cause has gone.
    pub eviction_pressure_transition_seconds: u64,
    /// Seconds between two looks at what is left of memory, disk and process ids.
    pub eviction_monitor_seconds: u64,
    /// Percent of the disk from which on unused images are removed.
    pub image_gc_high_threshold_percent: u64,
    /// Percent of the disk down to which unused images are removed.
    pub image_gc_low_threshold_percent: u64,
    /// No image is removed while so many bytes are free, whatever the percentage.
    pub image_gc_free_bytes: u64,
    /// Seconds for which a new image is safe from removal.
    pub image_minimum_gc_age_seconds: u64,
    /// Seconds after which an image that nobody uses is removed, however much room there is; 0 for never.
    pub image_maximum_gc_age_seconds: u64,
    /// Sysctls that pods may set beside the safe ones; a trailing `*` stands for any rest.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Containers without a seccomp profile get the runtime's default one instead of none.
    pub seccomp_default: bool,
    /// Keep for pods the memory they request (`memory.min`) and slow containers down before they reach their limits
    /// (`memory.high`), where cgroup version 2 has the memory controller: a kubelet's feature gate `MemoryQoS`.
    pub memory_qos: bool,
    /// Where between a container's request and its limit (or the node's memory) it is slowed down; above 0, at most 1.
    pub memory_throttling_factor: f64,
    /// Amounts of `cpu`, `memory` and `ephemeral-storage` that the system's own services need.
    pub system_reserved: BTreeMap<String, String>,
    /// The same for this agent and what belongs to it.
    pub kube_reserved: BTreeMap<String, String>,
    /// `static` gives containers of Guaranteed pods that ask for whole processors these for themselves; `none` does not.
    pub cpu_manager_policy: String,
    /// Processors that no container has for itself, such as `0-1`; as many as are reserved where absent.
    pub reserved_system_cpus: Option<String>,
    /// Most processes of one pod; as many as the node has where absent.
    pub pod_pids_limit: Option<u64>,
    /// Seconds that pods get to end when the machine goes down: when logind says so, which then waits for them; where there
    /// is no logind, when the agent is told to end (SIGTERM). 0 leaves them running.
    pub shutdown_grace_period_seconds: u64,
    /// The part of them that is kept for critical pods.
    pub shutdown_grace_period_critical_pods_seconds: u64,
    /// The socket of the system's message bus, over which logind is asked.
    pub system_bus: PathBuf,
    /// Ask the cluster for the certificate of the kubelet API (somebody has to approve the request) instead of showing
    /// a self-signed one.
    pub server_tls_bootstrap: bool,
}

impl KubeletConfig {
    /// When pods and images have to go; the error names the key.
    pub fn pressure(&self) -> Result<pressure::Settings, String> {
        let texts = pressure::Texts {
            hard: &self.eviction_hard,
            soft: &self.eviction_soft,
            grace: &self.eviction_soft_grace_period,
            reclaim: &self.eviction_minimum_reclaim,
        };
        if self.image_gc_low_threshold_percent >= self.image_gc_high_threshold_percent {
            return Err("image_gc_low_threshold_percent must be below image_gc_high_threshold_percent".into());
        }
        Ok(pressure::Settings {
            thresholds: pressure::parse(texts)?,
            soft_grace: Duration::from_secs(self.eviction_max_pod_grace_period_seconds),
            period: Duration::from_secs(self.eviction_monitor_seconds.max(1)),
            transition: Duration::from_secs(self.eviction_pressure_transition_seconds),
            image_high: self.image_gc_high_threshold_percent,
            image_low: self.image_gc_low_threshold_percent,
            image_free: self.image_gc_free_bytes,
            image_age: Duration::from_secs(self.image_minimum_gc_age_seconds),
            image_end: pressure::image_end(self)?,
        })
    }

    /// How pods end with the machine; the error names the key.
    pub fn shutdown_grace(&self) -> Result<Grace, String> {
        let (total, critical) =
            (self.shutdown_grace_period_seconds, self.shutdown_grace_period_critical_pods_seconds);
        if critical > total {
            return Err(
                "shutdown_grace_period_critical_pods_seconds must not be above shutdown_grace_period_seconds"
                    .into(),
            );
        }
        Ok(Grace { total: Duration::from_secs(total), critical: Duration::from_secs(critical) })
    }

    /// What the node keeps for itself; the error names the key.
    pub fn reserved(&self) -> Result<Amounts, String> {
        let mut all = Amounts::new();
        for (key, amounts) in
            [("system_reserved", &self.system_reserved), ("kube_reserved", &self.kube_reserved)]
        {
            for (resource, text) in amounts {
                if !["cpu", "memory", "ephemeral-storage"].contains(&resource.as_str()) {
                    return Err(format!("{key}: {resource} cannot be reserved"));
                }
                let amount = Quantity(text.clone());
                let milli = resources::milli(&amount).filter(|milli| *milli >= 0);
                let milli = milli.ok_or_else(|| format!("{key}.{resource}: \"{text}\" is not an amount"))?;
                let before = all.get(resource).and_then(resources::milli).unwrap_or(0);
                all.insert(resource.clone(), Quantity(format!("{}m", before.saturating_add(milli))));
            }
        }
        Ok(all)
    }

    /// What a new node registers with; the error names the key.
    pub fn taints(&self) -> Result<Vec<Taint>, String> {
        let wrong = |text: &str| {
            format!(
                "register_with_taints: \"{text}\" is not KEY=VALUE:EFFECT (NoSchedule, PreferNoSchedule, NoExecute)"
            )
        };
        let parse = |text: &String| {
            let (who, effect) = text.rsplit_once(':').ok_or_else(|| wrong(text))?;
            let (key, value) = who.split_once('=').unwrap_or((who, ""));
            let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect);
            if key.is_empty() || !known {
                return Err(wrong(text));
            }
            let value = Some(value.to_owned()).filter(|value| !value.is_empty());
            Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
        };
        self.register_with_taints.iter().map(parse).collect()
    }

    /// When and how far logs are rotated.
    pub fn log_limits(&self) -> Limits {
        Limits {
            size: self.container_log_max_bytes.max(1),
            files: self.container_log_max_files.max(2),
            period: Duration::from_secs(self.container_log_monitor_seconds.max(1)),
        }
    }
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
            metrics_listen: None,
            runtimes: BTreeMap::new(),
            clamp_denied_limits: true,
            systemd_cgroup: false,
            monitor_cgroup: "/knarr-monitors".into(),
            registry_hosts_dir: "/etc/knarr/hosts.d".into(),
            cdi_spec_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            on_exit: Vec::new(),
            volatile: false,
            container_id: None,
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            bridge: "knarr0".into(),
            table: "knarr".into(),
            pod_cidr: "10.42.0.0/24".into(),
            pod_cidr_v6: None,
            cluster_cidr: "10.42.0.0/16".into(),
            cluster_cidr_v6: None,
            service_cidr: "10.96.0.0/16".into(),
            service_cidr_v6: None,
            proxy_healthz_listen: (Ipv4Addr::UNSPECIFIED, 10256).into(),
            check_sources: true,
            mtu: None,
            node_routes: true,
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
            check_sources: false,
            node_routes: false,
            ..Self::default()
        }
    }
}

impl Default for KubeletConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 10250).into(),
            read_only_port: 0,
            root_dir: None,
            manifests: None,
            manifest_url: None,
            manifest_url_headers: Vec::new(),
            node_ip: None,
            node_ip_v6: None,
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            client_ca_file: None,
            tls_cert_file: None,
            tls_private_key_file: None,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            max_pods: 110,
            cgroup_root: "/".into(),
            container_log_max_bytes: 10 << 20,
            container_log_max_files: 5,
            container_log_monitor_seconds: 10,
            eviction_hard: EVICTION_HARD.map(|(signal, amount)| (signal.into(), amount.into())).into(),
            eviction_soft: BTreeMap::new(),
            eviction_soft_grace_period: BTreeMap::new(),
            eviction_minimum_reclaim: BTreeMap::new(),
            eviction_max_pod_grace_period_seconds: 0,
            eviction_pressure_transition_seconds: 300,
            eviction_monitor_seconds: 10,
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            image_gc_free_bytes: 10 << 30,
            image_minimum_gc_age_seconds: 120,
            image_maximum_gc_age_seconds: 0,
            allowed_unsafe_sysctls: Vec::new(),
            seccomp_default: false,
            memory_qos: false,
            memory_throttling_factor: 0.9,
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            cpu_manager_policy: "none".into(),
            reserved_system_cpus: None,
            pod_pids_limit: None,
            shutdown_grace_period_seconds: 0,
            shutdown_grace_period_critical_pods_seconds: 0,
            system_bus: "/run/dbus/system_bus_socket".into(),
            server_tls_bootstrap: false,
        }
    }
}

impl Config {
    /// Where addresses of pods are booked.
    pub fn network_dir(&self) -> PathBuf {
        self.network.dir.clone().unwrap_or_else(|| self.data_dir.join("network"))
    }

    /// The kubelet half's own directory.
    pub fn kubelet_dir(&self) -> PathBuf {
        self.kubelet.root_dir.clone().unwrap_or_else(|| self.data_dir.join("kubelet"))
    }

    /// The CRI socket.
    pub fn cri_socket(&self) -> PathBuf {
        self.engine.listen.clone().unwrap_or_else(|| self.state_dir.join("cri.sock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_amounts_add_up_and_errors_name_the_key() {
        let map = |name: &str, text: &str| BTreeMap::from([(name.to_string(), text.to_string())]);
        let config = |system, kube| KubeletConfig {
            system_reserved: system,
            kube_reserved: kube,
            ..Default::default()
        };
        let all = config(map("cpu", "1"), map("cpu", "250m")).reserved().unwrap();
        assert_eq!(resources::milli(&all["cpu"]), Some(1250));
        let error = config(map("cpu", "much"), BTreeMap::new()).reserved().unwrap_err();
        assert!(error.contains("system_reserved.cpu"), "{error}");
        assert!(config(BTreeMap::new(), map("pods", "1")).reserved().unwrap_err().contains("kube_reserved"));
        let tainted = |text: &str| {
            KubeletConfig { register_with_taints: vec![text.into()], ..Default::default() }.taints()
        };
        let taint = tainted("a/b=c:NoSchedule").unwrap().remove(0);
        assert_eq!((taint.key.as_str(), taint.value.as_deref()), ("a/b", Some("c")));
        assert_eq!(tainted("a:NoExecute").unwrap()[0].value, None);
        for wrong in ["a", "a=b", ":NoExecute", "a:Never"] {
            assert!(tainted(wrong).unwrap_err().contains("register_with_taints"), "{wrong}");
        }
        let grace = KubeletConfig { shutdown_grace_period_critical_pods_seconds: 1, ..Default::default() };
        assert!(grace.shutdown_grace().unwrap_err().contains("shutdown_grace_period"));
    }
}

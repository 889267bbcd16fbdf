//! The kubelet half: pods from a cluster or a directory, kept as they should be through the CRI traits.
//!
//! Reading order. What a pod is: `pod`, `resources`, `facts`, `env`, `dns`, `security`. What the runtime shows:
//! `observed`, `pleg`. What to do about the difference, purely: `plan`; how it looks from outside: `status`. Doing
//! it: `act`, driven by one `pod_worker` per pod. Around them: `pods` (which workers there are), `pod_source` (which
//! pods there should be), `probes`, `volumes`, `images`, `events`, and the node itself (`machine`, `node_object`,
//! `node_status`).
//!
//! Nothing here knows the engine: a runtime is whatever implements the two traits of `knarr-cri`, and a cluster is
//! whatever a `kube::Client` reaches.

pub mod act;
pub mod admission;
pub mod api_server;
pub mod backoff;
pub mod cluster_objects;
pub mod container_config;
pub mod cpus;
pub mod csi;
pub mod devices;
pub mod dns;
pub mod env;
pub mod events;
pub mod facts;
pub mod hooks;
pub mod host;
pub mod hosts_file;
pub mod http_call;
pub mod images;
pub mod iscsi;
pub mod labels;
pub mod local_volumes;
pub mod log_files;
pub mod log_rotation;
pub mod machine;
pub mod memory_qos;
pub mod node_events;
pub mod node_object;
pub mod node_status;
pub mod observed;
pub mod paths;
pub mod plan;
pub mod pleg;
pub mod pod;
pub mod pod_cgroup;
pub mod pod_resources;
pub mod pod_source;
pub mod pod_worker;
pub mod pods;
pub mod pressure;
pub mod probes;
pub mod program;
pub mod qos_cgroups;
pub mod references;
pub mod resources;
pub mod sandbox_config;
pub mod security;
pub mod serving_certificate;
pub mod shutdown;
pub mod simulate;
pub mod simulated_runtime;
pub mod status;
pub mod status_writer;
pub mod termination_message;
pub mod user_namespaces;
pub mod volumes;
mod watches;

use crate::config::Config;
use crate::policies::LocalPods;
use admission::NodeLimits;
use cpus::Cpus;
use csi::Csi;
use devices::Devices;
use events::{Recorder, Severity};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use host::{CALL_DEADLINE, Host, within};
use k8s_openapi::api::core::v1::{Node, Service};
use knarr_cri::v1::{StatusRequest, VersionRequest};
use knarr_cri::{ImageService, RuntimeService};
use kube::runtime::reflector;
use machine::Machine;
use memory_qos::MemoryQos;
use node_object::Identity;
use node_status::NodeWriter;
use paths::Paths;
use pleg::Pleg;
use pod_resources::Resources;
use pod_source::manifest_url::ManifestUrl;
use pod_source::manifests::{LocalObjects, ManifestDirectory};
use pod_source::{Origin, cluster};
use pods::{Inputs, Manager, Workers};
use pressure::Guard;
use probes::ProbeCounts;
use shutdown::{Ending, Places};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use user_namespaces::UserNamespaces;

/// Pulls under way at once on one node.
const PARALLEL_PULLS: usize = 5;
/// How long the first pods wait for the cluster to give this node its range of addresses.
const POD_CIDR_PATIENCE: Duration = Duration::from_secs(5);
/// How long stopping every pod may take beyond their grace periods.
const STOP_DEADLINE: Duration = Duration::from_secs(120);

/// What a kubelet is made of.
pub struct Parts {
    #[allow(missing_docs)]
    pub config: Arc<Config>,
    /// Of the Node object.
    pub node_name: String,
    #[allow(missing_docs)]
    pub client: Option<kube::Client>,
    #[allow(missing_docs)]
    pub runtime: Arc<dyn RuntimeService>,
    #[allow(missing_docs)]
    pub images: Arc<dyn ImageService>,
    /// What the node says it has.
    pub machine: Machine,
    /// Port of the kubelet API, as the Node object tells it.
    pub port: u16,
    /// Filled with a worker per pod.
    pub workers: Workers,
    /// Containers, files and cgroups are imaginary.
    pub imaginary: bool,
    /// Filled with the results of probes.
    pub probe_counts: ProbeCounts,
    /// Told of the pods of this node, where network policies are ours.
    pub policies: Option<LocalPods>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// A running kubelet.
pub struct Kubelet {
    workers: Workers,
    ending: Arc<Ending>,
    ready: watch::Receiver<bool>,
    pod_cidr: watch::Receiver<Option<String>>,
    object: watch::Receiver<Option<Arc<Node>>>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Kubelet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubelet").field("ending", &self.ending).finish_non_exhaustive()
    }
}

impl Kubelet {
    /// Starts every task of a kubelet.
    pub async fn start(parts: Parts) -> anyhow::Result<Kubelet> {
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        let recorder = Recorder::start(parts.client.clone(), &parts.node_name, shutdown.clone());
        let version =
            within(CALL_DEADLINE, parts.runtime.version(VersionRequest { version: "0.1.0".into() })).await;
        let version = version.map_err(|status| anyhow::anyhow!("container runtime: {}", status.message()))?;
        let abilities = Abilities::of(&*parts.runtime).await;
        let identity = identity(&parts, format!("{}://{}", version.runtime_name, version.runtime_version))?;
        let (changed, changes) = mpsc::unbounded_channel();
        let pleg = Pleg::start(parts.runtime.clone(), changed, shutdown.clone());
        let (set_ready, ready) = watch::channel(false);
        let (set_pod_cidr, pod_cidr) = watch::channel(None);
        let (conditions, pressure) = watch::channel(pressure::Conditions::default());
        let wrong = |error: String| anyhow::anyhow!("kubelet.{error}");
        let grace = parts.config.kubelet.shutdown_grace().map_err(wrong)?;
        let ending = Ending::new(parts.workers.clone(), parts.client.clone(), grace);
        let going = ending.going_down();
        let settings = parts.config.kubelet.pressure().map_err(wrong)?;
        let devices = Devices::load(&parts.config.kubelet_dir());
        let node = watches::own_node(&parts, &shutdown, &tasks);
        let writer = NodeWriter {
            object: node.clone(),
            client: parts.client.clone(),
            identity: identity.clone(),
            runtime: parts.runtime.clone(),
            images: parts.images.clone(),
            recorder: recorder.clone(),
            pleg: pleg.clone(),
            ready: set_ready,
            pod_cidr: set_pod_cidr,
            pressure: pressure.clone(),
            shutting_down: going.clone(),
            offered: devices.offered(),
        };
        tasks.spawn(shutdown.clone().run_until_cancelled_owned(writer.run()));
        recorder.node(&parts.node_name, Severity::Normal, "Starting", "Starting kubelet.");
        let local = Arc::new(LocalObjects::default());
        let services = watches::services(parts.client.clone(), &shutdown, &tasks);
        let host = host(
            &parts,
            &identity,
            version.runtime_name,
            recorder,
            local.clone(),
            services,
            pod_cidr.clone(),
        )?;
        let csi = Csi::new(&parts.config.kubelet_dir(), parts.client.clone(), &parts.node_name, node.clone());
        let recursive_read_only = abilities.recursive_read_only;
        let host = Host { recursive_read_only, pressure, shutting_down: going, devices, node, csi, ..host };
        let limits = NodeLimits {
            name: parts.node_name.clone(),
            allocatable: host.allocatable.clone(),
            labels: node_object::labels(&identity),
            taints: identity.taints.clone(),
            strict_groups: abilities.strict_groups || parts.imaginary,
            unsafe_sysctls: parts.config.kubelet.allowed_unsafe_sysctls.clone(),
        };
        if !parts.imaginary {
            side_tasks(&parts, &host, (settings, conditions), &shutdown, &tasks);
            let places = Places::usual(&parts.config.kubelet.system_bus);
            tasks.spawn(shutdown.clone().run_until_cancelled_owned(ending.clone().guard(places)));
        }
        let (sources, events) = mpsc::unbounded_channel();
        let object = host.node.clone();
        let seen = (pod_cidr.clone(), object.clone());
        let origins = start_sources(&parts, local, sources, seen, &shutdown, &tasks)?;
        let workers = parts.workers.clone();
        let manager = Manager::new(Arc::new(host), pleg, limits, origins, workers.clone());
        let inputs = Inputs { sources: events, changed: changes, shutdown: shutdown.clone() };
        tasks.spawn(manager.run(inputs));
        tasks.close();
        Ok(Kubelet { workers, ending, ready, pod_cidr, object, shutdown, tasks })
    }

    /// Every pod of this node with its present status.
    pub fn workers(&self) -> Workers {
        self.workers.clone()
    }

    /// The range of this node's pods, once the cluster has given one.
    pub fn pod_cidr(&self) -> watch::Receiver<Option<String>> {
        self.pod_cidr.clone()
    }

    /// Returns when the node is ready and, in a cluster, says so.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let mut ready = self.ready.clone();
        ready.wait_for(|ready| *ready).await?;
        Ok(())
    }

    /// The Node object as the cluster has it, once it was seen.
    pub(crate) fn object(&self) -> watch::Receiver<Option<Arc<Node>>> {
        self.object.clone()
    }

    /// Ends every task. Pods go on, unless `stop_pods`, or when the settings say that the machine goes down with the
    /// agent.
    pub async fn shutdown(self, stop_pods: bool) -> anyhow::Result<()> {
        let stopped = if stop_pods {
            pods::stop_all(&self.workers, STOP_DEADLINE).await
        } else {
            self.ending.with_agent().await
        };
        self.shutdown.cancel();
        self.tasks.wait().await;
        stopped.map_err(anyhow::Error::msg)
    }
}

/// What a real node does beside its pods.
fn side_tasks(
    parts: &Parts,
    host: &Host,
    (settings, conditions): (pressure::Settings, watch::Sender<pressure::Conditions>),
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) {
    let spawn = |task: BoxFuture<'static, ()>| {
        tasks.spawn(shutdown.clone().run_until_cancelled_owned(task));
    };
    let (devices, cpus) = (host.devices.clone(), host.cpus.clone());
    let resources =
        Resources { workers: parts.workers.clone(), devices: devices.clone(), cpus: cpus.clone() };
    spawn(resources.run(parts.config.kubelet_dir()).boxed());
    spawn(devices.run().boxed());
    spawn(host.csi.clone().run().boxed());
    spawn(cpus.run(parts.runtime.clone()).boxed());
    spawn(log_rotation::run(parts.runtime.clone(), parts.config.kubelet.log_limits()).boxed());
    if let Some(client) = parts.client.clone() {
        let directory = volumes_dir(&parts.config);
        spawn(local_volumes::run(client, parts.node_name.clone(), directory).boxed());
    }
    spawn(guard(parts, settings, host.recorder.clone(), conditions).run().boxed());
}

/// Where the cluster may make volumes on this node.
fn volumes_dir(config: &Config) -> PathBuf {
    config.data_dir.join("volumes")
}

fn guard(
    parts: &Parts,
    settings: pressure::Settings,
    recorder: Recorder,
    conditions: watch::Sender<pressure::Conditions>,
) -> Guard {
    let data_dir = parts.config.data_dir.clone();
    Guard {
        settings,
        runtime: parts.runtime.clone(),
        images: parts.images.clone(),
        workers: parts.workers.clone(),
        recorder,
        node_name: parts.node_name.clone(),
        images_dir: data_dir.join("images"),
        paths: Paths::new(&parts.config.kubelet_dir(), &parts.config.pod_logs_dir),
        data_dir,
        conditions,
    }
}

/// What the runtime says of itself and its default handler.
#[derive(Debug, Clone, Copy)]
struct Abilities {
    recursive_read_only: bool,
    /// Containers may be in the groups of their pod alone.
    strict_groups: bool,
}

impl Abilities {
    /// A runtime that does not answer can do nothing, and is asked again by nobody.
    async fn of(runtime: &dyn RuntimeService) -> Abilities {
        let answer = within(CALL_DEADLINE, runtime.status(StatusRequest { verbose: false })).await;
        let answer = answer.unwrap_or_default();
        let default = answer.runtime_handlers.iter().find(|handler| handler.name.is_empty());
        let features = default.and_then(|handler| handler.features.as_ref());
        Abilities {
            recursive_read_only: features.is_some_and(|features| features.recursive_read_only_mounts),
            strict_groups: answer.features.is_some_and(|features| features.supplemental_groups_policy),
        }
    }
}

fn identity(parts: &Parts, runtime_version: String) -> anyhow::Result<Identity> {
    Ok(Identity {
        name: parts.node_name.clone(),
        host_name: parts.node_name.clone(),
        addresses: machine::addresses(&parts.config).iter().map(ToString::to_string).collect(),
        machine: parts.machine.clone(),
        max_pods: parts.config.kubelet.max_pods,
        labels: parts.config.kubelet.node_labels.clone(),
        taints: parts.config.kubelet.taints().map_err(|error| anyhow::anyhow!("kubelet.{error}"))?,
        reserved: parts.config.kubelet.reserved().map_err(|error| anyhow::anyhow!("kubelet.{error}"))?,
        volumes_dir: volumes_dir(&parts.config),
        port: parts.port,
        runtime_version,
    })
}

fn host(
    parts: &Parts,
    identity: &Identity,
    runtime_name: String,
    recorder: Recorder,
    local: Arc<LocalObjects>,
    services: Option<reflector::Store<Service>>,
    pod_cidr: watch::Receiver<Option<String>>,
) -> anyhow::Result<Host> {
    let config = &parts.config;
    let client = parts.client.clone();
    let objects: Arc<dyn references::ObjectSource> = match client.clone() {
        Some(client) => Arc::new(cluster_objects::ClusterObjects::new(client)),
        None => local,
    };
    let tokens = client.clone().map(|client| {
        let tokens: Arc<dyn volumes::TokenSource> = Arc::new(volumes::ClusterTokens::new(client));
        tokens
    });
    let paths = Paths::new(&config.kubelet_dir(), &config.pod_logs_dir);
    let allocatable = parts.machine.allocatable(config.kubelet.max_pods, &identity.reserved);
    let hierarchies = if parts.imaginary { None } else { Some(class_cgroups(parts, identity)?) };
    let memory_qos = MemoryQos::of(&config.kubelet, &allocatable, hierarchies.as_deref().unwrap_or_default());
    Ok(Host {
        memory_qos: memory_qos.map_err(|error| anyhow::anyhow!("kubelet.{error}"))?,
        devices: Devices::load(&config.kubelet_dir()),
        iscsi: iscsi::Iscsi::new(&config.kubelet_dir()),
        csi: Csi::new(&config.kubelet_dir(), None, &parts.node_name, watch::channel(None).1),
        cpus: match parts.imaginary {
            true => Cpus::none(),
            false => Cpus::load(&config.kubelet, &config.kubelet_dir())?,
        },
        workers: parts.workers.clone(),
        user_namespaces: UserNamespaces::load(paths.clone(), config.kubelet.max_pods),
        pod_pids_limit: config.kubelet.pod_pids_limit,
        shutting_down: watch::channel(false).1,
        runtime: parts.runtime.clone(),
        images: parts.images.clone(),
        recorder,
        paths,
        objects,
        tokens,
        services,
        client,
        node_name: parts.node_name.clone(),
        node: watch::channel(None).1,
        node_ips: identity.addresses.clone(),
        node_memory: i64::try_from(parts.machine.memory)?,
        allocatable,
        name_servers: config.kubelet.cluster_dns.clone(),
        first_pod_cidr: config.network.pod_cidr.clone(),
        pod_cidr,
        cluster_domain: config.kubelet.cluster_domain.clone(),
        cgroup_root: config.kubelet.cgroup_root.clone(),
        hierarchies,
        runtime_name,
        pulls: Semaphore::new(PARALLEL_PULLS),
        recursive_read_only: false,
        pressure: watch::channel(pressure::Conditions::default()).1,
        probe_counts: parts.probe_counts.clone(),
        policies: parts.policies.clone(),
        seccomp_default: config.kubelet.seccomp_default,
        apparmor: parts.machine.apparmor,
    })
}

/// The machine's hierarchies, with the cgroup of all pods made and bounded.
fn class_cgroups(parts: &Parts, identity: &Identity) -> anyhow::Result<Vec<pod_cgroup::Hierarchy>> {
    let (hierarchies, root) = (pod_cgroup::hierarchies()?, &parts.config.kubelet.cgroup_root);
    pod_cgroup::create_parent(&hierarchies, root)?;
    qos_cgroups::bound(&hierarchies, root, &parts.machine.capacity(identity.max_pods), &identity.reserved);
    Ok(hierarchies)
}

/// Starts what tells the manager which pods there should be.
fn start_sources(
    parts: &Parts,
    local: Arc<LocalObjects>,
    events: mpsc::UnboundedSender<pod_source::SourceEvent>,
    (mut pod_cidr, mut own): (watch::Receiver<Option<String>>, watch::Receiver<Option<Arc<Node>>>),
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) -> anyhow::Result<Vec<Origin>> {
    let mut origins = Vec::new();
    if let Some(client) = parts.client.clone() {
        let (node, events) = (parts.node_name.clone(), events.clone());
        let imaginary = parts.imaginary;
        let follow = async move {
            if !imaginary {
                // A cluster without ranges never gives one: its pods' addresses are another component's business.
                let _ = tokio::time::timeout(POD_CIDR_PATIENCE, pod_cidr.wait_for(Option::is_some)).await;
                // Pods are admitted by the labels that the cluster gave this node.
                let _ = tokio::time::timeout(POD_CIDR_PATIENCE, own.wait_for(Option::is_some)).await;
            }
            cluster::watch(client, node, events).await;
        };
        tasks.spawn(shutdown.clone().run_until_cancelled_owned(follow));
        origins.push(Origin::Cluster);
    }
    if let Some(url) = &parts.config.kubelet.manifest_url {
        let source = ManifestUrl::new(url, &parts.config.kubelet.manifest_url_headers, &parts.node_name)?;
        tasks.spawn(shutdown.clone().run_until_cancelled_owned(source.watch(events.clone())));
        // While the server is away nobody knows its pods, and those of other sources must not wait for it; what runs
        // of its pods is not ended meanwhile, because they are not orphans until every source has spoken.
        origins.push(Origin::Url);
    }
    if let Some(directory) = &parts.config.kubelet.manifests {
        let directory = ManifestDirectory::new(directory, &parts.node_name, local);
        tasks.spawn(shutdown.clone().run_until_cancelled_owned(directory.watch(events)));
        origins.push(Origin::Manifests);
    }
    Ok(origins)
}

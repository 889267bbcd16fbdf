//! Keeps the Node object true: registers it, renews its lease, writes its status when something changed and at
//! least every five minutes, and tells the runtime the address range that the cluster gives this node.

use crate::kubelet::devices::Offered;
use crate::kubelet::events::{Recorder, Severity};
use crate::kubelet::host::{CALL_DEADLINE, within};
use crate::kubelet::node_events;
use crate::kubelet::node_object::{self, Health, Identity};
use crate::kubelet::pleg::Pleg;
use crate::kubelet::pressure::Conditions;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use knarr_cri::v1::{
    ListImagesRequest, NetworkConfig, RuntimeConfig, StatusRequest, UpdateRuntimeConfigRequest,
};
use knarr_cri::{ImageService, RuntimeService};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks at the node's health, and between renewals of its lease.
const PERIOD: Duration = Duration::from_secs(10);
/// While the node is not ready yet, so that it becomes so without delay.
const PERIOD_UNREADY: Duration = Duration::from_millis(500);
/// How many shorter rounds a new node waits for its range of addresses.
const ROUNDS_FOR_CIDR: u32 = 8;
/// An unchanged status is written again after this long, in seconds.
const REPORT_SECONDS: i64 = 300;
const LEASE_SECONDS: i32 = 40;
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Writes the Node object of one node.
pub struct NodeWriter {
    #[allow(missing_docs)]
    pub client: Option<kube::Client>,
    #[allow(missing_docs)]
    pub identity: Identity,
    #[allow(missing_docs)]
    pub runtime: Arc<dyn RuntimeService>,
    #[allow(missing_docs)]
    pub images: Arc<dyn ImageService>,
    #[allow(missing_docs)]
    pub pleg: Arc<Pleg>,
    /// What the node is short of.
    pub pressure: watch::Receiver<Conditions>,
    /// The node goes down.
    pub shutting_down: watch::Receiver<bool>,
    /// The object as it is in the cluster.
    pub object: watch::Receiver<Option<Arc<Node>>>,
    /// Devices of plugins.
    pub offered: watch::Receiver<Offered>,
    /// For what changes about the node.
    pub recorder: Recorder,
    /// True once the node is ready (and its object says so).
    pub ready: watch::Sender<bool>,
    /// The range of this node's pods, once the cluster has given one.
    pub pod_cidr: watch::Sender<Option<String>>,
}

impl std::fmt::Debug for NodeWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeWriter").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What the writer remembers between rounds.
#[derive(Default)]
struct Known {
    node: Option<Node>,
    /// The conditions that events have told of.
    told: Vec<NodeCondition>,
    written: Option<NodeStatus>,
    written_at: i64,
    lease: Option<Lease>,
    /// Rounds in which the cluster had given no range of addresses.
    rounds_without_cidr: u32,
}

/// The pause after so many rounds without a range: every other one is twice as long, so that a thousand new nodes which get
/// none do not keep a server busy (15 s in all, then as ever).
fn pause_for_cidr(rounds: u32) -> Duration {
    match rounds {
        0..=ROUNDS_FOR_CIDR => PERIOD_UNREADY * 2_u32.pow(rounds.saturating_sub(1) / 2),
        _ => PERIOD,
    }
}

impl NodeWriter {
    /// Works until it is cancelled.
    pub async fn run(self) {
        let (mut known, mut offered) = (Known::default(), self.offered.clone());
        loop {
            let health = self.health().await;
            let ready = health.not_ready.is_empty();
            let told = match self.client.clone() {
                None => Ok(()),
                Some(client) => {
                    let round = self.round(client, &health, &mut known);
                    tokio::time::timeout(PERIOD, round).await.unwrap_or_else(|_| Err("no answer".to_string()))
                }
            };
            if let Err(error) = &told {
                tracing::warn!("node {}: {error}", self.identity.name);
            }
            let good = ready && told.is_ok();
            self.ready.send_if_modified(|before| std::mem::replace(before, good) != good);
            // The first pods wait for the range of addresses, so it must not be noticed a whole period late.
            let expects_cidr = self.client.is_some() && self.pod_cidr.borrow().is_none();
            known.rounds_without_cidr += u32::from(expects_cidr);
            let pause = match (good, expects_cidr) {
                (false, _) => PERIOD_UNREADY,
                (true, true) => pause_for_cidr(known.rounds_without_cidr),
                (true, false) => PERIOD,
            };
            self.rest(pause, ready, &mut offered).await;
        }
    }

    /// A pause, shorter when there is something that must be told at once: the node goes down, or its devices change.
    async fn rest(&self, pause: Duration, ready: bool, offered: &mut watch::Receiver<Offered>) {
        let mut going = self.shutting_down.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Ok(_) = going.wait_for(|down| *down && ready) => {}
            Ok(()) = offered.changed() => {}
        }
    }

    async fn round(&self, client: kube::Client, health: &Health, known: &mut Known) -> Result<(), String> {
        let nodes: Api<Node> = Api::all(client.clone());
        if known.node.is_none() {
            let (node, new) = self.register(&nodes, health).await.map_err(|error| error.to_string())?;
            known.told = if new { Vec::new() } else { conditions_of(&node) };
            known.node = Some(node);
        }
        let lease = self.renew(client, known).await.map_err(|error| format!("lease: {error}"));
        self.write_status(&nodes, health, known).await.map_err(|error| format!("status: {error}"))?;
        self.restore_labels(&nodes).await.map_err(|error| format!("labels: {error}"))?;
        self.take_pod_cidr(known.node.as_ref()).await;
        lease
    }

    /// Creates the object (true), or takes over the one that is there, keeping what others put into it.
    async fn register(&self, nodes: &Api<Node>, health: &Health) -> Result<(Node, bool), kube::Error> {
        let fresh = node_object::new_node(&self.identity, health, Timestamp::now());
        match nodes.create(&PostParams::default(), &fresh).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let (labels, annotations) =
                    (node_object::labels(&self.identity), node_object::annotations(&self.identity));
                let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
                let patched =
                    nodes.patch(&self.identity.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
                patched.map(|node| (node, false))
            }
            other => other.map(|node| (node, true)),
        }
    }

    async fn restore_labels(&self, nodes: &Api<Node>) -> Result<(), kube::Error> {
        let object = self.object.borrow().clone();
        let labels = object.map(|node| node_object::lost_labels(&self.identity, &node)).unwrap_or_default();
        if labels.is_empty() {
            return Ok(());
        }
        let patch = Patch::Strategic(json!({"metadata": {"labels": labels}}));
        nodes.patch(&self.identity.name, &PatchParams::default(), &patch).await.map(drop)
    }

    /// Tells what has changed since it was told last.
    fn tell(&self, now: Vec<NodeCondition>, known: &mut Known) {
        let name = &self.identity.name;
        for reason in node_events::reasons(&known.told, &now) {
            let text = format!("Node {name} status is now: {reason}");
            self.recorder.node(name, Severity::Normal, reason, text);
        }
        known.told = now;
    }

    async fn write_status(
        &self,
        nodes: &Api<Node>,
        health: &Health,
        known: &mut Known,
    ) -> Result<(), kube::Error> {
        let now = Timestamp::now();
        let present = known.node.as_ref().and_then(|node| node.status.as_ref());
        let previous: &[NodeCondition] =
            present.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let status = node_object::status(&self.identity, health, previous, now);
        let due = now.as_second() - known.written_at >= REPORT_SECONDS;
        let waits = self.pod_cidr.borrow().is_none() && known.rounds_without_cidr <= ROUNDS_FOR_CIDR;
        if !due && !waits && known.written.as_ref().is_some_and(|written| same(written, &status)) {
            return Ok(());
        }
        let patch = Patch::Strategic(patch_of(&status));
        match nodes.patch_status(&self.identity.name, &PatchParams::default(), &patch).await {
            Ok(node) => {
                self.tell(status.conditions.clone().unwrap_or_default(), known);
                known.node = Some(node);
                known.written = Some(status);
                known.written_at = now.as_second();
                Ok(())
            }
            Err(error) => {
                if matches!(&error, kube::Error::Api(status) if status.code == 404) {
                    // Somebody deleted the node: it registers again.
                    *known = Known::default();
                }
                Err(error)
            }
        }
    }

    async fn renew(&self, client: kube::Client, known: &mut Known) -> Result<(), kube::Error> {
        let leases: Api<Lease> = Api::namespaced(client, LEASE_NAMESPACE);
        let mut lease = match known.lease.take() {
            Some(lease) => lease,
            None => leases.get_opt(&self.identity.name).await?.unwrap_or_else(|| self.new_lease(known)),
        };
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(self.identity.name.clone());
        spec.lease_duration_seconds = Some(LEASE_SECONDS);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        // A conflict leaves no lease known, so the next round reads it again.
        known.lease = Some(if lease.metadata.resource_version.is_some() {
            leases.replace(&self.identity.name, &PostParams::default(), &lease).await?
        } else {
            leases.create(&PostParams::default(), &lease).await?
        });
        Ok(())
    }

    fn new_lease(&self, known: &Known) -> Lease {
        let owner =
            known.node.as_ref().and_then(|node| node.metadata.uid.clone()).map(|uid| OwnerReference {
                api_version: "v1".to_string(),
                kind: "Node".to_string(),
                name: self.identity.name.clone(),
                uid,
                ..Default::default()
            });
        Lease {
            metadata: ObjectMeta {
                name: Some(self.identity.name.clone()),
                namespace: Some(LEASE_NAMESPACE.to_string()),
                owner_references: owner.map(|owner| vec![owner]),
                ..Default::default()
            },
            spec: Some(LeaseSpec::default()),
        }
    }

    async fn take_pod_cidr(&self, node: Option<&Node>) {
        let Some(given) = node.and_then(given_ranges) else { return };
        if self.pod_cidr.borrow().as_ref() == Some(&given) {
            return;
        }
        // A runtime that wants no second family takes the first.
        let first = given.split(',').next().unwrap_or_default();
        for cidr in if first == given { vec![first] } else { vec![&given, first] } {
            let network_config = Some(NetworkConfig { pod_cidr: cidr.to_owned() });
            let request =
                UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config }) };
            match within(CALL_DEADLINE, self.runtime.update_runtime_config(request)).await {
                Ok(_) => return drop(self.pod_cidr.send_replace(Some(given.clone()))),
                Err(status) => tracing::warn!("podCIDR {cidr}: {}", status.message()),
            }
        }
    }

    async fn health(&self) -> Health {
        let mut health = Health::default();
        match within(CALL_DEADLINE, self.runtime.status(StatusRequest { verbose: false })).await {
            Ok(answer) => {
                for condition in answer.status.unwrap_or_default().conditions.iter().filter(|c| !c.status) {
                    health.not_ready.push(match condition.r#type.as_str() {
                        "NetworkReady" => format!(
                            "container runtime network not ready: NetworkReady=false reason:{} message:{}",
                            condition.reason, condition.message
                        ),
                        kind => format!(
                            "container runtime not ready: {kind}=false reason:{} message:{}",
                            condition.reason, condition.message
                        ),
                    });
                }
                health.handlers = answer.runtime_handlers;
                health.features = answer.features;
            }
            Err(status) => health.not_ready.push(format!("container runtime is down: {}", status.message())),
        }
        health.not_ready.extend(self.pleg.unhealthy());
        health.not_ready.extend(self.shutting_down.borrow().then(|| "node is shutting down".to_string()));
        let images = within(CALL_DEADLINE, self.images.list_images(ListImagesRequest::default())).await;
        health.images = images.map(|answer| answer.images).unwrap_or_default();
        let short = *self.pressure.borrow();
        health.memory_pressure = short.memory;
        health.disk_pressure = short.disk;
        health.devices = self.offered.borrow().clone();
        health.pid_pressure = short.pids;
        health
    }
}

fn conditions_of(node: &Node) -> Vec<NodeCondition> {
    node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default()
}

/// Equal but for heartbeats.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    still(a) == still(b)
}

/// The ranges that the cluster gives the pods of a node, IPv4 first, as runtimes are told them.
fn given_ranges(node: &Node) -> Option<String> {
    let spec = node.spec.as_ref()?;
    let mut all: Vec<&str> = spec.pod_cidrs.iter().flatten().map(String::as_str).collect();
    all.sort_by_key(|cidr| cidr.contains(':'));
    let all = all.join(",");
    if all.is_empty() { spec.pod_cidr.clone().filter(|cidr| !cidr.is_empty()) } else { Some(all) }
}

/// Addresses are merged by their kind: where two are of one kind, the list is given as a whole.
fn patch_of(status: &NodeStatus) -> Value {
    let mut patch = json!({"status": status});
    let kinds: Vec<&str> = status.addresses.iter().flatten().map(|one| one.type_.as_str()).collect();
    let twice = kinds.iter().enumerate().any(|(at, kind)| kinds[..at].contains(kind));
    if let Some(addresses) = patch["status"]["addresses"].as_array_mut().filter(|_| twice) {
        addresses.push(json!({"$patch": "replace"}));
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_waited_for_ever_less_often() {
        let pauses: Vec<u64> = (1..=10)
            .map(|rounds| pause_for_cidr(rounds).as_millis().try_into().unwrap_or_default())
            .collect();
        assert_eq!(pauses, [500, 500, 1000, 1000, 2000, 2000, 4000, 4000, 10_000, 10_000]);
    }
}

//! Volumes of storage drivers are plugged into the node of the first pod that needs them there, and unplugged after the
//! last: a VolumeAttachment says what is wanted, the driver's own attacher does it and reports. What is plugged in is told
//! to the node in its status, and nothing is taken away that the node still says it uses.

mod plan;

use super::events::{Recorder, Severity};
use super::informer::{Key, Lister};
use super::pods;
use super::runner::{Next, Reconcile, ignore_not_found, is_conflict};
use super::wiring::{Plane, Task, WORKERS, Wire};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use plan::{Step, Volume};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A volume that a node still uses is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A node that has failed cannot say that it lets go: after this it is not asked any more.
const FORCE_AFTER: Duration = Duration::from_secs(360);

/// Pods with claims, by the node they are on.
#[derive(Default)]
struct Users(Mutex<HashMap<String, BTreeSet<Key>>>);

impl Users {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, BTreeSet<Key>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows one pod; the nodes that are concerned.
    fn follow(&self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) -> BTreeSet<String> {
        let place = |pod: Option<&Arc<Pod>>| {
            let pod = pod.filter(|pod| pods::claims(pod).next().is_some())?;
            Some((pods::node_of(pod)?.to_owned(), Key::of(&**pod)))
        };
        let (before, after) = (place(old), place(new));
        let mut users = self.lock();
        if let Some((node, key)) = &before
            && let Some(keys) = users.get_mut(node)
        {
            keys.remove(key);
            if keys.is_empty() {
                users.remove(node);
            }
        }
        if let Some((node, key)) = &after {
            users.entry(node.clone()).or_default().insert(key.clone());
        }
        before.into_iter().chain(after).map(|(node, _)| node).collect()
    }

    fn on(&self, node: &str) -> Vec<Key> {
        self.lock().get(node).into_iter().flatten().cloned().collect()
    }

    /// Nodes with pods of a namespace: where a claim of it may be in use.
    fn nodes_of(&self, namespace: &str) -> Vec<String> {
        let users = self.lock();
        let concerned = users.iter().filter(|(_, keys)| keys.iter().any(|key| key.namespace == namespace));
        concerned.map(|(node, _)| node.clone()).collect()
    }
}

/// Woken by nodes, by pods with claims on them, by those claims, and by the attachments of the nodes.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("attachdetach", plane);
    let users = Arc::<Users>::default();
    let by_pods = users.clone();
    wire.woken_by::<Pod>(move |old, new, queue| {
        by_pods.follow(old, new).into_iter().for_each(|node| queue.add(Key::new("", &node)));
    });
    let by_claims = users.clone();
    wire.woken_by::<PersistentVolumeClaim>(move |old, new, queue| {
        // A claim may name its volume long before it gets it.
        let bound = |claim: Option<&Arc<PersistentVolumeClaim>>| {
            let phase = claim?.status.as_ref().and_then(|status| status.phase.clone());
            Some((claim?.spec.as_ref()?.volume_name.clone(), phase))
        };
        if bound(old) != bound(new)
            && let Some(claim) = new.or(old)
        {
            let nodes = by_claims.nodes_of(&claim.namespace().unwrap_or_default());
            nodes.into_iter().for_each(|node| queue.add(Key::new("", &node)));
        }
    });
    wire.woken_by::<VolumeAttachment>(|old, new, queue| {
        if let Some(attachment) = new.or(old) {
            queue.add(Key::new("", &attachment.spec.node_name));
        }
    });
    let controller = AttachDetach {
        client: wire.client(),
        nodes: wire.keys(),
        pods: wire.reads(),
        claims: wire.reads(),
        volumes: wire.reads(),
        drivers: wire.reads(),
        attachments: wire.reads(),
        users,
        leaving: Mutex::default(),
        said: Mutex::default(),
        recorder: Recorder::new(wire.client(), "attachdetach-controller"),
    };
    wire.run(WORKERS, controller)
}

struct AttachDetach {
    client: Client,
    nodes: Lister<Node>,
    pods: Lister<Pod>,
    claims: Lister<PersistentVolumeClaim>,
    volumes: Lister<PersistentVolume>,
    drivers: Lister<CSIDriver>,
    attachments: Lister<VolumeAttachment>,
    users: Arc<Users>,
    /// Since when an attachment is to go.
    leaving: Mutex<HashMap<String, Instant>>,
    /// What was last said of an attachment: once is enough.
    said: Mutex<HashMap<String, String>>,
    recorder: Recorder,
}

impl Reconcile for AttachDetach {
    /// Brings the attachments of one node in line with its pods.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let node = self.nodes.get(&key);
        let attachments = self.attachments.all();
        let wanted = self.wanted(&key.name, node.is_some());
        if wanted.is_empty() && !attachments.iter().any(|one| one.spec.node_name == key.name) {
            self.tell_node(node.as_deref(), Vec::new()).await?;
            return Ok(Next::Wait);
        }
        let known = |name: &str| self.volumes.get(&Key::new("", name)).and_then(|volume| Volume::of(&volume));
        let plan = plan::plan(&key.name, node.as_deref(), &wanted, &attachments, known);
        let mut waits = false;
        let mut leaving = Vec::new();
        for step in plan.steps {
            match step {
                Step::Attach(volume) => self.attach(&volume, &key.name).await?,
                Step::Refuse(volume, why) => {
                    self.say(&key.name, &wanted, &volume, Err(why));
                    waits = true;
                }
                Step::Wait(name) if !self.may_force(&name, node.as_deref()) => waits = true,
                Step::Wait(name) | Step::Detach(name) => leaving.push(name),
            }
        }
        for (volume, report) in plan.reports {
            self.say(&key.name, &wanted, &volume, report);
        }
        // First the node is told that they go.
        let gone: BTreeSet<&String> = leaving.iter().collect();
        let attached = plan.attached.into_iter().filter(|(attachment, _)| !gone.contains(attachment));
        self.tell_node(node.as_deref(), attached.map(|(_, name)| name).collect()).await?;
        for name in leaving {
            let api: Api<VolumeAttachment> = Api::all(self.client.clone());
            ignore_not_found(api.delete(&name, &DeleteParams::default()).await)?;
            self.leaving.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            self.said.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        }
        Ok(if waits { Next::After(LOOK_AGAIN) } else { Next::Wait })
    }
}

impl AttachDetach {
    /// What the pods of a node need there, with the pods that need it. A node that is gone needs nothing.
    fn wanted(&self, node: &str, exists: bool) -> BTreeMap<Volume, Vec<Arc<Pod>>> {
        let mut wanted: BTreeMap<Volume, Vec<Arc<Pod>>> = BTreeMap::new();
        let keys = if exists { self.users.on(node) } else { Vec::new() };
        for pod in keys.iter().filter_map(|key| self.pods.get(key)).filter(|pod| !pods::is_terminal(pod)) {
            let namespace = pod.namespace().unwrap_or_default();
            for claim in pods::claims(&pod) {
                if let Some(volume) = self.behind(&Key::new(&namespace, &claim)) {
                    wanted.entry(volume).or_default().push(pod.clone());
                }
            }
        }
        wanted
    }

    /// The volume behind a claim, if it is one that must be plugged in.
    fn behind(&self, claim: &Key) -> Option<Volume> {
        let claim = self.claims.get(claim)?;
        let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let name = claim.spec.as_ref()?.volume_name.as_deref().filter(|_| bound)?;
        let volume = Volume::of(&*self.volumes.get(&Key::new("", name))?)?;
        let driver = self.drivers.get(&Key::new("", &volume.driver));
        let required = driver.is_none_or(|driver| driver.spec.attach_required != Some(false));
        Some(volume).filter(|_| required)
    }

    async fn attach(&self, volume: &Volume, node: &str) -> Result<(), kube::Error> {
        let attachment = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
            "metadata": {"name": volume.attachment(node)},
            "spec": {"attacher": volume.driver, "nodeName": node, "source": {"persistentVolumeName": volume.name}},
        });
        let attachment: VolumeAttachment =
            serde_json::from_value(attachment).map_err(kube::Error::SerdeError)?;
        let api: Api<VolumeAttachment> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &attachment).await {
            Err(error) if !is_conflict(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether a volume that the node does not let go of is taken all the same: the node is out of service, or it has
    /// failed long ago.
    fn may_force(&self, attachment: &str, node: Option<&Node>) -> bool {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *leaving.entry(attachment.to_owned()).or_insert_with(Instant::now);
        node.is_none_or(|node| {
            plan::is_out_of_service(node) || !plan::is_ready(node) && since.elapsed() >= FORCE_AFTER
        })
    }

    /// Tells the pods that need a volume that it is there, or why not.
    fn say(
        &self,
        node: &str,
        wanted: &BTreeMap<Volume, Vec<Arc<Pod>>>,
        volume: &Volume,
        news: Result<(), String>,
    ) {
        let (severity, reason, words) = match news {
            Ok(()) => {
                let words = format!("AttachVolume.Attach succeeded for volume {:?} ", volume.name);
                (Severity::Normal, "SuccessfulAttachVolume", words)
            }
            Err(words) => (Severity::Warning, "FailedAttachVolume", words),
        };
        let attachment = volume.attachment(node);
        let before =
            self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(attachment, words.clone());
        if before.as_ref() == Some(&words) {
            return;
        }
        for pod in wanted.get(volume).into_iter().flatten() {
            self.recorder.record(&**pod, severity, reason, words.clone());
        }
    }

    /// Writes what is plugged in into the node's status, where it says otherwise.
    async fn tell_node(&self, node: Option<&Node>, attached: Vec<String>) -> Result<(), kube::Error> {
        let Some(node) = node.filter(|node| plan::told(node) != attached) else { return Ok(()) };
        let list: Vec<_> = attached.iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
        let list = if list.is_empty() { serde_json::Value::Null } else { list.into() };
        let patch = Patch::Merge(json!({"status": {"volumesAttached": list}}));
        let api: Api<Node> = Api::all(self.client.clone());
        ignore_not_found(api.patch_status(&node.name_any(), &PatchParams::default(), &patch).await)
    }
}

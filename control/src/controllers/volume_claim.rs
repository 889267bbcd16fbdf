//! PersistentVolumeClaim: each is bound to one volume, which is bound to it and to nothing else; where no volume
//! serves, one is made for classes whose volumes are directories of a node.
//!
//! Both objects name each other. The volume is written first, so that two claims can never share one; whatever is
//! lost in between is finished by the next look.

mod plan;
mod provision;

use super::events::{Recorder, Severity};
use super::informer::{Key, Lister};
use super::pods;
use super::runner::{Next, Reconcile, ignore_not_found, is_conflict, message_of};
use super::wiring::{Plane, Task, WORKERS, Wire};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use plan::{Step, World};
use serde_json::json;
use std::sync::Arc;

pub(crate) use provision::{PROVISIONER, default_class};

/// On a claim: who makes its volume.
const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// What that was called before 1.23; provisioners still look for it.
const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// Keeps a claim that pods use.
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// Woken by claims, volumes, classes and the pods that use claims.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("persistentvolumeclaim", plane);
    let claims = wire.keys::<PersistentVolumeClaim>();
    let all = claims.clone();
    wire.woken_by::<PersistentVolume>(move |_, new, queue| {
        let Some(volume) = new else { return };
        match volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) {
            Some(claim) => queue.add(Key::new(
                claim.namespace.as_deref().unwrap_or_default(),
                claim.name.as_deref().unwrap_or_default(),
            )),
            None => all
                .all()
                .iter()
                .filter(|claim| !plan::is_bound(claim))
                .for_each(|claim| queue.add(Key::of(&**claim))),
        }
    });
    let all = claims.clone();
    wire.woken_by::<StorageClass>(move |_, _, queue| {
        all.all()
            .iter()
            .filter(|claim| !plan::is_bound(claim))
            .for_each(|claim| queue.add(Key::of(&**claim)));
    });
    wire.woken_by::<Pod>(|old, new, queue| {
        let comes_or_ends = old.is_none() || new.is_none_or(|pod| pods::is_terminal(pod));
        for pod in old.into_iter().chain(new).filter(|_| comes_or_ends) {
            let namespace = pod.namespace().unwrap_or_default();
            pods::claims(pod).for_each(|name| queue.add(Key::new(&namespace, &name)));
        }
    });
    let controller = Claims {
        client: wire.client(),
        claims,
        volumes: wire.reads(),
        classes: wire.reads(),
        nodes: wire.reads(),
        pods: wire.reads(),
        recorder: Recorder::new(wire.client(), "persistentvolume-controller"),
    };
    wire.run(WORKERS, controller)
}

/// Everything one reconcile needs.
pub(crate) struct Claims {
    client: Client,
    claims: Lister<PersistentVolumeClaim>,
    volumes: Lister<PersistentVolume>,
    classes: Lister<StorageClass>,
    nodes: Lister<Node>,
    pods: Lister<Pod>,
    recorder: Recorder,
}

impl Reconcile for Claims {
    /// Brings one claim closer to a volume, or lets it go.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(claim) = self.claims.get(&key) else { return Ok(Next::Wait) };
        if self.protect(&claim).await? {
            return Ok(Next::Wait);
        }
        let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
        let class = class.filter(|class| !class.is_empty());
        let selected = claim.annotations().get(super::volume_match::SELECTED_NODE);
        let world = World {
            claim: &claim,
            volumes: &self.volumes.all(),
            class_name: class,
            class: class.and_then(|class| self.classes.get(&Key::new("", class))),
            node: selected.and_then(|node| self.nodes.get(&Key::new("", node))),
            unscheduled: self.unscheduled(&claim),
        };
        match plan::step(&world) {
            Step::Nothing => {}
            Step::Reserve(volume) => self.reserve(&claim, &volume).await?,
            Step::Bind(volume) => self.bind(&claim, &volume).await?,
            Step::Provision(volume) => self.provision(&claim, &volume).await?,
            Step::External(provisioner) => self.hand_over(&claim, &provisioner).await?,
            Step::Lost(reason, message) => {
                self.recorder.record(&*claim, Severity::Warning, reason, message.to_owned());
                self.phase(&claim, json!({"phase": "Lost"})).await?;
            }
            Step::Tell(severity, reason, message) => self.recorder.record(&*claim, severity, reason, message),
        }
        Ok(Next::Wait)
    }
}

impl Claims {
    /// Adds or removes the finalizer that keeps a claim while pods use it; answers whether that is all there is to do.
    async fn protect(&self, claim: &PersistentVolumeClaim) -> Result<bool, kube::Error> {
        let guarded = claim.finalizers().iter().any(|one| one == PROTECTION);
        let dying = claim.metadata.deletion_timestamp.is_some();
        let change = match (guarded, dying) {
            (true, true) if !self.is_used(claim) => {
                json!({"$deleteFromPrimitiveList/finalizers": [PROTECTION]})
            }
            (false, false) => json!({"finalizers": [PROTECTION]}),
            _ => return Ok(dying),
        };
        let patch = Patch::Strategic(json!({"metadata": change}));
        ignore_not_found(self.api(claim).patch(&claim.name_any(), &PatchParams::default(), &patch).await)?;
        Ok(dying)
    }

    fn is_used(&self, claim: &PersistentVolumeClaim) -> bool {
        let name = claim.name_any();
        let pods = self.pods.in_namespace(&claim.namespace().unwrap_or_default());
        pods.iter().any(|pod| !pods::is_terminal(pod) && pods::claims(pod).any(|used| used == name))
    }

    /// Pods that want a claim and wait for a node.
    fn unscheduled(&self, claim: &PersistentVolumeClaim) -> Vec<String> {
        if plan::is_bound(claim) {
            return Vec::new();
        }
        let name = claim.name_any();
        let pods = self.pods.in_namespace(&claim.namespace().unwrap_or_default());
        let waits = |pod: &&Arc<Pod>| {
            pods::is_active(pod) && pods::node_of(pod).is_none() && pods::claims(pod).any(|used| used == name)
        };
        pods.iter().filter(waits).map(|pod| pod.name_any()).collect()
    }

    /// Says on the claim who is to make its volume: external provisioners look for their own name there.
    async fn hand_over(&self, claim: &PersistentVolumeClaim, provisioner: &str) -> Result<(), kube::Error> {
        if claim.annotations().get(STORAGE_PROVISIONER).map(String::as_str) != Some(provisioner) {
            let names = json!({STORAGE_PROVISIONER: provisioner, BETA_STORAGE_PROVISIONER: provisioner});
            let metadata = json!({"resourceVersion": claim.resource_version(), "annotations": names});
            let patch = Patch::Merge(json!({"metadata": metadata}));
            ignore_not_found(
                self.api(claim).patch(&claim.name_any(), &PatchParams::default(), &patch).await,
            )?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        self.recorder.record(claim, Severity::Normal, "ExternalProvisioning", message);
        Ok(())
    }

    /// The volume says whose it is, before the claim does.
    async fn reserve(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), kube::Error> {
        let patch = json!({
            "metadata": {
                "resourceVersion": volume.resource_version(),
                "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
            },
            "spec": {"claimRef": provision::reference(claim)},
        });
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let bound = api.patch(&volume.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.bind(claim, &bound).await
    }

    /// The claim names its volume, then says so in its status.
    async fn bind(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), kube::Error> {
        let mut bound = claim.clone();
        if !plan::is_complete(claim, volume) {
            let mut annotations = json!({"pv.kubernetes.io/bind-completed": "yes"});
            if claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_none()) {
                annotations["pv.kubernetes.io/bound-by-controller"] = "yes".into();
            }
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": claim.resource_version(), "annotations": annotations},
                "spec": {"volumeName": volume.name_any()},
            }));
            bound = self.api(claim).patch(&claim.name_any(), &PatchParams::default(), &patch).await?;
        }
        let spec = volume.spec.as_ref();
        self.phase(
            &bound,
            json!({
                "phase": "Bound",
                "accessModes": spec.and_then(|spec| spec.access_modes.clone()),
                "capacity": spec.and_then(|spec| spec.capacity.clone()),
            }),
        )
        .await
    }

    async fn phase(
        &self,
        claim: &PersistentVolumeClaim,
        status: serde_json::Value,
    ) -> Result<(), kube::Error> {
        let patch = Patch::Merge(
            json!({"metadata": {"resourceVersion": claim.resource_version()}, "status": status}),
        );
        ignore_not_found(
            self.api(claim).patch_status(&claim.name_any(), &PatchParams::default(), &patch).await,
        )
    }

    /// A volume of that name was made for this claim before, and is only not yet in our copy.
    async fn provision(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), kube::Error> {
        let place = format!("{}/{}", claim.namespace().unwrap_or_default(), claim.name_any());
        let message = format!("External provisioner is provisioning volume for claim \"{place}\"");
        self.recorder.record(claim, Severity::Normal, "Provisioning", message);
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), volume).await {
            Err(error) if !is_conflict(&error) => {
                let why = message_of(&error);
                let message = format!(
                    "Error creating provisioned PV object for claim {place}: {why}. Deleting the volume."
                );
                self.recorder.record(claim, Severity::Warning, "ProvisioningFailed", message);
                return Err(error);
            }
            _ => {}
        }
        let message = format!("Successfully provisioned volume {}", volume.name_any());
        self.recorder.record(claim, Severity::Normal, "ProvisioningSucceeded", message);
        Ok(())
    }

    fn api(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default())
    }
}

//! Deployment: one ReplicaSet per version of the template, and an orderly way from the old to the new.

mod conditions;
pub(crate) mod hash;
mod revision;
mod rolling;
mod status;

use super::events::{Recorder, Severity};
use super::informer::{Key, Lister};
use super::ownership::{self, Claim};
use super::runner::{Next, Reconcile, ignore_not_found, is_conflict, is_terminating, message_of};
use super::wiring::{Plane, Task, WORKERS, Wire, owner_key};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::sync::Arc;

/// Woken by its deployments, their sets, and sets that nobody owns.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("deployment", plane);
    let deployments = wire.keys::<Deployment>();
    let (all, replica_sets) = (deployments.clone(), wire.owned::<ReplicaSet>("Deployment"));
    wire.woken_by::<ReplicaSet>(move |_, new, queue| {
        if let Some(orphan) = new.filter(|set| ownership::controller_of(&set.metadata).is_none()) {
            let namespace = orphan.namespace().unwrap_or_default();
            all.in_namespace(&namespace).iter().for_each(|deployment| queue.add(Key::of(&**deployment)));
        }
    });
    let sets = replica_sets.clone();
    // Recreate waits for the last old pod.
    wire.woken_by::<Pod>(move |old, new, queue| {
        if let (Some(pod), None) = (old, new)
            && let Some(set) = owner_key(&**pod, "ReplicaSet").and_then(|key| sets.get(&key))
        {
            owner_key(&*set, "Deployment").into_iter().for_each(|key| queue.add(key));
        }
    });
    let recorder = Recorder::new(wire.client(), "deployment-controller");
    let pods = wire.reads();
    let controller = Deployments { client: wire.client(), deployments, replica_sets, pods, recorder };
    wire.run(WORKERS, controller)
}

/// Everything one reconcile needs.
pub(crate) struct Deployments {
    pub(crate) client: Client,
    pub(crate) deployments: Lister<Deployment>,
    pub(crate) replica_sets: Lister<ReplicaSet>,
    pub(crate) pods: Lister<Pod>,
    pub(crate) recorder: Recorder,
}

impl Reconcile for Deployments {
    /// Brings one Deployment closer to what it asks for.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(deployment) = self.deployments.get(&key) else { return Ok(Next::Wait) };
        let sets = self.claim(&deployment, &key.namespace).await?;
        let world = World::new(&deployment, sets);
        if deployment.metadata.deletion_timestamp.is_some() {
            return self.write_status(&world, None).await;
        }
        if world.paused() {
            self.scale_proportionally(&world).await?;
            return self.write_status(&world, None).await;
        }
        let mut world = world;
        let mut failure = None;
        if world.new_set.is_none() {
            match self.create_new_set(&world).await {
                Ok(set) => world.new_set = Some(Arc::new(set)),
                Err(refused) => failure = Some(refused),
            }
        } else {
            self.number(&world).await?;
        }
        if failure.is_none() {
            self.roll(&world).await?;
            self.clean_up(&world).await?;
        }
        let told = failure.as_ref().and_then(|refused| refused.told.clone());
        let next = self.write_status(&world, told).await?;
        failure.map_or(Ok(next), |refused| Err(refused.error))
    }
}

/// A set that could not be made.
struct Refused {
    error: kube::Error,
    /// What the deployment says of it.
    told: Option<String>,
}

impl From<kube::Error> for Refused {
    fn from(error: kube::Error) -> Self {
        Self { error, told: None }
    }
}

impl Deployments {
    async fn claim(
        &self,
        deployment: &Deployment,
        namespace: &str,
    ) -> Result<Vec<Arc<ReplicaSet>>, kube::Error> {
        let (Some(spec), Some(uid)) = (&deployment.spec, deployment.uid()) else { return Ok(Vec::new()) };
        let mut owned = Vec::new();
        for set in self.replica_sets.claimable(namespace, &uid) {
            match ownership::claim(&uid, &spec.selector, &set.metadata) {
                Claim::Owned => owned.push(set),
                Claim::Adopt if deployment.metadata.deletion_timestamp.is_none() => {
                    self.set_owner(&set, json!([ownership::controlled_by(deployment)])).await?;
                    owned.push(set);
                }
                Claim::Release => self.set_owner(&set, json!([{"$patch": "delete", "uid": uid}])).await?,
                Claim::Adopt | Claim::Foreign => {}
            }
        }
        Ok(owned)
    }

    async fn set_owner(&self, set: &ReplicaSet, references: serde_json::Value) -> Result<(), kube::Error> {
        let patch = json!({"metadata": {"uid": set.uid(), "ownerReferences": references}});
        let api = self.sets_api(set);
        ignore_not_found(api.patch(&set.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await)
    }

    fn sets_api(&self, object: &impl ResourceExt) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }

    /// The set of the present template; made with no pods under `Recreate` as long as old ones run.
    async fn create_new_set(&self, world: &World) -> Result<ReplicaSet, Refused> {
        let set = revision::new_set(world);
        match self.sets_api(&*world.deployment).create(&PostParams::default(), &set).await {
            Ok(created) => {
                self.write_revision(world, &created).await?;
                let replicas = created.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
                if replicas > 0 {
                    let message =
                        format!("Scaled up replica set {} from 0 to {replicas}", created.name_any());
                    self.recorder.record(&*world.deployment, Severity::Normal, "ScalingReplicaSet", message);
                }
                Ok(created)
            }
            Err(error) if is_conflict(&error) => {
                self.count_collision(world, &set).await?;
                Err(error.into())
            }
            Err(error) if is_terminating(&error) => Err(error.into()),
            Err(error) => {
                let told =
                    format!("Failed to create new replica set {:?}: {}", set.name_any(), message_of(&error));
                let (deployment, severity) = (&*world.deployment, Severity::Warning);
                self.recorder.record(deployment, severity, conditions::NOT_CREATED, told.clone());
                Err(Refused { error, told: Some(told) })
            }
        }
    }

    /// Where the name belongs to somebody else's set, or to one of another template, the next attempt takes another.
    async fn count_collision(&self, world: &World, set: &ReplicaSet) -> Result<(), kube::Error> {
        let deployment = &world.deployment;
        let Some(found) = self.sets_api(&**deployment).get_opt(&set.name_any()).await? else { return Ok(()) };
        let owner = ownership::controller_of(&found.metadata).map(|owner| owner.uid.as_str());
        let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone());
        let same = hash::same_template(template(set).as_ref(), template(&found).as_ref());
        if same && owner == deployment.metadata.uid.as_deref() {
            return Ok(());
        }
        let before = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let patch = json!({"metadata": {"resourceVersion": deployment.resource_version()},
            "status": {"collisionCount": before + 1}});
        let api: Api<Deployment> =
            Api::namespaced(self.client.clone(), &deployment.namespace().unwrap_or_default());
        let patch = Patch::Merge(patch);
        ignore_not_found(api.patch_status(&deployment.name_any(), &PatchParams::default(), &patch).await)
    }

    /// A set whose template is wanted again gets a new revision number (this is what a rollback is).
    async fn number(&self, world: &World) -> Result<(), kube::Error> {
        let Some(set) = &world.new_set else { return Ok(()) };
        if let Some(annotations) = revision::renumbered(world, set) {
            let patch = json!({"metadata": {"annotations": annotations}});
            let api = self.sets_api(&**set);
            let patched = api.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
            return self.write_revision(world, &patched).await;
        }
        self.write_revision(world, set).await
    }

    async fn write_revision(&self, world: &World, set: &ReplicaSet) -> Result<(), kube::Error> {
        let Some(number) = set.annotations().get(revision::ANNOTATION) else { return Ok(()) };
        if world.deployment.annotations().get(revision::ANNOTATION) == Some(number) {
            return Ok(());
        }
        let patch = json!({"metadata": {"annotations": {revision::ANNOTATION: number}}});
        self.patch(&world.deployment, patch).await
    }

    async fn patch(&self, deployment: &Deployment, patch: serde_json::Value) -> Result<(), kube::Error> {
        let api: Api<Deployment> =
            Api::namespaced(self.client.clone(), &deployment.namespace().unwrap_or_default());
        ignore_not_found(
            api.patch(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await,
        )
    }

    /// One step of the way: scaling as a whole when only the size changed, else towards the new set.
    async fn roll(&self, world: &World) -> Result<(), kube::Error> {
        if rolling::is_scaling(world) {
            return self.scale_proportionally(world).await;
        }
        let pods = self.pods.in_namespace(&world.namespace());
        for step in rolling::steps(world, &pods) {
            self.scale(world, &step.set, step.replicas).await?;
        }
        Ok(())
    }

    async fn scale_proportionally(&self, world: &World) -> Result<(), kube::Error> {
        for step in rolling::proportional(world) {
            self.scale(world, &step.set, step.replicas).await?;
        }
        Ok(())
    }

    async fn scale(&self, world: &World, set: &ReplicaSet, replicas: i32) -> Result<(), kube::Error> {
        let old = rolling::replicas_of(set);
        let annotations = revision::size_annotations(world);
        if old == replicas && annotations.iter().all(|(key, value)| set.annotations().get(key) == Some(value))
        {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"annotations": annotations, "resourceVersion": set.resource_version()},
            "spec": {"replicas": replicas},
        });
        let api = self.sets_api(set);
        api.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        if old != replicas {
            let direction = if replicas > old { "up" } else { "down" };
            let message =
                format!("Scaled {direction} replica set {} from {old} to {replicas}", set.name_any());
            self.recorder.record(&*world.deployment, Severity::Normal, "ScalingReplicaSet", message);
        }
        Ok(())
    }

    /// Old sets without pods beyond the history limit.
    async fn clean_up(&self, world: &World) -> Result<(), kube::Error> {
        if !status::is_complete(world) {
            return Ok(());
        }
        for set in revision::beyond_history(world) {
            ignore_not_found(
                self.sets_api(&*set).delete(&set.name_any(), &DeleteParams::background()).await,
            )?;
        }
        Ok(())
    }

    async fn write_status(&self, world: &World, failure: Option<String>) -> Result<Next, kube::Error> {
        let now = Timestamp::now();
        let status = status::of(world, failure, now);
        let deployment = &world.deployment;
        if deployment.status.as_ref() != Some(&status) {
            let written = Deployment { status: Some(status.clone()), ..(**deployment).clone() };
            super::status::replace(&self.client, &written).await?;
        }
        Ok(conditions::next_deadline(world, &status, now))
    }
}

/// A Deployment and its sets, sorted into the one of the present template and the others.
pub(crate) struct World {
    deployment: Arc<Deployment>,
    new_set: Option<Arc<ReplicaSet>>,
    /// Oldest first.
    old_sets: Vec<Arc<ReplicaSet>>,
}

impl World {
    fn new(deployment: &Arc<Deployment>, mut sets: Vec<Arc<ReplicaSet>>) -> Self {
        sets.sort_by_key(|set| (set.creation_timestamp(), set.name_any()));
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let new = sets.iter().position(|set| {
            let of_set = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            hash::same_template(template, of_set)
        });
        let new_set = new.map(|at| sets.remove(at));
        Self { deployment: deployment.clone(), new_set, old_sets: sets }
    }

    fn namespace(&self) -> String {
        self.deployment.namespace().unwrap_or_default()
    }

    fn paused(&self) -> bool {
        self.deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false)
    }

    fn replicas(&self) -> i32 {
        self.deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn all_sets(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old_sets.iter().chain(&self.new_set)
    }
}

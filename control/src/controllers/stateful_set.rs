//! StatefulSet: pods with names that last, `web-0`, `web-1`, ..., each with claims of its own, started, updated and
//! ended one after the other.
//!
//! A pod is known by its ordinal, so a step that is repeated on an old copy meets the object that is there already:
//! nothing is ever made twice.

mod claims;
mod plan;
mod template;

use super::events::Severity;
use super::history::{self, History, Revisions};
use super::informer::{Key, Lister};
use super::pod_control::PodControl;
use super::runner::{Next, Reconcile, ignore_not_found, is_conflict, message_of};
use super::status;
use super::wiring::{Plane, Task, WORKERS, Wire};
use claims::{Member, Unfit};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use plan::{Step, World};
use serde_json::json;

/// Woken by its sets, their pods, and claims that are gone.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("statefulset", plane);
    let sets = wire.keys::<StatefulSet>();
    let control =
        wire.pods::<StatefulSet>("statefulset-controller", |set| Some(set.spec.as_ref()?.selector.clone()));
    let all = wire.reads::<StatefulSet>();
    wire.woken_by::<PersistentVolumeClaim>(move |old, new, queue| {
        // A pod may wait for one to be gone.
        if let (Some(claim), None) = (old, new) {
            let sets = all.in_namespace(&claim.namespace().unwrap_or_default());
            let concerned = sets.iter().filter(|set| claims::ordinal_of(set, &claim.name_any()).is_some());
            concerned.for_each(|set| queue.add(Key::of(&**set)));
        }
    });
    let history = History { client: wire.client(), revisions: wire.reads() };
    let controller = StatefulSets { client: wire.client(), sets, claims: wire.reads(), history, control };
    wire.run(WORKERS, controller)
}

/// Everything one reconcile needs.
pub(crate) struct StatefulSets {
    client: Client,
    sets: Lister<StatefulSet>,
    claims: Lister<PersistentVolumeClaim>,
    history: History,
    control: PodControl,
}

impl Reconcile for StatefulSets {
    /// Takes the next step towards the pods one set asks for.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(set) = self.sets.get(&key) else { return Ok(Next::Wait) };
        let Some(spec) = &set.spec else { return Ok(Next::Wait) };
        let member = |pod: &Pod| template::ordinal_of(&set, pod).is_some();
        let pods = self.control.claim_those(&*set, &spec.selector, member).await?;
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        let revisions = self.history.sync(&*set, &spec.template).await?;
        let world = World::new(&set, spec, &revisions, pods, Timestamp::now());
        let mut result = self.retain_claims(&set, &world).await;
        for step in world.steps() {
            if result.is_ok() {
                result = self.take(&set, &revisions, &world, step).await;
            }
        }
        self.write_status(&set, &world).await?;
        self.history.truncate(&revisions, spec.revision_history_limit.unwrap_or(10), &world.live()).await?;
        result.map(|()| world.next_look())
    }
}

impl StatefulSets {
    async fn take(
        &self,
        set: &StatefulSet,
        revisions: &Revisions,
        world: &World<'_>,
        step: Step,
    ) -> Result<(), kube::Error> {
        match step {
            Step::Create { ordinal, revision } => {
                let known = revisions.named(&revision).and_then(history::template_of);
                let template = known.unwrap_or_else(|| world.template().clone());
                self.create(set, ordinal, &revision, template).await
            }
            Step::Delete(pod) => self.delete(set, &pod).await,
            Step::Claims(pod) => {
                let ordinal = template::ordinal_of(set, &pod).unwrap_or_default();
                self.make_claims(set, ordinal, &pod.name_any()).await
            }
            Step::Identify(pod) => {
                let labels = template::identity(set, template::ordinal_of(set, &pod).unwrap_or_default());
                self.control.patch(&pod, json!({"metadata": {"uid": pod.uid(), "labels": labels}})).await
            }
        }
    }

    async fn create(
        &self,
        set: &StatefulSet,
        ordinal: i32,
        revision: &str,
        template: PodTemplateSpec,
    ) -> Result<(), kube::Error> {
        let pod = template::pod(set, template, revision, ordinal);
        let (set_name, name) = (set.name_any(), pod.name_any());
        match self.unfit(set, ordinal) {
            Some((_, Unfit::OfAnother)) => return Ok(()),
            Some((claim, Unfit::Going)) => {
                let told = format!(
                    "create Pod {name} in StatefulSet {set_name} failed error: pvc {claim} is being deleted"
                );
                self.control.recorder.record(set, Severity::Warning, "FailedCreate", told);
                return Ok(());
            }
            None => self.make_claims(set, ordinal, &name).await?,
        }
        let result = self.pods(set).create(&PostParams::default(), &pod).await.map(drop);
        self.tell(set, "Create", &format!("Pod {name} in StatefulSet {set_name}"), "successful", &result);
        result
    }

    /// A claim that is there, but has to go before there can be a pod of this ordinal.
    fn unfit(&self, set: &StatefulSet, ordinal: i32) -> Option<(String, Unfit)> {
        claims::of(set, ordinal).iter().find_map(|claim| {
            let present = self.claims.get(&Key::of(claim))?;
            Some((claim.name_any(), claims::unfit(set, ordinal, &present.metadata)?))
        })
    }

    /// The claims of one ordinal that do not exist yet.
    async fn make_claims(&self, set: &StatefulSet, ordinal: i32, pod: &str) -> Result<(), kube::Error> {
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        for claim in claims::of(set, ordinal) {
            if self.claims.get(&Key::of(&claim)).is_some() {
                continue;
            }
            let result = api.create(&PostParams::default(), &claim).await.map(drop);
            if result.as_ref().is_err_and(is_conflict) {
                continue;
            }
            let what = format!("Claim {} Pod {pod} in StatefulSet {}", claim.name_any(), set.name_any());
            self.tell(set, "Create", &what, "success", &result);
            result?;
        }
        Ok(())
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<(), kube::Error> {
        let parameters =
            DeleteParams::default().preconditions(Preconditions { uid: pod.uid(), resource_version: None });
        let result = self.pods(set).delete(&pod.name_any(), &parameters).await;
        let result = ignore_not_found(result);
        let what = format!("Pod {} in StatefulSet {}", pod.name_any(), set.name_any());
        self.tell(set, "Delete", &what, "successful", &result);
        result
    }

    /// An event about something that was done or failed; a conflict is only an old copy.
    fn tell(
        &self,
        set: &StatefulSet,
        verb: &str,
        what: &str,
        success: &str,
        result: &Result<(), kube::Error>,
    ) {
        let (severity, reason, outcome) = match (result, verb) {
            (Ok(()), "Create") => (Severity::Normal, "SuccessfulCreate", success.to_owned()),
            (Ok(()), _) => (Severity::Normal, "SuccessfulDelete", success.to_owned()),
            (Err(error), _) if is_conflict(error) => return,
            (Err(error), "Create") => {
                (Severity::Warning, "FailedCreate", format!("failed error: {}", message_of(error)))
            }
            (Err(error), _) => {
                (Severity::Warning, "FailedDelete", format!("failed error: {}", message_of(error)))
            }
        };
        let message = format!("{} {what} {outcome}", verb.to_lowercase());
        self.control.recorder.record(set, severity, reason, message);
    }

    /// Gives claims to the set or to a pod that goes, where the set's policy says that they go with it.
    async fn retain_claims(&self, set: &StatefulSet, world: &World<'_>) -> Result<(), kube::Error> {
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        for (ordinal, pod, goes) in world.ordinals() {
            for claim in claims::of(set, ordinal) {
                let Some(present) = self.claims.get(&Key::of(&claim)) else { continue };
                let wanted = claims::owners(set, Member { ordinal, pod, goes }, &present.metadata);
                if wanted != present.owner_references() {
                    let patch = kube::api::Patch::Merge(json!({"metadata": {
                        "uid": present.uid(), "resourceVersion": present.resource_version(),
                        "ownerReferences": wanted,
                    }}));
                    ignore_not_found(api.patch(&present.name_any(), &Default::default(), &patch).await)?;
                }
            }
        }
        Ok(())
    }

    async fn write_status(&self, set: &StatefulSet, world: &World<'_>) -> Result<(), kube::Error> {
        let new = world.status();
        if set.status.as_ref() == Some(&new) {
            return Ok(());
        }
        status::replace(&self.client, &StatefulSet { status: Some(new), ..set.clone() }).await
    }

    fn pods(&self, set: &StatefulSet) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default())
    }
}

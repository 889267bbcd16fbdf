//! PersistentVolume: free, bound, or released when its claim is gone; then kept, or deleted if it was made for that
//! claim and its policy says so.

use super::events::{Recorder, Severity};
use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, ignore_not_found, message_of};
use super::volume_claim::{PROVISIONER, default_class};
use super::wiring::{Plane, Task, Wire};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// On a volume: who made it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a volume: nobody wrote by hand whose it is.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// Woken by volumes and by claims that name one.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("persistentvolume", plane);
    let volumes = wire.keys::<PersistentVolume>();
    let all = volumes.clone();
    wire.woken_by::<PersistentVolumeClaim>(move |old, new, queue| {
        let named = |claim: &PersistentVolumeClaim| claim.spec.as_ref()?.volume_name.clone();
        for claim in old.into_iter().chain(new) {
            named(claim).into_iter().for_each(|name| queue.add(Key::new("", &name)));
        }
        if let (Some(gone), None) = (old, new) {
            let reserved = |volume: &PersistentVolume| super::volume_match::is_reserved(gone, volume);
            all.all()
                .iter()
                .filter(|volume| reserved(volume))
                .for_each(|volume| queue.add(Key::of(&**volume)));
        }
    });
    let controller = Volumes {
        client: wire.client(),
        volumes,
        claims: wire.reads(),
        recorder: Recorder::new(wire.client(), "persistentvolume-controller"),
    };
    let (classes, client) = (wire.reads::<StorageClass>(), wire.client());
    let work = wire.run(1, controller);
    Box::pin(async move {
        classes.synced().await;
        if classes.all().is_empty() {
            make_default_class(client).await;
        }
        work.await;
    })
}

/// A cluster without any class gets one, so that a claim that names none can be served.
async fn make_default_class(client: Client) {
    let api: Api<StorageClass> = Api::all(client);
    if let Err(error) = api.create(&PostParams::default(), &default_class()).await {
        tracing::warn!(error = message_of(&error), "create the default storage class");
    }
}

/// Everything one reconcile needs.
pub(crate) struct Volumes {
    client: Client,
    volumes: Lister<PersistentVolume>,
    claims: Lister<PersistentVolumeClaim>,
    recorder: Recorder,
}

impl Reconcile for Volumes {
    /// Says in which phase one volume is, and takes it back when its claim is gone.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(volume) = self.volumes.get(&key) else { return Ok(Next::Wait) };
        let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let claim = owner.and_then(|owner| {
            self.claims.get(&Key::new(owner.namespace.as_deref()?, owner.name.as_deref()?))
        });
        let phase = phase(&volume, claim.as_deref());
        if phase == "Available" && is_claimed(&volume) {
            self.unbind(&volume).await?;
        }
        self.set_phase(&volume, phase, None).await?;
        if phase == "Released" && volume.metadata.deletion_timestamp.is_none() {
            self.reclaim(&volume).await?;
        }
        Ok(Next::Wait)
    }
}

impl Volumes {
    async fn set_phase(
        &self,
        volume: &PersistentVolume,
        phase: &str,
        message: Option<&str>,
    ) -> Result<(), kube::Error> {
        let status = volume.status.clone().unwrap_or_default();
        if status.phase.as_deref() == Some(phase)
            || (phase == "Released" && status.phase.as_deref() == Some("Failed"))
        {
            return Ok(());
        }
        let patch = Patch::Merge(json!({
            "metadata": {"uid": volume.uid()},
            "status": {"phase": phase, "message": message, "lastPhaseTransitionTime": Time(Timestamp::now())},
        }));
        ignore_not_found(self.api().patch_status(&volume.name_any(), &PatchParams::default(), &patch).await)
    }

    /// The claim took another volume: it is free again, or set aside for that name as somebody wrote it.
    async fn unbind(&self, volume: &PersistentVolume) -> Result<(), kube::Error> {
        let ours = volume.annotations().contains_key(BOUND_BY_CONTROLLER);
        let owner = if ours { json!(null) } else { json!({"uid": null}) };
        let metadata =
            json!({"resourceVersion": volume.resource_version(), "annotations": {BOUND_BY_CONTROLLER: null}});
        let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"claimRef": owner}}));
        ignore_not_found(self.api().patch(&volume.name_any(), &PatchParams::default(), &patch).await)
    }

    /// The claim is gone.
    async fn reclaim(&self, volume: &PersistentVolume) -> Result<(), kube::Error> {
        let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        if !matches!(policy, Some("Delete" | "Recycle")) {
            return Ok(());
        }
        let maker = volume.annotations().get(PROVISIONED_BY).map(String::as_str);
        match (policy, maker) {
            (Some("Delete"), Some(PROVISIONER)) => {
                ignore_not_found(self.api().delete(&volume.name_any(), &DeleteParams::default()).await)
            }
            // Whoever made it, if anybody, takes it back.
            (Some("Delete"), Some(_)) => Ok(()),
            (Some("Delete"), None) => {
                let message =
                    "error getting deleter volume plugin for volume: no deletable volume plugin matched";
                self.fail(volume, "VolumeFailedDelete", message).await
            }
            _ => self.fail(volume, "VolumeFailedRecycle", "no recyclable volume plugin matched").await,
        }
    }

    async fn fail(
        &self,
        volume: &PersistentVolume,
        reason: &'static str,
        message: &str,
    ) -> Result<(), kube::Error> {
        if volume.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Failed") {
            self.recorder.record(volume, Severity::Warning, reason, message.to_owned());
        }
        self.set_phase(volume, "Failed", Some(message)).await
    }

    fn api(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }
}

/// Whether it says which very claim it belongs to.
fn is_claimed(volume: &PersistentVolume) -> bool {
    let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    owner.and_then(|owner| owner.uid.as_deref()).is_some_and(|uid| !uid.is_empty())
}

/// A volume reserved for a claim that does not exist yet is still free to be seen as such, and so is one whose claim took
/// another; unless it was made for that claim.
fn phase(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> &'static str {
    let spec = volume.spec.as_ref();
    let owner = spec.and_then(|spec| spec.claim_ref.as_ref());
    if !is_claimed(volume) {
        return "Available";
    }
    let uid = owner.and_then(|owner| owner.uid.as_deref());
    let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_deref() == uid) else { return "Released" };
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let is_made = volume.annotations().contains_key(PROVISIONED_BY) && policy == Some("Delete");
    match named == volume.name_any() || named.is_empty() {
        true => "Bound",
        false if is_made => "Released",
        false => "Available",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases() {
        let volume = |owner: serde_json::Value| -> PersistentVolume {
            serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": {"claimRef": owner}})).unwrap()
        };
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}})).unwrap();
        let mine = json!({"name": "c", "namespace": "n", "uid": "u"});
        assert_eq!(phase(&volume(serde_json::Value::Null), None), "Available");
        assert_eq!(phase(&volume(json!({"name": "c", "namespace": "n"})), Some(&claim)), "Available");
        assert_eq!(phase(&volume(mine.clone()), Some(&claim)), "Bound");
        assert_eq!(phase(&volume(mine), None), "Released");
        assert_eq!(
            phase(&volume(json!({"name": "c", "namespace": "n", "uid": "old"})), Some(&claim)),
            "Released"
        );
    }

    #[test]
    fn a_volume_whose_claim_took_another_is_free() {
        let volume = |made: bool, policy: &str| -> PersistentVolume {
            let annotations = if made { json!({PROVISIONED_BY: "x.io/y"}) } else { json!({}) };
            serde_json::from_value(json!({"metadata": {"name": "v", "annotations": annotations}, "spec": {
                "persistentVolumeReclaimPolicy": policy, "claimRef": {"name": "c", "namespace": "n", "uid": "u"}}}))
            .unwrap()
        };
        let claim = |named: &str| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
                "spec": {"volumeName": named}}))
            .unwrap()
        };
        for (named, made, policy, expected) in [
            ("v", true, "Delete", "Bound"),
            ("", false, "Retain", "Bound"),
            ("other", false, "Delete", "Available"),
            ("other", true, "Retain", "Available"),
            ("other", true, "Delete", "Released"),
        ] {
            assert_eq!(
                phase(&volume(made, policy), Some(&claim(named))),
                expected,
                "{named} {made} {policy}"
            );
        }
    }
}

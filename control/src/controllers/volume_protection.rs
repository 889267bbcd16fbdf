//! Lets go of claims that no pod uses any more, and of volumes that no claim holds: until then a deletion waits. What
//! protects them is set when they are made (`admission/volume_protection.rs`).

use super::informer::{Key, Lister};
use super::pods;
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use crate::admission::volume_protection::{OF_CLAIMS, OF_VOLUMES};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

/// Woken by claims, and by pods that use them.
pub(crate) fn wire_claims(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("pvc-protection", plane);
    let claims = wire.keys::<PersistentVolumeClaim>();
    let users = wire.reads::<Pod>();
    wire.woken_by::<Pod>(|old, new, queue| {
        // Only the end of a use can set a claim free.
        let Some(pod) = old.or(new) else { return };
        let namespace = pod.namespace().unwrap_or_default();
        pods::claims(pod).for_each(|claim| queue.add(Key::new(&namespace, &claim)));
    });
    let controller = Claims { client: wire.client(), claims, users };
    wire.run(1, controller)
}

/// Woken by volumes.
pub(crate) fn wire_volumes(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("pv-protection", plane);
    let volumes = wire.keys::<PersistentVolume>();
    let controller = Volumes { client: wire.client(), volumes };
    wire.run(1, controller)
}

struct Claims {
    client: Client,
    claims: Lister<PersistentVolumeClaim>,
    users: Lister<Pod>,
}

impl Reconcile for Claims {
    /// Removes the finalizer of one claim that is going and not in use.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(claim) = self.claims.get(&key) else { return Ok(Next::Wait) };
        let Some(patch) = release(&claim.metadata, OF_CLAIMS) else { return Ok(Next::Wait) };
        if self.users.in_namespace(&key.namespace).iter().any(|pod| uses(pod, &key.name)) {
            return Ok(Next::Wait);
        }
        // A pod that has just been made may not have been told of here.
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        if pods.list(&ListParams::default()).await?.items.iter().any(|pod| uses(pod, &key.name)) {
            return Ok(Next::Wait);
        }
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        ignore_not_found(api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await)?;
        Ok(Next::Wait)
    }
}

struct Volumes {
    client: Client,
    volumes: Lister<PersistentVolume>,
}

impl Reconcile for Volumes {
    /// Removes the finalizer of one volume that is going and not bound.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(volume) = self.volumes.get(&key) else { return Ok(Next::Wait) };
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let Some(patch) = release(&volume.metadata, OF_VOLUMES).filter(|_| phase != Some("Bound")) else {
            return Ok(Next::Wait);
        };
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        ignore_not_found(api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await)?;
        Ok(Next::Wait)
    }
}

/// The change that lets go of a dying object, if it is held.
fn release(metadata: &ObjectMeta, finalizer: &str) -> Option<Value> {
    metadata.deletion_timestamp.as_ref()?;
    let all = metadata.finalizers.as_ref().filter(|all| all.iter().any(|found| found == finalizer))?;
    let kept: Vec<&String> = all.iter().filter(|found| *found != finalizer).collect();
    Some(json!({"metadata": {
        "uid": metadata.uid, "resourceVersion": metadata.resource_version, "finalizers": kept,
    }}))
}

/// Whether a pod has the claim, or had it and is still there to be looked at: it has been given to a node.
fn uses(pod: &Pod, claim: &str) -> bool {
    pods::node_of(pod).is_some() && pods::claims(pod).any(|name| name == claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_holds_its_claim_once_it_has_a_node() {
        let pod = |node: &str, phase: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p"}, "status": {"phase": phase},
                "spec": {"nodeName": node, "containers": [], "volumes": [
                    {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]},
            }))
            .unwrap()
        };
        for (node, phase, claim, held) in [
            ("n", "Running", "data", true),
            ("n", "Pending", "data", true),
            ("", "Pending", "data", false),
            ("n", "Succeeded", "data", true),
            ("n", "Running", "other", false),
        ] {
            assert_eq!(uses(&pod(node, phase), claim), held, "{node} {phase} {claim}");
        }
    }

    #[test]
    fn only_what_goes_is_let_go_and_other_finalizers_stay() {
        let mut metadata =
            ObjectMeta { finalizers: Some(vec!["a/b".into(), OF_CLAIMS.into()]), ..ObjectMeta::default() };
        assert_eq!(release(&metadata, OF_CLAIMS), None);
        metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(release(&metadata, OF_CLAIMS).unwrap()["metadata"]["finalizers"], json!(["a/b"]));
        assert_eq!(release(&metadata, OF_VOLUMES), None);
    }
}

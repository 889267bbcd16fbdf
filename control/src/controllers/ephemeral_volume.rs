//! Generic ephemeral volumes: the claim that a pod's volume describes is made for that pod, and goes with it.

use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, is_conflict};
use super::wiring::{Plane, Task, Wire};
use super::{ownership, pods};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

/// Woken by pods that have such volumes, and by their claims when they go.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("ephemeral-volume", plane);
    wire.woken_by::<Pod>(|_, pod, queue| {
        if let Some(pod) = pod.filter(|pod| pods::ephemeral_volumes(pod).next().is_some()) {
            queue.add(Key::of(&**pod));
        }
    });
    wire.woken_by::<PersistentVolumeClaim>(|old, new, queue| {
        if let (Some(claim), None) = (old, new) {
            super::wiring::owner_key(&**claim, "Pod").into_iter().for_each(|key| queue.add(key));
        }
    });
    let controller = EphemeralVolumes { client: wire.client(), pods: wire.reads(), claims: wire.reads() };
    wire.run(1, controller)
}

/// Everything one reconcile needs; keys are pods.
struct EphemeralVolumes {
    client: Client,
    pods: Lister<Pod>,
    claims: Lister<PersistentVolumeClaim>,
}

impl Reconcile for EphemeralVolumes {
    /// Makes the claims that one pod still lacks. A claim of that name that is somebody else's stays as it is: the pod
    /// waits, and is told so by who would use the claim.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(pod) = self.pods.get(&key) else { return Ok(Next::Wait) };
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        for claim in missing(&pod, &self.claims) {
            match api.create(&PostParams::default(), &claim).await {
                // Our copy was old, or the name is taken.
                Err(error) if is_conflict(&error) => {}
                made => drop(made?),
            }
        }
        Ok(Next::Wait)
    }
}

/// Claims of a pod that are not there.
fn missing(pod: &Pod, known: &Lister<PersistentVolumeClaim>) -> Vec<PersistentVolumeClaim> {
    let namespace = pod.namespace().unwrap_or_default();
    let all = claims(pod).into_iter();
    all.filter(|claim| known.get(&Key::new(&namespace, &claim.name_any())).is_none()).collect()
}

/// The claims that a pod's volumes describe; none of a pod that is on its way out.
fn claims(pod: &Pod) -> Vec<PersistentVolumeClaim> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let owner = ownership::controlled_by(pod);
    let made = pods::ephemeral_volumes(pod).filter_map(|(name, volume)| {
        let template = volume.volume_claim_template.as_ref()?;
        let meta = template.metadata.clone().unwrap_or_default();
        Some(PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: pod.namespace(),
                labels: meta.labels,
                annotations: meta.annotations,
                owner_references: Some(vec![owner.clone()]),
                ..ObjectMeta::default()
            },
            spec: Some(template.spec.clone()),
            status: None,
        })
    });
    made.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_are_the_pods_own() {
        let template = json!({"metadata": {"labels": {"type": "scratch"}}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "volumes": [{"name": "plain", "emptyDir": {}},
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]}}))
        .unwrap();
        let made = claims(&pod);
        let [claim] = made.as_slice() else { panic!("{made:?}") };
        assert_eq!((claim.name_any(), claim.namespace().as_deref()), ("p-scratch".to_owned(), Some("n")));
        assert_eq!(claim.labels()["type"], "scratch");
        let owner = &claim.owner_references()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("Pod", "u", Some(true)));
        assert_eq!(claim.spec.as_ref().unwrap().access_modes.as_ref().unwrap(), &["ReadWriteOnce"]);
        pod.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert!(claims(&pod).is_empty());
    }
}

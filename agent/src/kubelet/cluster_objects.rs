//! ConfigMaps and Secrets from an API server. What the volumes of a running pod are made of is watched, one watch
//! per object however many pods use it, so that a change reaches its pods within moments; everything else is asked
//! for, and kept for a few seconds so that the containers of a pod (and pods that are started together) ask once.

mod kind;

use crate::kubelet::references::{Listener, Names, ObjectSource};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};
use kind::{Kind, get};
use std::sync::Arc;

/// Objects of one cluster.
pub struct ClusterObjects {
    client: kube::Client,
    config_maps: Arc<Kind<ConfigMap>>,
    secrets: Arc<Kind<Secret>>,
}

impl std::fmt::Debug for ClusterObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterObjects").finish_non_exhaustive()
    }
}

impl ClusterObjects {
    /// Asks through this client.
    pub fn new(client: kube::Client) -> Self {
        let (config_maps, secrets) = (Kind::new(client.clone()), Kind::new(client.clone()));
        Self { client, config_maps, secrets }
    }
}

#[async_trait]
impl ObjectSource for ClusterObjects {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, String> {
        self.config_maps.get(namespace, name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, String> {
        self.secrets.get(namespace, name).await
    }

    async fn claimed(
        &self,
        namespace: &str,
        claim: &str,
        made_for: Option<&str>,
    ) -> Result<PersistentVolume, String> {
        let claims = kube::Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        let missing =
            || format!("failed to fetch PVC from API server: persistentvolumeclaims \"{claim}\" not found");
        let found = get(&claims, claim).await?.ok_or_else(missing)?;
        let name = volume_of(&found, made_for)?;
        let volumes = kube::Api::<PersistentVolume>::all(self.client.clone());
        let missing =
            || format!("failed to fetch PV {name} from API server: persistentvolumes \"{name}\" not found");
        let volume = get(&volumes, &name).await?.ok_or_else(missing)?;
        let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let owner = owner.and_then(|reference| reference.uid.as_deref());
        if owner.is_some() && owner != found.metadata.uid.as_deref() {
            return Err(format!("PVC {claim}: the volume {name} is bound to another claim"));
        }
        Ok(volume)
    }

    fn follow(&self, pod_uid: &str, namespace: &str, names: &Names, listener: Listener) {
        for name in &names.config_maps {
            self.config_maps.follow(pod_uid, namespace, name, &listener);
        }
        for name in &names.secrets {
            self.secrets.follow(pod_uid, namespace, name, &listener);
        }
    }

    fn forget(&self, pod_uid: &str) {
        self.config_maps.forget(pod_uid);
        self.secrets.forget(pod_uid);
    }
}

/// The volume that a claim is bound to.
fn volume_of(claim: &PersistentVolumeClaim, made_for: Option<&str>) -> Result<String, String> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let owned = |uid: &str| claim.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid);
    if made_for.is_some_and(|uid| !owned(uid)) {
        return Err(format!("PVC {name} was not created for the pod (pod is not owner)"));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".to_string());
    }
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    volume.filter(|name| bound && !name.is_empty()).ok_or_else(|| "PVC is not bound".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_bound_claim_has_a_volume() {
        let claim =
            |value: serde_json::Value| -> PersistentVolumeClaim { serde_json::from_value(value).unwrap() };
        let bound = json!({"metadata": {"name": "c", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]},
            "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}});
        assert_eq!(volume_of(&claim(bound.clone()), None), Ok("v".into()));
        assert_eq!(volume_of(&claim(bound.clone()), Some("u")), Ok("v".into()));
        assert!(volume_of(&claim(bound.clone()), Some("other")).unwrap_err().contains("not owner"));
        let mut pending = bound;
        pending["status"]["phase"] = json!("Pending");
        assert_eq!(volume_of(&claim(pending), None), Err("PVC is not bound".into()));
    }
}

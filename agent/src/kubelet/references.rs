//! The ConfigMaps, Secrets and claims that a pod names, fetched before they are needed, so that everything that uses
//! them (environment, volumes, pull secrets) is a pure function. A node without a cluster has them from its manifests.

use crate::kubelet::pod;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PersistentVolume, Pod, Secret, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Where ConfigMaps and Secrets come from.
#[async_trait]
pub trait ObjectSource: Send + Sync + 'static {
    /// `Ok(None)` when there is none of that name; the error is for a person.
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, String>;
    /// The same for secrets.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, String>;
    /// What a claim is bound to. A claim whose name follows from the pod's must have been made for the pod with the
    /// uid `made_for`.
    async fn claimed(
        &self,
        namespace: &str,
        claim: &str,
        made_for: Option<&str>,
    ) -> Result<PersistentVolume, String>;
    /// From now on tells `listener` when one of these objects changes, until the pod is forgotten.
    fn follow(&self, pod_uid: &str, namespace: &str, names: &Names, listener: Listener);
    /// Ends what `follow` began.
    fn forget(&self, pod_uid: &str);
}

/// Learns that something a pod is made of has changed.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    changed: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

impl Listener {
    /// One that wakes `wake`.
    pub fn new(wake: Arc<Notify>) -> Listener {
        Listener { changed: Arc::default(), wake }
    }

    /// Something has changed.
    pub fn tell(&self) {
        self.changed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether something has changed since this was asked last.
    pub fn take(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }
}

/// Everything a pod names, as found.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// By name; absent when it does not exist.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// By name; absent when it does not exist.
    pub secrets: BTreeMap<String, Secret>,
    /// What each claim is bound to, or why it cannot be used.
    pub claims: BTreeMap<String, Result<PersistentVolume, String>>,
}

/// How the reason begins for which a claim cannot be used.
pub const CLAIM_FAILED: &str = "error processing PVC";

impl References {
    /// The bytes of a ConfigMap's key, from `data` or `binaryData`.
    pub fn config_key(&self, name: &str, key: &str) -> Option<Vec<u8>> {
        let map = self.config_maps.get(name)?;
        let text = map.data.as_ref().and_then(|data| data.get(key)).map(|text| text.as_bytes().to_vec());
        text.or_else(|| map.binary_data.as_ref()?.get(key).map(|bytes| bytes.0.clone()))
    }
}

/// The names of all ConfigMaps and Secrets that a pod uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    #[allow(missing_docs)]
    pub config_maps: BTreeSet<String>,
    #[allow(missing_docs)]
    pub secrets: BTreeSet<String>,
}

/// The claim behind a volume: the named one, or that of a generic ephemeral volume.
pub fn claim_name(pod: &Pod, volume: &Volume) -> Option<String> {
    let named = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
    named.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod::name(pod), volume.name)))
}

/// The objects that the pod's volumes are made of.
pub fn volume_names(pod: &Pod) -> Names {
    let mut names = Names::default();
    for volume in pod::spec(pod).volumes.iter().flatten() {
        names_of_volume(volume, &mut names);
    }
    names
}

/// Collects the names; references without a name are left to those who use them.
pub fn names(pod: &Pod) -> Names {
    let mut names = Names::default();
    for (_, container) in pod::containers(pod) {
        names_of_container(container, &mut names);
    }
    for (container, _) in pod::ephemeral_containers(pod) {
        names_of_container(&container, &mut names);
    }
    for volume in pod::spec(pod).volumes.iter().flatten() {
        names_of_volume(volume, &mut names);
    }
    names
        .secrets
        .extend(pod::spec(pod).image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()));
    names.config_maps.remove("");
    names.secrets.remove("");
    names
}

fn names_of_container(container: &Container, names: &mut Names) {
    for source in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
        names.config_maps.extend(source.config_map_key_ref.as_ref().map(|key| key.name.clone()));
        names.secrets.extend(source.secret_key_ref.as_ref().map(|key| key.name.clone()));
    }
    for source in container.env_from.iter().flatten() {
        names.config_maps.extend(source.config_map_ref.as_ref().map(|map| map.name.clone()));
        names.secrets.extend(source.secret_ref.as_ref().map(|secret| secret.name.clone()));
    }
}

fn names_of_volume(volume: &Volume, names: &mut Names) {
    names.config_maps.extend(volume.config_map.as_ref().map(|map| map.name.clone()));
    names.secrets.extend(volume.secret.as_ref().and_then(|secret| secret.secret_name.clone()));
    let projections = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
    for projection in projections.into_iter().flatten() {
        names.config_maps.extend(projection.config_map.as_ref().map(|map| map.name.clone()));
        names.secrets.extend(projection.secret.as_ref().map(|secret| secret.name.clone()));
    }
}

/// Fetches everything that `pod` names. A source that cannot answer is an error; a missing object is not.
pub async fn fetch(source: &dyn ObjectSource, pod: &Pod) -> Result<References, String> {
    let wanted = names(pod);
    let namespace = pod::namespace(pod);
    let mut found = References::default();
    for name in wanted.config_maps {
        if let Some(map) = source.config_map(namespace, &name).await? {
            found.config_maps.insert(name, map);
        }
    }
    for name in wanted.secrets {
        if let Some(secret) = source.secret(namespace, &name).await? {
            found.secrets.insert(name, secret);
        }
    }
    for volume in pod::spec(pod).volumes.iter().flatten() {
        let Some(claim) = claim_name(pod, volume) else { continue };
        let made_for = volume.ephemeral.as_ref().map(|_| pod::uid(pod));
        let bound = source.claimed(namespace, &claim, made_for).await;
        let explained = |error| format!("{CLAIM_FAILED} {namespace}/{claim}: {error}");
        found.claims.insert(claim.clone(), bound.map_err(explained));
    }
    Ok(found)
}

//! ConfigMaps and Secrets from an API server, kept for a few seconds so that the containers of a pod (and pods that
//! are started together) ask once.

use crate::kubelet::references::ObjectSource;
use async_trait::async_trait;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(5);
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Answers by namespace and name, with their age; held only for a look-up.
type Cache<T> = Mutex<HashMap<(String, String), (Instant, Option<T>)>>;

/// Objects of one cluster.
pub struct ClusterObjects {
    client: kube::Client,
    config_maps: Cache<ConfigMap>,
    secrets: Cache<Secret>,
}

impl std::fmt::Debug for ClusterObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterObjects").finish_non_exhaustive()
    }
}

impl ClusterObjects {
    /// Asks through this client.
    pub fn new(client: kube::Client) -> Self {
        Self { client, config_maps: Mutex::default(), secrets: Mutex::default() }
    }

    async fn get<T>(&self, cache: &Cache<T>, namespace: &str, name: &str) -> Result<Option<T>, String>
    where
        T: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let key = (namespace.to_string(), name.to_string());
        let known = |cache: &Cache<T>| {
            let cache = cache.lock().ok()?;
            cache.get(&key).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, object)| object.clone())
        };
        if let Some(object) = known(cache) {
            return Ok(object);
        }
        let api: kube::Api<T> = kube::Api::namespaced(self.client.clone(), namespace);
        let answer = tokio::time::timeout(CALL_DEADLINE, api.get_opt(name)).await;
        let object = answer
            .map_err(|_| format!("{namespace}/{name}: the API server does not answer"))?
            .map_err(|error| error.to_string())?;
        if let Ok(mut cache) = cache.lock() {
            cache.retain(|_, (at, _)| at.elapsed() < FRESH);
            cache.insert(key, (Instant::now(), object.clone()));
        }
        Ok(object)
    }
}

#[async_trait]
impl ObjectSource for ClusterObjects {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, String> {
        self.get(&self.config_maps, namespace, name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, String> {
        self.get(&self.secrets, namespace, name).await
    }
}

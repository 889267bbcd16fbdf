//! Every namespace has a service account `default` and the cluster's CA certificate as `kube-root-ca.crt`.

use super::informer::{Key, Lister};
use super::metadata::Metadata;
use super::runner::{Next, Reconcile};
use super::wiring::{Plane, Task, Wire};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// Name of the config map.
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";

/// Woken by namespaces, and by what it makes in them.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let ca_pem = plane.options.ca_pem.clone();
    let mut wire = Wire::new("serviceaccount", plane);
    let namespaces = wire.keys::<Namespace>();
    wire.woken_by::<ServiceAccount>(|old, new, queue| {
        if let (Some(account), None) = (old, new) {
            queue.add(Key::new("", &account.namespace().unwrap_or_default()));
        }
    });
    wire.woken_by::<Metadata<ConfigMap>>(|old, new, queue| {
        if let Some(map) = new.or(old).filter(|map| map.name_any() == ROOT_CA) {
            queue.add(Key::new("", &map.namespace().unwrap_or_default()));
        }
    });
    let controller = ServiceAccounts { client: wire.client(), namespaces, ca_pem };
    wire.run(1, controller)
}

/// Everything one reconcile needs.
pub(crate) struct ServiceAccounts {
    pub(crate) client: Client,
    pub(crate) namespaces: Lister<Namespace>,
    pub(crate) ca_pem: String,
}

impl Reconcile for ServiceAccounts {
    /// Makes what is missing in one namespace; the key's name is the namespace.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        if self.namespaces.get(&key).is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            return Ok(Next::Wait);
        }
        self.account(&key.name).await?;
        self.root_ca(&key.name).await?;
        Ok(Next::Wait)
    }
}

impl ServiceAccounts {
    async fn account(&self, namespace: &str) -> Result<(), kube::Error> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        if api.get_opt("default").await?.is_some() {
            return Ok(());
        }
        let account = ServiceAccount {
            metadata: ObjectMeta { name: Some("default".into()), ..ObjectMeta::default() },
            ..ServiceAccount::default()
        };
        api.create(&PostParams::default(), &account).await.map(drop)
    }

    async fn root_ca(&self, namespace: &str) -> Result<(), kube::Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let data = [("ca.crt".to_owned(), self.ca_pem.clone())].into();
        match api.get_opt(ROOT_CA).await? {
            Some(existing) if existing.data.as_ref() == Some(&data) => Ok(()),
            Some(_) => api
                .patch(ROOT_CA, &PatchParams::default(), &Patch::Merge(json!({"data": data})))
                .await
                .map(drop),
            None => {
                let map = ConfigMap {
                    metadata: ObjectMeta { name: Some(ROOT_CA.into()), ..ObjectMeta::default() },
                    data: Some(data),
                    ..ConfigMap::default()
                };
                api.create(&PostParams::default(), &map).await.map(drop)
            }
        }
    }
}

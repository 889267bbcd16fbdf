//! Namespace deletion: everything in it goes first, then its finalizer.

use super::dynamic;
use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, ignore_not_found, is_not_found};
use super::wiring::{Plane, Task, WORKERS, Wire};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::time::Duration;

/// How soon to look again while objects are on their way out.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Woken by its namespaces.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("namespace", plane);
    let controller = Namespaces { client: wire.client(), namespaces: wire.keys() };
    wire.run(WORKERS, controller)
}

/// Everything one reconcile needs.
pub(crate) struct Namespaces {
    pub(crate) client: Client,
    pub(crate) namespaces: Lister<Namespace>,
}

impl Reconcile for Namespaces {
    /// Empties a terminating namespace and lets it go.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(namespace) = self.namespaces.get(&key) else { return Ok(Next::Wait) };
        if namespace.metadata.deletion_timestamp.is_none() {
            return Ok(Next::Wait);
        }
        if self.delete_content(&key.name).await? > 0 {
            return Ok(Next::After(LOOK_AGAIN));
        }
        self.finalize(&namespace).await?;
        Ok(Next::Wait)
    }
}

impl Namespaces {
    /// Asks for the deletion of all objects; answers how many are left.
    async fn delete_content(&self, namespace: &str) -> Result<usize, kube::Error> {
        let mut left = 0;
        for kind in dynamic::deletable(&self.client).await?.into_iter().filter(|kind| kind.namespaced) {
            let api = kind.api(&self.client, Some(namespace));
            let objects = match api.list_metadata(&ListParams::default()).await {
                Ok(list) => list.items,
                Err(error) if is_not_found(&error) => continue,
                Err(error) => return Err(error),
            };
            left += objects.len();
            for object in objects.iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
                ignore_not_found(api.delete(&object.name_any(), &DeleteParams::background()).await)?;
            }
        }
        Ok(left)
    }

    /// Removes the `kubernetes` finalizer through the subresource that exists for it.
    async fn finalize(&self, namespace: &Namespace) -> Result<(), kube::Error> {
        let mut object = serde_json::to_value(namespace).map_err(kube::Error::SerdeError)?;
        object["apiVersion"] = json!("v1");
        object["kind"] = json!("Namespace");
        let kept: Vec<String> = namespace
            .spec
            .iter()
            .flat_map(|spec| spec.finalizers.iter().flatten())
            .filter(|name| *name != "kubernetes")
            .cloned()
            .collect();
        object["spec"]["finalizers"] = json!(kept);
        let name = namespace.name_any();
        let body = serde_json::to_vec(&object).map_err(kube::Error::SerdeError)?;
        let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))?;
        match self.client.request::<serde_json::Value>(request).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => {
                let api: Api<Namespace> = Api::all(self.client.clone());
                ignore_not_found(api.delete(&name, &DeleteParams::default()).await)
            }
        }
    }
}

//! The life of a namespace as the server enforces it: nothing is created in one that is missing or going.

use super::Server;
use super::stored;
use crate::registry::Resource;
use knarr_api::Status;

/// Clients may not delete these.
pub(crate) const PERMANENT: [&str; 3] = ["default", "kube-system", "kube-public"];

impl Server {
    /// Whether an object of `resource` may be created in `namespace`.
    pub(crate) async fn admit_into_namespace(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        if !resource.namespaced {
            return Ok(());
        }
        let key = format!("core/namespaces/{namespace}");
        let found =
            self.store.get(&key).await.map_err(|error| stored::refusal(resource, namespace, error))?;
        let entry = found.ok_or_else(|| Status::not_found("", "namespaces", namespace))?;
        // Most namespaces are not dying: look for the word before decoding.
        let dying = entry.value.windows(17).any(|window| window == b"deletionTimestamp")
            && knarr_api::meta::deletion_timestamp(&entry.object()).is_some();
        if dying {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let status = Status::forbidden(&resource.group, &resource.plural, name, &why);
            let message = format!("namespace {namespace} is being terminated");
            return Err(status.with_cause("NamespaceTerminating", &message));
        }
        Ok(())
    }
}

//! Resources whose objects are made when they are asked for, and stored nowhere: the state of the control plane's
//! components, and the usage of nodes and pods.

use super::{Call, Server, stored};
use crate::store::Entry;
use knarr_api::{Status, meta};
use serde_json::{Value, json};
use std::sync::Arc;

impl Server {
    /// The objects of such a resource; `None` where the store has them.
    pub(super) async fn computed(&self, call: &Call) -> Result<Option<Vec<Arc<Entry>>>, Status> {
        let resource = &call.resource;
        let namespace = call.path.namespace();
        let objects = match (&*resource.group, &*resource.plural) {
            ("", "componentstatuses") => components(),
            ("metrics.k8s.io", "nodes") => self.metrics.nodes(self).await?,
            ("metrics.k8s.io", "pods") => self.metrics.pods(self, namespace).await?,
            _ => return Ok(None),
        };
        let revision = self.store.revision();
        let entry = |mut object: Value| {
            object["apiVersion"] = resource.api_version().into();
            object["kind"] = (&*resource.kind).into();
            let key = stored::key(resource, meta::namespace(&object), meta::name(&object));
            Arc::new(Entry::new(key.into(), revision, object.to_string().into()))
        };
        let mut entries: Vec<Arc<Entry>> = objects.into_iter().map(entry).collect();
        entries.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(Some(entries))
    }

    /// One of them by its key.
    pub(super) async fn computed_one(&self, call: &Call) -> Result<Option<Arc<Entry>>, Status> {
        let Some(entries) = self.computed(call).await? else { return Ok(None) };
        let key = stored::key(&call.resource, call.path.namespace(), call.path.name());
        let found = entries.into_iter().find(|entry| *entry.key == *key);
        let (group, plural) = (&call.resource.group, &call.resource.plural);
        found.ok_or_else(|| Status::not_found(group, plural, call.path.name())).map(Some)
    }
}

/// Whoever asks is answered, so all of them run: they are one process.
fn components() -> Vec<Value> {
    let component = |name: &str| {
        let condition = json!({"type": "Healthy", "status": "True", "message": "ok"});
        json!({"metadata": {"name": name}, "conditions": [condition]})
    };
    ["controller-manager", "etcd-0", "scheduler"].map(component).into()
}

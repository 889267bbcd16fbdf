//! Writes of the scheduler, which runs beside the server: what a request of it would do, without a request around each.
//! They are counted like requests. Where requests are audited it makes requests, so that they stand in the log.

use super::change::{At, Manner};
use super::{Server, object_meta, verbs};
use crate::authn::User;
use crate::controllers::informer::Key;
use knarr_api::Status;
use knarr_api::patch::apply::Writer;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

/// Writes in the name of one component. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Direct {
    server: Arc<Server>,
    user: User,
    agent: &'static str,
}

impl Direct {
    /// Nobody asks whether it may; `agent` is whom owners of fields name, and after whom policies and webhooks know the
    /// user. Nothing where requests are audited.
    pub(crate) fn new(server: Arc<Server>, agent: &'static str) -> Option<Self> {
        server.audit.is_none().then(|| Self {
            server,
            user: User::new(format!("system:{agent}"), &[]),
            agent,
        })
    }

    /// Gives a pod its node.
    pub(crate) async fn bind(&self, pod: &Key, uid: &str, node: &str) -> Result<(), Status> {
        let began = Instant::now();
        let resource = self.server.table.find("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
        let at = At { resource: &resource, namespace: &pod.namespace, name: &pod.name };
        let bound = verbs::bind(&self.server, &self.user, at, uid, node).await;
        self.server.telemetry.count_created(&resource, "binding", &bound, began.elapsed());
        bound
    }

    /// Creates an event of `events.k8s.io`.
    pub(crate) async fn tell(&self, namespace: &str, event: Value) -> Result<(), Status> {
        let began = Instant::now();
        let resource =
            self.server.table.find("events.k8s.io", "v1", "events").ok_or_else(Status::no_such_resource)?;
        let writer = Writer {
            manager: self.agent.to_owned(),
            api_version: resource.api_version(),
            subresource: String::new(),
            time: object_meta::now(),
        };
        let manner = Manner { writer: Some(writer), by: Some(self.user.clone()), ..Manner::OWN };
        let told = self.server.insert(&resource, namespace, event, &manner).await.map(drop);
        self.server.telemetry.count_created(&resource, "", &told, began.elapsed());
        told
    }
}

//! Admission: what has a say in a write besides the rules of its kind.
//!
//! A write passes twice. First those that fill in ([`Server::mutate`]): a pod's service account, its priority, default
//! amounts, the default storage class. Then, when the object is complete and valid, those that may only refuse
//! ([`Server::admit`]), policies of the cluster and webhooks among them. Quotas come last, because only a write that nothing else refuses may count.
//!
//! Each policy is one file; each looks at the write and returns at once when it is not concerned, so that a write that
//! no policy is about costs a few comparisons.

use crate::authn::User;
use crate::registry::Resource;
use crate::schema::{self, Strictness, Written};
use crate::server::Server;
use crate::store::ListQuery;
use knarr_api::Status;
use serde_json::Value;

mod bindings;
mod certificate_requests;
mod claim_resize;
mod image_policy;
mod limit_ranges;
mod matching;
mod mutating_policies;
mod node_restriction;
mod node_taint;
mod pod_security;
mod policies;
mod priority;
mod quotas;
mod rbac_escalation;
mod rights;
mod runtime_class;
mod service_account;
mod storage_class;
mod versions;
pub(crate) mod volume_protection;
mod webhooks;

pub(crate) use quotas::{Counting, Quotas};

/// What is done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// A stream to a pod: exec, attach, port-forward, proxy. The object holds its options.
    Connect,
}

/// Group, version and kind.
pub(crate) type Kind<'a> = (&'a str, &'a str, &'a str);

/// One write, as far as admission must know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write<'a> {
    pub(crate) user: &'a User,
    pub(crate) operation: Operation,
    pub(crate) resource: &'a Resource,
    /// What the client wrote, where `resource` is another version of it.
    pub(crate) sent: Option<&'a Resource>,
    pub(crate) subresource: &'a str,
    /// Of the object, where a subresource takes another one than its resource: a Scale, a Binding, an Eviction.
    pub(crate) kind: Option<Kind<'a>>,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// What the name will begin with, of an object that has none yet.
    pub(crate) prefix: &'a str,
    /// The state before; `None` for a new object.
    pub(crate) old: Option<&'a Value>,
    pub(crate) dry_run: bool,
    /// How the client wanted it done: `CreateOptions` and their like, without the kind.
    pub(crate) options: Option<&'a Value>,
}

impl<'a> Write<'a> {
    /// What the client wrote, for one that is seen as something else.
    fn sent(&self) -> Option<&'a Resource> {
        self.sent.or(Some(self.resource))
    }
}

impl Write<'_> {
    /// What kind of object is written.
    fn kind(&self) -> Kind<'_> {
        self.kind.unwrap_or((&self.resource.group, &self.resource.version, &self.resource.kind))
    }

    /// Whether it is about the objects of this resource themselves.
    fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.resource.group == group && self.resource.plural == plural
    }

    /// Whether a pod that runs is to have other resources.
    fn resizes(&self) -> bool {
        self.subresource == "resize" && self.resource.group.is_empty() && self.resource.plural == "pods"
    }

    /// Whether a new object of this resource is made.
    fn creates(&self, group: &str, plural: &str) -> bool {
        self.operation == Operation::Create && self.is(group, plural)
    }

    /// The refusal, in the words that every admission plugin of Kubernetes uses.
    fn forbidden(&self, why: &str) -> Status {
        let name = if self.name.is_empty() { self.prefix } else { self.name };
        Status::forbidden(&self.resource.group, &self.resource.plural, name, why)
    }
}

impl Server {
    /// Fills in what policies of the cluster add to an object.
    pub(crate) async fn mutate(&self, write: Write<'_>, object: &mut Value) -> Result<(), Status> {
        if write.creates("", "pods") {
            service_account::fill_in(self, write, object).await?;
            priority::fill_in(self, write, object).await?;
            limit_ranges::fill_in(self, write, object).await?;
            runtime_class::fill_in(self, write, object).await?;
        }
        if write.creates("", "persistentvolumeclaims") {
            storage_class::fill_in(self, object).await?;
        }
        if write.creates("", "nodes") {
            node_taint::fill_in(object);
        }
        volume_protection::fill_in(write, object);
        certificate_requests::fill_in(write, object);
        let round = mutating_policies::mutate(self, write, object).await?;
        let changed = webhooks::mutate(self, write, object).await?;
        if changed {
            self.read_again(write, object)?;
        }
        mutating_policies::again(self, write, object, round, changed).await
    }

    /// The same for what is sent to a subresource that takes an object of its own: filled in, then asked about.
    pub(crate) async fn admit_sent(
        &self,
        write: Write<'_>,
        object: &mut Value,
    ) -> Result<Vec<String>, Status> {
        self.mutate(write, object).await?;
        self.admit(write, object).await
    }

    /// Whether anybody but the server itself might have a say in a write: a policy in force or a webhook.
    pub(crate) async fn is_judged(&self) -> Result<bool, Status> {
        for prefix in JUDGES {
            let query = ListQuery { prefix, limit: Some(1), ..ListQuery::default() };
            if !self.store.list(query).await.map_err(Status::internal)?.entries.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What comes back from outside is checked and completed like what comes from a client.
    fn read_again(&self, write: Write<'_>, object: &mut Value) -> Result<(), Status> {
        let changed = complete(write, std::mem::take(object), Strictness::Ignore);
        *object = changed.map_err(|error| Status::internal(format!("changed by a webhook: {error}")))?;
        Ok(())
    }

    /// Asks every policy whether the complete object may be written. Gives what the client should be warned of.
    pub(crate) async fn admit(&self, write: Write<'_>, object: &Value) -> Result<Vec<String>, Status> {
        node_restriction::check(self, write, object).await?;
        certificate_requests::check(self, write, object).await?;
        rbac_escalation::check(self, write, object).await?;
        priority::check_class(self, write, object).await?;
        claim_resize::check(self, write, object).await?;
        limit_ranges::check(self, write, object).await?;
        image_policy::check(self, write, object).await?;
        let mut warnings = pod_security::check(self, write, object).await?;
        warnings.extend(policies::check(self, write, object).await?);
        warnings.extend(webhooks::validate(self, write, object).await?);
        Ok(warnings)
    }

    /// The decoded object at `key`, if it is there.
    pub(crate) async fn object_at(&self, key: &str) -> Result<Option<Value>, Status> {
        let found = self.store.get(key).await.map_err(Status::internal)?;
        Ok(found.map(|entry| entry.object()))
    }

    /// Every object below `prefix`, decoded.
    pub(crate) async fn objects_below(&self, prefix: &str) -> Result<Vec<Value>, Status> {
        let page = self.store.list(ListQuery { prefix, ..ListQuery::default() }).await;
        Ok(page.map_err(Status::internal)?.entries.iter().map(|entry| entry.object()).collect())
    }
}

/// An object that something else than its writer changed: its types are checked and its defaults filled in again.
fn complete(write: Write<'_>, object: Value, strictness: Strictness) -> Result<Value, schema::DecodeError> {
    let (resource, (group, version, kind)) = (write.resource, write.kind());
    let own = write.kind.is_none();
    let decoded = match resource.schema.as_ref().filter(|_| own) {
        Some(custom) => {
            schema::decode_custom(version, kind, custom, object, Written::Faults(Vec::new()), strictness)
        }
        None => schema::decode(group, version, kind, object, Written::Faults(Vec::new()), strictness),
    };
    let mut object = decoded?.object;
    if own {
        resource.strategy.default(&mut object);
    }
    Ok(object)
}

/// Below these are those who have a say in writes.
const JUDGES: [&str; 4] = [
    "admissionregistration.k8s.io/mutatingadmissionpolicybindings/",
    "admissionregistration.k8s.io/mutatingwebhookconfigurations/",
    "admissionregistration.k8s.io/validatingadmissionpolicybindings/",
    "admissionregistration.k8s.io/validatingwebhookconfigurations/",
];

/// The groups of containers of a pod, in the order Kubernetes names them in messages.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Every container of a pod specification.
fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    CONTAINERS.into_iter().flat_map(|group| spec[group].as_array().into_iter().flatten())
}

/// The pod specification of a pod, or of the template in a workload; `None` where the kind has none.
fn pod_of<'a>(resource: &Resource, object: &'a Value) -> Option<&'a Value> {
    let path = match (&*resource.group, &*resource.plural) {
        ("", "pods") => return Some(object),
        ("", "podtemplates") => "/template",
        ("", "replicationcontrollers") | ("batch", "jobs") => "/spec/template",
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    object.pointer(path)
}

/// Whether the pod mirrors one that its node runs from a file: nothing can be added to it.
fn is_mirror(pod: &Value) -> bool {
    knarr_api::meta::annotation(pod, "kubernetes.io/config.mirror").is_some()
}

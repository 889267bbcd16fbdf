//! Every kind of object the server knows, as one table: a row of facts plus a [`Strategy`].
//!
//! The verbs (get, list, watch, create, update, patch, delete, deletecollection) are generic over this table; there
//! is no handler per resource. A custom resource is a row added at run time. Objects are `serde_json::Value`s, as
//! they came from the client: a field that this version does not know survives only where a schema says so.

use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

mod addresses;
mod amount_status_rules;
mod builtin;
mod cells;
pub(crate) mod columns;
pub(crate) mod custom;
pub(crate) mod faults;
pub(crate) mod fields;
pub(crate) mod json_path;
mod resource_claims;
mod resource_names;
mod row;
mod rules;
mod table;
mod validation;
mod warnings;

mod autoscaler_behavior;
mod autoscaler_metrics;
mod certificate_rules;
mod container_inputs;
mod containers;
mod ingress_backends;
mod job_policies;
mod job_status_indexes;
mod job_status_rules;
mod network_peers;
mod node_affinity;
mod pod_changes;
mod pod_names;
mod pod_parts;
mod pod_placement;
mod pod_resize;
mod pod_resources;
mod pod_security_context;
mod pod_spec;
mod pod_status;
mod pod_status_rules;
mod pod_template;
mod policy_rules;
mod probes;
mod quota_scopes;
mod resources;
mod service_addresses;
mod service_ports;
mod service_type;
mod volume_files;
mod volume_sources;
mod volumes;

mod admissionpolicies;
mod admissionwebhooks;
mod apiservices;
mod certificatesigningrequests;
mod componentstatuses;
mod configmaps;
mod controllerrevisions;
mod cronjobs;
mod csidrivers;
mod csinodes;
mod csistoragecapacities;
mod customresourcedefinitions;
mod daemonsets;
mod data_sources;
mod definition_versions;
mod deployments;
mod endpoints;
mod endpointslices;
mod events;
mod flowcontrol;
mod horizontalpodautoscalers;
mod ingressclasses;
mod ingresses;
mod ipaddresses;
mod jobs;
mod leases;
mod limitranges;
mod metrics;
mod namespaces;
mod networkpolicies;
mod nodes;
mod persistentvolumeclaims;
mod persistentvolumes;
mod poddisruptionbudgets;
mod pods;
mod podtemplates;
mod priorityclasses;
mod replicasets;
mod replicationcontrollers;
mod resourcequotas;
mod reviews;
mod rolebindings;
mod roles;
mod runtimeclasses;
mod secrets;
mod serviceaccounts;
mod servicecidrs;
mod services;
mod statefulsets;
mod status_rules;
mod storageclasses;
mod volumeattachments;

pub(crate) use faults::Faults;
pub(crate) use service_type::has_health_port;
pub use table::Table;

/// One row: one resource in one version.
#[derive(Clone)]
pub struct Resource {
    /// API group, `""` for the core one.
    pub group: Cow<'static, str>,
    #[allow(missing_docs)]
    pub version: Cow<'static, str>,
    #[allow(missing_docs)]
    pub kind: Cow<'static, str>,
    /// Name in URLs: `pods`.
    pub plural: Cow<'static, str>,
    #[allow(missing_docs)]
    pub singular: Cow<'static, str>,
    #[allow(missing_docs)]
    pub short_names: Vec<Cow<'static, str>>,
    /// `all` where `kubectl get all` shows it.
    pub categories: Vec<Cow<'static, str>>,
    #[allow(missing_docs)]
    pub namespaced: bool,
    /// Verbs as discovery lists them.
    pub verbs: Vec<Cow<'static, str>>,
    #[allow(missing_docs)]
    pub subresources: Vec<Subresource>,
    /// Printer columns, in order; the server's Table answers are made from these.
    pub columns: Vec<Column>,
    /// What is particular about this kind.
    pub strategy: Arc<dyn Strategy>,
    /// Where its objects are stored, if not under its own group and plural: two versions of one kind share their
    /// objects (events of the core group and of events.k8s.io, both versions of autoscalers).
    pub stored_as: Option<StoredAs>,
    /// The OpenAPI schema of a custom resource; built-in kinds have theirs in `schema`.
    pub schema: Option<Arc<Value>>,
    /// What else the definition of a custom resource says.
    pub custom: Option<Arc<Custom>>,
}

/// How a custom resource is kept and scaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Custom {
    /// `apiVersion` of what is written now; older objects keep theirs until they are written again.
    pub stored: String,
    /// `spec.conversion.webhook`, where versions differ in more than their name.
    pub webhook: Option<Value>,
    /// The schema has defaults, which objects that are older than those lack.
    pub has_defaults: bool,
    /// `subresources.scale`: JSON pointers.
    pub scale: Option<ScalePaths>,
    /// What whoever uses a deprecated version is told.
    pub warning: Option<String>,
}

/// Where the numbers of a custom resource are that `/scale` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    /// `/spec/replicas`
    pub wanted: String,
    /// `/status/replicas`
    pub found: String,
    /// A selector in its text form; may be empty.
    pub selector: String,
}

impl Resource {
    /// `v1`, `apps/v1`: what `apiVersion` says.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods`, `deployments.apps`: how messages name it.
    pub fn qualified_name(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    /// Whether `verb` may be used on it.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|allowed| allowed == verb)
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Resource({} {})", self.api_version(), self.plural)
    }
}

/// Turns an object from one version of its kind into another.
pub type Convert = Arc<dyn Fn(Value) -> Value + Send + Sync>;

/// The row that holds the objects of another one, and the way between the two shapes.
#[derive(Clone)]
pub struct StoredAs {
    /// Group, version and plural of the row whose objects these are.
    pub row: (Cow<'static, str>, Cow<'static, str>, Cow<'static, str>),
    /// From this version to the stored one.
    pub to_stored: Convert,
    /// From the stored version to this one.
    pub from_stored: Convert,
}

impl fmt::Debug for StoredAs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StoredAs({:?})", self.row)
    }
}

/// A path below an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `scale`, `binding`, `log`, `exec`, `eviction`, `token`, ...
    pub name: Cow<'static, str>,
    /// Group, version and kind of its body (`autoscaling/v1 Scale`); the parent's own where absent.
    pub body: Option<(Cow<'static, str>, Cow<'static, str>, Cow<'static, str>)>,
    #[allow(missing_docs)]
    pub verbs: Vec<Cow<'static, str>>,
}

/// Makes the cell of one object at one moment.
pub type Cell = Arc<dyn Fn(&Value, jiff::Timestamp) -> Value + Send + Sync>;

/// A printer column.
#[derive(Clone)]
pub struct Column {
    /// `Ready`; kubectl upper-cases it.
    pub name: Cow<'static, str>,
    /// OpenAPI type: `string`, `integer`, `date`.
    pub kind: &'static str,
    /// `name` marks the identifying column.
    pub format: &'static str,
    #[allow(missing_docs)]
    pub description: Cow<'static, str>,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
    /// The cell of one object at this moment.
    pub cell: Cell,
}

impl fmt::Debug for Column {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Column({})", self.name)
    }
}

/// What is particular about one kind: pure functions over objects, called by the generic verbs in this order:
/// `default`, `prepare_create` or `prepare_update`, then `validate` or `validate_update`.
pub trait Strategy: Send + Sync + 'static {
    /// Fills in the defaults that Kubernetes documents.
    fn default(&self, object: &mut Value) {
        let _ = object;
    }

    /// Drops what a client may not set on create (status), sets what the server owns (generation 1, phase).
    fn prepare_create(&self, object: &mut Value) {
        let _ = object;
    }

    /// Keeps what an update may not touch; bumps `metadata.generation` when the spec changed.
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let _ = (new, old);
    }

    /// The same for an update through `/status`: everything but the status comes from `old`.
    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        let _ = (new, old);
    }

    /// The same for an update through a part of the object with a path of its own (`ephemeralcontainers`, `resize`,
    /// `approval`): everything but that part comes from `old`. Gives the faults of the change.
    fn prepare_part_update(&self, part: &str, new: &mut Value, old: &Value) -> Vec<Cause> {
        let _ = part;
        self.prepare_update(new, old);
        self.validate_update(new, old)
    }

    /// Every fault of a new object.
    fn validate(&self, object: &Value) -> Vec<Cause> {
        let _ = object;
        Vec::new()
    }

    /// Every fault of a change, immutable fields included.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<Cause> {
        let _ = old;
        self.validate(new)
    }

    /// Every fault of an update through `/status`.
    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<Cause> {
        let _ = (new, old);
        Vec::new()
    }

    /// What the author of an object should know about it, though nothing is wrong.
    fn warnings(&self, object: &Value) -> Vec<String> {
        let _ = object;
        Vec::new()
    }

    /// The value of a field that a field selector may name beyond `metadata.name` and `metadata.namespace`; the
    /// outer `None` means that the field is not selectable.
    fn selectable(&self, object: &Value, field: &str) -> Option<String> {
        let _ = (object, field);
        None
    }

    /// Seconds an object lives on after DELETE with `requested` grace; 0 removes it at once. (Pods: their own
    /// `terminationGracePeriodSeconds`, 0 when no node has them.)
    fn deletion_grace_seconds(&self, object: &Value, requested: Option<i64>) -> i64 {
        let _ = (object, requested);
        0
    }

    /// Whether `metadata.generation` is kept for this kind.
    fn has_generation(&self) -> bool {
        true
    }
}

/// One fault: becomes an entry of `details.causes`, and a part of the message of a 422.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueRequired`, `FieldValueInvalid`, `FieldValueNotSupported`, `FieldValueForbidden`, ...
    pub reason: &'static str,
    /// `spec.containers[0].image`
    pub field: String,
    /// `Required value`, `Invalid value: "x": must be ...`
    pub message: String,
}

//! Which objects of a list or watch a client wants: label and field selectors, evaluated on stored entries.

use super::{Call, stored};
use crate::registry::Resource;
use crate::store::Entry;
use knarr_api::{FieldSelector, LabelSelector, Status, meta};
use serde_json::{Value, json};

/// Both selectors of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// From the query; a request for a whole resource that names one object selects by that name.
    pub(crate) fn of(call: &Call) -> Result<Self, Status> {
        let labels = LabelSelector::parse(call.query.get("labelSelector").unwrap_or_default());
        let labels = labels.map_err(Status::bad_request)?;
        let fields = FieldSelector::parse(call.query.get("fieldSelector").unwrap_or_default());
        let fields = fields.map_err(Status::bad_request)?;
        let empty = json!({});
        for term in &fields.terms {
            let field = &*term.field;
            if !is_metadata(field) && call.resource.strategy.selectable(&empty, field).is_none() {
                return Err(Status::bad_request(unknown_field(&call.resource, field)));
            }
        }
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The prefix of every key that can match: of one object, where its name is given and its place is known.
    pub(crate) fn prefix(&self, call: &Call) -> String {
        let prefix = stored::prefix(&call.resource, &call.path);
        let placed = call.path.namespace.is_some() || !call.resource.namespaced;
        match self.fields.exact("metadata.name") {
            Some(name) if placed => format!("{prefix}{name}"),
            _ => prefix,
        }
    }

    /// The value that the store's index of the resource is to be asked for, where the selectors name one.
    pub(crate) fn indexed(&self, prefix: &str) -> Option<&str> {
        self.fields.exact(crate::store::index::field(prefix)?)
    }

    pub(crate) fn matches(&self, resource: &Resource, entry: &Entry) -> bool {
        self.labels.matches(|key| entry.label(key))
            && self.fields.matches(|field| value(resource, entry, field))
    }
}

/// Kinds with selectable fields of their own have words of their own.
fn unknown_field(resource: &Resource, field: &str) -> String {
    const OWN: [(&str, &str); 9] = [
        ("", "Event"),
        ("", "Namespace"),
        ("", "Node"),
        ("", "Pod"),
        ("", "ReplicationController"),
        ("", "Secret"),
        ("", "Service"),
        ("certificates.k8s.io", "CertificateSigningRequest"),
        ("events.k8s.io", "Event"),
    ];
    let kind = (&*resource.group, &*resource.kind);
    if kind == ("batch", "Job") {
        format!("field label {field:?} not supported for Job")
    } else if resource.custom.is_some() || OWN.contains(&kind) {
        format!("field label not supported: {field}")
    } else {
        format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    }
}

fn is_metadata(field: &str) -> bool {
    matches!(field, "metadata.name" | "metadata.namespace")
}

fn value(resource: &Resource, entry: &Entry, field: &str) -> String {
    if field == "metadata.name" {
        return entry.name().to_owned();
    }
    let compute = |object: &Value| match field {
        "metadata.namespace" => meta::namespace(object).to_owned(),
        field => {
            let object = stored::served(resource, object.clone());
            resource.strategy.selectable(&object, field).unwrap_or_default()
        }
    };
    // Two versions of one stored kind may name different fields alike.
    entry.field(&format!("{}/{}:{field}", resource.group, resource.version), compute).into()
}

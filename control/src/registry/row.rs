//! Building a row of the table: the file of a resource reads like the entry of a catalogue.

use super::rules::Rules;
use super::{Column, Resource, StoredAs, Subresource};
use std::borrow::Cow;
use std::sync::Arc;

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const OBJECT_VERBS: [&str; 3] = ["get", "patch", "update"];
const PROXY_VERBS: [&str; 5] = ["create", "delete", "get", "patch", "update"];

/// A row under construction. The finished one comes out of [`Row::done`].
pub(super) struct Row {
    resource: Resource,
    rules: Rules,
}

impl Row {
    /// A resource inside namespaces.
    pub(super) fn namespaced(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Row {
        let resource = Resource {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            verbs: VERBS.iter().map(|verb| Cow::Borrowed(*verb)).collect(),
            subresources: Vec::new(),
            columns: Vec::new(),
            strategy: Arc::new(Rules::NONE),
            stored_as: None,
            schema: None,
            custom: None,
        };
        Row { resource, rules: Rules::NONE }
    }

    /// A resource of the cluster as a whole.
    pub(super) fn cluster(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Row {
        let mut row = Row::namespaced(group, version, kind, plural);
        row.resource.namespaced = false;
        row
    }

    /// Names that kubectl takes for it.
    pub(super) fn short(mut self, names: &[&'static str]) -> Row {
        self.resource.short_names = names.iter().map(|name| Cow::Borrowed(*name)).collect();
        self
    }

    /// `all` where `kubectl get all` shows it.
    pub(super) fn category(mut self, name: &'static str) -> Row {
        self.resource.categories.push(name.into());
        self
    }

    /// Replaces the full set of verbs.
    pub(super) fn verbs(mut self, verbs: &[&'static str]) -> Row {
        self.resource.verbs = verbs.iter().map(|verb| Cow::Borrowed(*verb)).collect();
        self
    }

    /// A `/status` that only its owner writes; plain updates cannot touch `.status`.
    pub(super) fn status(mut self) -> Row {
        self.rules.has_status = true;
        self.subresource("status", None, &OBJECT_VERBS)
    }

    /// A `/scale` with an autoscaling/v1 body.
    pub(super) fn scale(self) -> Row {
        self.subresource("scale", Some(("autoscaling", "v1", "Scale")), &OBJECT_VERBS)
    }

    /// A part of the object with a path of its own and the object itself as its body.
    pub(super) fn part(self, name: &'static str) -> Row {
        self.subresource(name, None, &OBJECT_VERBS)
    }

    /// A proxied HTTP connection below the object.
    pub(super) fn proxy(self, options: &'static str) -> Row {
        self.subresource("proxy", Some(("", "v1", options)), &PROXY_VERBS)
    }

    /// A path below the object: its name, the group, version and kind of its body, its verbs.
    pub(super) fn subresource(
        mut self,
        name: &'static str,
        body: Option<(&'static str, &'static str, &'static str)>,
        verbs: &[&'static str],
    ) -> Row {
        self.resource.subresources.push(Subresource {
            name: name.into(),
            body: body.map(|(group, version, kind)| (group.into(), version.into(), kind.into())),
            verbs: verbs.iter().map(|verb| Cow::Borrowed(*verb)).collect(),
        });
        self
    }

    /// Printer columns, in order.
    pub(super) fn columns(mut self, columns: Vec<Column>) -> Row {
        self.resource.columns = columns;
        self
    }

    /// What is particular about the kind.
    pub(super) fn rules(mut self, rules: Rules) -> Row {
        self.rules = Rules { has_status: self.rules.has_status, ..rules };
        self
    }

    /// Its objects are those of another row.
    pub(super) fn stored_as(mut self, stored_as: StoredAs) -> Row {
        self.resource.stored_as = Some(stored_as);
        self
    }

    /// The schema of a kind that no published type describes.
    pub(super) fn schema(mut self, schema: serde_json::Value) -> Row {
        self.resource.schema = Some(Arc::new(schema));
        self
    }

    /// The finished row.
    pub(super) fn done(mut self) -> Resource {
        self.resource.strategy = Arc::new(self.rules);
        self.resource.subresources.sort_by(|a, b| a.name.cmp(&b.name));
        self.resource
    }
}

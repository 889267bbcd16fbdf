//! Every kind that the server lists, for the two controllers that care about all of them: namespace deletion and
//! garbage collection.

use super::metadata::Metadata;
use crate::registry::fields;
use kube::api::DynamicObject;
use kube::discovery::{ApiCapabilities, ApiResource, Discovery, Scope, verbs};
use kube::{Api, Client};
use serde_json::Value;

/// A kind and where its objects live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
}

/// Group versions whose server does not answer, so that nobody knows what there is of them.
pub(crate) async fn silent(client: &Client) -> Result<Vec<String>, kube::Error> {
    const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let request = http::Request::get("/apis").header(http::header::ACCEPT, ACCEPT).body(Vec::new());
    let request = request
        .map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))?;
    let told: Value = client.request(request).await?;
    let mut silent = Vec::new();
    for group in fields::list(&told, "/items") {
        let versions = fields::list(group, "/versions").iter();
        for version in versions.filter(|version| version["freshness"] == "Stale") {
            let (group, version) = (fields::text(group, "/metadata/name"), fields::text(version, "/version"));
            silent.push(format!("{group}/{version}"));
        }
    }
    Ok(silent)
}

/// Kinds that can be listed and deleted, one version each. All groups in two requests, so that none goes away between
/// the list of groups and a question about one of them.
pub(crate) async fn deletable(client: &Client) -> Result<Vec<Kind>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let kinds = discovery.groups().flat_map(|group| group.recommended_resources());
    Ok(kinds
        .filter(usable)
        .map(|(resource, capabilities)| Kind {
            resource,
            namespaced: capabilities.scope == Scope::Namespaced,
        })
        .collect())
}

fn usable((resource, capabilities): &(ApiResource, ApiCapabilities)) -> bool {
    let supports = |verb| capabilities.supports_operation(verb);
    // Events exist twice, under two groups, as the same objects.
    let second_view = resource.group == "events.k8s.io";
    supports(verbs::LIST) && supports(verbs::DELETE) && supports(verbs::WATCH) && !second_view
}

impl Kind {
    /// The metadata of all objects.
    pub(crate) fn metadata(&self, client: &Client) -> Api<Metadata<DynamicObject>> {
        Api::all_with(client.clone(), &self.resource)
    }

    /// The objects of one namespace, or of the cluster.
    pub(crate) fn api(&self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }
}

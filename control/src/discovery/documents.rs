//! The documents of discovery, with their fields in the order in which Kubernetes writes them: people compare what
//! `kubectl get --raw` prints, and scripts search it for several fields at once.

use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;

/// `GET /api`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Versions {
    pub(super) kind: &'static str,
    pub(super) versions: Vec<String>,
    #[serde(rename = "serverAddressByClientCIDRs")]
    pub(super) server_addresses: [(); 0],
}

/// `GET /apis`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Groups {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) groups: Vec<Group>,
}

/// `GET /apis/GROUP`, and an entry of the list, which says no kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Group {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_version: Option<&'static str>,
    pub(super) name: String,
    pub(super) versions: Vec<Version>,
    pub(super) preferred_version: Option<Version>,
}

/// One version of a group.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    pub(super) group_version: String,
    pub(super) version: String,
}

/// `GET /api/v1`, `GET /apis/GROUP/VERSION`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Resources {
    pub(super) kind: &'static str,
    /// The core group is older than this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_version: Option<&'static str>,
    pub(super) group_version: String,
    pub(super) resources: Vec<Entry>,
}

/// A resource, or a subresource of one.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) singular_name: String,
    pub(super) namespaced: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) verbs: Vec<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) short_names: Vec<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) categories: Vec<Cow<'static, str>>,
    /// Changes when objects are kept in another version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storage_version_hash: Option<String>,
}

/// `GET /api` and `GET /apis` in the aggregated form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Aggregated {
    pub(super) kind: &'static str,
    pub(super) api_version: String,
    pub(super) metadata: Named,
    pub(super) items: Vec<AggregatedGroup>,
}

/// Metadata with a name, if there is one.
#[derive(Debug, Default, Serialize)]
pub(super) struct Named {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
}

#[derive(Debug, Serialize)]
pub(super) struct AggregatedGroup {
    pub(super) metadata: Named,
    pub(super) versions: Vec<AggregatedVersion>,
}

/// Our own, or as another server tells it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum AggregatedVersion {
    Own { version: String, resources: Vec<AggregatedResource>, freshness: &'static str },
    Foreign(Value),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AggregatedResource {
    pub(super) resource: String,
    pub(super) response_kind: Kind,
    pub(super) scope: &'static str,
    pub(super) singular_resource: String,
    pub(super) verbs: Vec<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) short_names: Vec<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) categories: Vec<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) subresources: Vec<AggregatedSubresource>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AggregatedSubresource {
    pub(super) subresource: String,
    pub(super) response_kind: Kind,
    pub(super) verbs: Vec<Cow<'static, str>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Kind {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
}

//! Status writes: the whole status, on the version it was computed from.
//!
//! A merge patch could not take a field away again (a count that became zero), and a status computed from an old copy
//! must not win over a newer one.

use super::runner::ignore_not_found;
use kube::api::PostParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Replaces the status of `object` by the one it carries; an object that is gone needs none.
pub(crate) async fn replace<K>(client: &Client, object: &K) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    ignore_not_found(api.replace_status(&object.name_any(), &PostParams::default(), object).await)
}

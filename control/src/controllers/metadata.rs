//! Objects of which only the metadata is kept. What else comes with them is passed over without being read: of every
//! object of every kind something like this is made.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use std::borrow::Cow;
use std::marker::PhantomData;

/// The metadata of an object of kind `K`.
#[derive(Deserialize)]
#[serde(bound = "")]
pub(crate) struct Metadata<K> {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Metadata<K> {
    fn clone(&self) -> Self {
        Self { metadata: self.metadata.clone(), kind: PhantomData }
    }
}

impl<K> std::fmt::Debug for Metadata<K> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Metadata").field(&self.metadata).finish()
    }
}

impl<K: Resource> Resource for Metadata<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    #[test]
    fn nothing_but_the_metadata_is_read() {
        let object =
            json!({"kind": "Pod", "apiVersion": "v1", "spec": {"containers": 7}, "metadata": {"name": "p"}});
        let read: Metadata<Pod> = serde_json::from_value(object).unwrap();
        assert_eq!((read.meta().name.as_deref(), &*Metadata::<Pod>::kind(&())), (Some("p"), "Pod"));
    }
}

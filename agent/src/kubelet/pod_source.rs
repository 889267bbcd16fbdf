//! Where pods come from: an API server's watch, a directory of manifests, or both at once.

pub mod cluster;
pub mod manifests;

use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

/// What a source has to say.
#[derive(Debug, Clone)]
pub enum SourceEvent {
    /// A pod that should run here, or its newer version.
    Upsert(Arc<Pod>),
    /// The pod with this uid should not run here any more.
    Gone(String),
    /// All of a source's pods are these (by uid); any other one that came from it is gone.
    All(Origin, Vec<String>),
}

/// Which source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    #[allow(missing_docs)]
    Cluster,
    #[allow(missing_docs)]
    Manifests,
}

//! Where pods come from: an API server's watch, a directory of manifests, a manifest on a web server, or all at once.

pub mod cluster;
pub mod manifest_url;
pub mod manifests;

use crate::kubelet::pod;
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
    /// A web server's manifest.
    Url,
}

impl Origin {
    /// Where this pod came from, by what its source has written on it.
    pub fn of(pod: &Pod) -> Origin {
        match pod::annotation(pod, pod::SOURCE_ANNOTATION) {
            Some("http") if pod::is_static(pod) => Origin::Url,
            _ if pod::is_static(pod) => Origin::Manifests,
            _ => Origin::Cluster,
        }
    }
}

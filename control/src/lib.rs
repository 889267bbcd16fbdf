//! A small Kubernetes-compatible control plane.

pub mod registry;

//! A small Kubernetes-compatible control plane.

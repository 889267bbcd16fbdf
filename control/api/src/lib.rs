//! Kubernetes object metadata, quantities, selectors and patches; no IO.

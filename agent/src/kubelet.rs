//! The kubelet half: pods from a cluster or a directory, kept as they should be through the CRI traits.

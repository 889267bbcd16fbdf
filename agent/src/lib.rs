//! The node agent: an engine that implements the Container Runtime Interface and a kubelet that drives it.

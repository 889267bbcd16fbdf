//! The node agent: an engine that implements the Container Runtime Interface and a kubelet that drives it.
//!
//! The two halves meet only at the traits of `knarr-cri`, so each also works with a foreign partner: our kubelet
//! on containerd, a foreign kubelet (or crictl) on our engine. The kubelet half knows its cluster only through a
//! `kube::Client`, or not at all (pods from a directory of manifests).

pub mod config;
pub mod config_reference;
mod conntrack;
mod data_lock;
mod descriptors;
pub mod dns;
pub mod engine;
mod informer;
pub mod kubelet;
mod link_addresses;
pub mod membership;
#[cfg(test)]
mod named_skip;
#[cfg(test)]
mod network_lab;
mod nfnetlink;
mod nft;
pub mod node;
mod node_routes;
mod pin;
pub mod policies;
mod root_socket;
#[cfg(test)]
mod script_file;
#[cfg(test)]
mod scripted_api;
mod service_watch;
pub mod services;
mod system_bus;

/// For a program that is going to be an agent or an API server: it lives long and mostly waits.
pub use engine::pods_changed;
pub use knarr_sys::memory::{give_back, let_go_of_program, limit_arenas, map_program_by_pages};

/// The traits that the engine offers, for those who drive it (`knarr run` does).
pub use knarr_cri as cri;

//! The Container Runtime Interface, version 1: the messages, and the traits both halves of the agent meet at.
//!
//! The engine implements [`RuntimeService`] and [`ImageService`]; the kubelet half calls them and knows nothing
//! else about the engine. [`client::connect`] gives the same traits over a unix socket, so our kubelet runs on
//! containerd; [`server::serve`] offers any implementation on one, so a foreign kubelet or crictl drives our
//! engine. Errors are gRPC statuses everywhere, because their codes (NotFound, DeadlineExceeded, ...) are part of
//! the contract.

pub mod any_authority;
pub mod client;
mod deadlines;
pub mod server;
mod service;

/// Messages of package `runtime.v1`, generated from `proto/api.proto`.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::unwrap_used
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// Messages of package `v1beta1`, the device plugin protocol, generated from `proto/deviceplugin.proto`.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::unwrap_used
)]
pub mod device_plugin {
    tonic::include_proto!("v1beta1");
}

/// Messages of package `pluginregistration`, by which plugins of any kind register.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::unwrap_used
)]
pub mod plugin_registration {
    tonic::include_proto!("pluginregistration");
}

/// Messages of package `csi.v1`: storage drivers, as far as a node talks to them.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::unwrap_used
)]
pub mod csi {
    tonic::include_proto!("csi.v1");
}

/// Messages of package `v1`, by which a node tells what containers have for themselves, from `proto/podresources.proto`.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::unwrap_used
)]
pub mod pod_resources {
    tonic::include_proto!("v1");
}

pub use service::{ImageService, MessageStream, RuntimeService};
pub use tonic::{Code, Status};

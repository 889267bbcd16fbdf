//! A small Kubernetes-compatible control plane: API server, store, scheduler and controllers in one process.
//!
//! The way of a request: `server` (TLS, authentication, authorization, content negotiation) finds the row of the
//! resource in `registry`, a generic verb runs the row's strategy around one change of the `store`, the store's
//! writer makes it durable and publishes it to every watcher. `scheduler` and `controllers` are clients like any other.

pub(crate) mod admission;
pub(crate) mod aggregation;
pub mod authn;
pub mod authz;
pub mod backup;
mod certificates;
pub(crate) mod client;
pub mod control_plane;
pub mod controllers;
mod cron_schedule;
pub mod discovery;
pub(crate) mod expressions;
mod extensions;
pub mod openapi;
pub mod pki;
pub mod protobuf;
pub(crate) mod quota;
pub(crate) mod random;
pub mod registry;
mod scheduler;
pub mod schema;
pub(crate) mod server;
mod service_target;
pub mod store;
mod webhook;

pub use control_plane::{ControlPlane, Options};
pub use scheduler::Packing;
pub use server::audit::{AuditOptions, Rotation};
pub use store::EtcdTls;

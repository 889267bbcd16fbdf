//! The store against real registries, real peers and the real kernel: one binary, one file per subject.

// Clippy knows that unwrap is fine in test functions, but not in what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "store/archives.rs"]
mod archives;
#[path = "store/chunks.rs"]
mod chunks;
#[path = "store/concurrency.rs"]
mod concurrency;
#[path = "store/crash.rs"]
mod crash;
#[path = "store/credentials.rs"]
mod credentials;
#[path = "store/disk_full.rs"]
mod disk_full;
#[path = "store/eventually.rs"]
mod eventually;
#[path = "store/fake_registry.rs"]
mod fake_registry;
#[path = "store/fidelity.rs"]
mod fidelity;
#[path = "store/hostile_images.rs"]
mod hostile_images;
#[path = "store/hostile_registry.rs"]
mod hostile_registry;
#[path = "store/lab.rs"]
mod lab;
#[path = "store/layer_mounts.rs"]
mod layer_mounts;
#[path = "store/memory.rs"]
mod memory;
#[path = "store/mirrors.rs"]
mod mirrors;
#[path = "store/peers.rs"]
mod peers;
#[path = "store/policy.rs"]
mod policy;
#[path = "store/policy_keyless.rs"]
mod policy_keyless;
#[path = "store/power_cut.rs"]
mod power_cut;
#[path = "store/proxies.rs"]
mod proxies;
#[path = "store/registry_log.rs"]
mod registry_log;
#[path = "store/round_trip.rs"]
mod round_trip;
#[path = "store/tls.rs"]
mod tls;

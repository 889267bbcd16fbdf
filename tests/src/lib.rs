//! The lab in which end-to-end tests run: binaries under test, bundles, registries, clusters, and waiting.
//!
//! Nothing here links the product: tests write raw JSON and YAML and run the binaries, so that a bug cannot hide by
//! being on both sides. The one exception is `knarr-cri`, for CRI's messages as its `.proto` file defines them.

// All of this crate is test code: a failed expectation ends the test that made it.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

pub mod agent;
pub mod bins;
pub mod bundle;
pub mod caller;
pub mod census;
pub mod cluster;
pub mod cri_client;
pub mod criu;
pub mod effort;
pub mod engine;
pub mod eventually;
pub mod failure;
pub mod foreign_images;
pub mod free_port;
pub mod git_server;
pub mod handover;
pub mod image_lab;
pub mod oracle;
pub mod registry;
pub mod run_lab;
pub mod server;
pub mod skip;
pub mod uplink;
pub mod web_server;

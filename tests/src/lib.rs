//! The lab in which end-to-end tests run: binaries under test, bundles, registries, clusters, and waiting.
//!
//! Nothing here links the product: tests write raw JSON and YAML and run the binaries, so that a bug cannot hide by
//! being on both sides.

// All of this crate is test code: a failed expectation ends the test that made it.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

pub mod bins;
pub mod bundle;
pub mod caller;
pub mod cluster;
pub mod effort;
pub mod eventually;
pub mod image_lab;
pub mod oracle;
pub mod server;
pub mod skip;

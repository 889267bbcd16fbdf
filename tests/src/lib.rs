//! The lab in which end-to-end tests run: binaries under test, bundles, registries, clusters, and waiting.
//!
//! Nothing here links the product: tests write raw JSON and YAML and run the binaries, so that a bug cannot hide by
//! being on both sides.

pub mod eventually;
pub mod skip;

//! The store against real registries, real peers and the real kernel: one binary, one file per subject.

// Clippy knows that unwrap is fine in test functions, but not in what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "store/lab.rs"]
mod lab;
#[path = "store/round_trip.rs"]
mod round_trip;

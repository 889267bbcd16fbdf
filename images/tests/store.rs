//! The store against real registries, real peers and the real kernel: one binary, one file per subject.

#[path = "store/lab.rs"]
mod lab;
#[path = "store/round_trip.rs"]
mod round_trip;

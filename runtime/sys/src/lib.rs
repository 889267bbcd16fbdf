//! Every raw system call knarr makes, one file per family, behind functions that are safe to call.
//!
//! This is the only crate that may hold `unsafe`; each block proves why it is sound. Errors read like a line of
//! strace: the call, its arguments, the errno.

pub mod bpf;
pub mod clone;
pub mod error;
pub mod fork;
pub mod keyring;
pub mod loop_device;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod sched;
pub mod seccomp;
mod single_pages;
pub mod writeback;

pub use error::{Error, Result};

//! Checkpoint and restore: criu(8) freezes a container into files and makes it again from them.
//!
//! criu is run as a worker (`criu swrk FD`) and spoken to over a socket in protocol buffers: `message` is that language,
//! `options` decides what is asked for, `places` knows where mounts are, `readers` who must
//! be able to read the images, `service` runs the worker and answers what it says on the way. The worker is never a part of
//! us: a host without criu can do everything else.

pub(crate) mod message;
pub(crate) mod options;
pub(crate) mod places;
pub(crate) mod readers;
pub(crate) mod service;

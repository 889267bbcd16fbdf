//! What the monitor and the engine say to each other.
//!
//! A monitor is one small process per pod (`knarr-monitor`, this crate's binary). It is the parent of every process
//! of its pod: it runs the OCI runtime's `create` and `exec` as its children and is their subreaper, so it sees every
//! exit, holds every stdio and outlives the engine. The engine finds it again by the socket in its directory:
//!
//! ```text
//! STATE_DIR/pods/SANDBOX/monitor.sock    one request per connection (see protocol)
//!                        monitor.lock    held (flock) by the living monitor, with its pid
//!                        monitor.log     what went wrong in the monitor itself
//!                        exits/ID.json   how a container ended; written before anyone is told
//!                        containers/     notes for the next monitor, should this one be killed
//!                        calls/          files of runtime calls in flight
//! ```

pub mod attach_frame;
pub mod cgroup_mounts;
pub mod exit_file;
pub mod protocol;

//! An OCI container runtime in the slot of runc: parse `config.json`, plan every kernel operation, then act.
//!
//! How a container comes to be, and where each part is:
//!
//! 1. `cli` reads the command line as runc does; `sealed_exe` makes sure the container can never write to us.
//! 2. `spec` is `config.json` as plain data.
//! 3. `plan` decides everything: the list of kernel operations, in order, each with its reason. It touches nothing.
//! 4. `container` takes the name: a directory with the record of the container.
//! 5. `bootstrap::runtime` performs the runtime's steps: `cgroups`, `id_map`, `hooks`, `rlimits`, and one `clone3`.
//! 6. `bootstrap::init`, the clone, performs its own: it leaves the host (`rootfs`, `mounts`, `devices`,
//!    `masked_paths`, `terminal`), gives up its rights (`capabilities`, `user`, `seccomp`) and becomes the program.
//! 7. `start` opens the gate at which the program waits; `exec`, `kill`, `delete`, `state` work from the record.

pub mod dbus;
pub mod slice;
pub mod spec;
pub mod state;

mod activation;
mod bootstrap;
mod capabilities;
mod cgroups;
mod cli;
mod container;
mod criu;
mod devices;
mod error;
mod hooks;
mod id_map;
mod intel_rdt;
mod kernel_file;
mod log;
mod masked_paths;
mod mounts;
mod net_devices;
mod netlink;
mod notify_socket;
mod plan;
mod processes;
mod program;
mod rlimits;
mod rootfs;
mod safe_path;
mod scheduling;
mod sealed_exe;
mod seccomp;
mod security_label;
mod signals;
mod socket;
mod sysctl;
mod systemd;
mod terminal;
mod timeline;
mod user;

pub use cli::main;

//! How one process becomes two, and the second one becomes the container's program.
//!
//! ```text
//!   runtime                                    init (a copy of the runtime, never executed again)
//!   ------------------------------------       ---------------------------------------------------
//!   create cgroups, limits, prepare trees
//!   clone3 ------------------------------->    cgroups (v1), namespaces, session, keyring
//!   id maps, network devices
//!   (where needed) Release ---- Released ->    root, mounts, devices
//!   hooks prestart, createRuntime  <-------    WantHooks
//!           ------------- HooksDone ------>    createContainer hooks, pivot_root, masks, user, seccomp
//!   send the notify fd  <------ Listener --
//!           ------------- Sent ----------->
//!   state file, pid file  <------- Ready --
//!   (run) --------------- Go ------------->    startContainer hooks, execve; the channel closes: success
//!   (create) exits                             (create) waits on exec.fifo until `start`
//! ```
//!
//! `exec` is the same with fewer steps: its init joins what the container's has.
//!
//! Anything that fails on the right sends Failed with the whole error; if init dies without a word, the channel ends.

pub(crate) mod channel;
pub(crate) mod init;
pub(crate) mod runtime;
pub(crate) mod stage;

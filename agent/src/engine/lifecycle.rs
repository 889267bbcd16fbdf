//! The life of sandboxes and containers: set up, end, tear down. RPCs, recovery and `knarr down` all go through here,
//! so there is one order of steps and one way back.
//!
//! ```text
//! sandbox    Starting --set_up--> Ready --stop--> Stopped --remove--> gone
//! container  CREATED --start--> RUNNING --exit--> EXITED --remove--> gone
//! ```
//!
//! A failed set-up is undone by the same teardown that a removal runs: every step of it is idempotent and accepts
//! that its counterpart never happened.

pub(crate) mod containers;
pub(crate) mod exits;
pub(crate) mod gates;
pub(crate) mod leftovers;
pub(crate) mod sandboxes;

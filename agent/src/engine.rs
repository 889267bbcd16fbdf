//! The engine: pods and containers behind the Container Runtime Interface.

pub mod monitors;
pub mod network;
pub mod stream_target;

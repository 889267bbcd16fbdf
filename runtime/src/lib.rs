//! An OCI container runtime in the slot of runc: parse `config.json`, plan every kernel operation, then act.

pub mod spec;
pub mod state;

//! Kubernetes object metadata, quantities, selectors, patches, kubeconfigs and the correlation of events; no IO.
//!
//! Objects are `serde_json::Value`s: what a client sent survives, whether or not this version knows the field. The
//! modules here are functions over such values; what is particular about a kind comes from outside (a schema, a
//! strategy).

pub mod event_correlation;
pub mod field_selector;
mod json_kind;
pub mod kubeconfig;
pub mod label_selector;
pub mod meta;
pub mod names;
pub mod patch;
pub mod quantity;
pub mod status;

pub use field_selector::FieldSelector;
pub use json_kind::json_kind;
pub use kubeconfig::Kubeconfig;
pub use label_selector::LabelSelector;
pub use status::{Status, StatusCause};

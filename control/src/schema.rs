//! What the objects of every served kind look like: the one source for checking request bodies, merging patches,
//! reading protobuf and publishing OpenAPI documents.
//!
//! Types, field names and descriptions come from the generated Rust types of the Kubernetes API (`kinds.rs`), what those
//! lack (field numbers, merge keys, list types) from a table of facts (`facts.txt`). Schemas are made the first time a
//! kind is used and kept in a compact form without descriptions; the documents for people are made on demand.

pub mod decode;
pub mod duplicates;
mod facts;
pub(crate) mod go_types;
pub(crate) mod kinds;
pub mod patch;
pub(crate) mod structural;
pub(crate) mod types;

pub use decode::{DecodeError, Decoded, Strictness, decode, decode_custom};
pub use duplicates::{Written, duplicate_fields};
pub use patch::patch_schema;

pub(crate) use facts::{Fact, fact, is_atomic, sibling as embedded, wire_layout};

/// Whether Kubernetes has such a kind, as far as this server knows.
pub(crate) fn is_known(group: &str, version: &str, kind: &str) -> bool {
    kinds::find(group, version, kind).is_some()
}
